// SPDX-License-Identifier: MIT
//
// Which TCP sockets the kernel has on an address, asked by sock_diag(7). Needs no privilege. No N-API, no
// policy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "result.h"
#include "socket.h"

namespace spillway::diag {

struct ListedSocket {
  std::uint32_t inode = 0; // 0 for a half-open connection, which has no file
  std::uint32_t uid = 0;   // of the owner; 0 for a half-open connection
  std::string peer;        // remote address and port the way /proc/net/tcp writes them
};

// The sockets whose local address and port are exactly the endpoint's, in the calling thread's network
// namespace, in the order of the kernel's hash chain, which is /proc/net/tcp's as well. A scope of the
// address does not count, and neither does a device that a socket is bound to. An empty address stands for
// all addresses of the family: a half-open request to a wildcard listener has the concrete one.
//
// `states` has a bit for every state wanted: 1 << TCP_LISTEN, 1 << TCP_SYN_RECV, which stands for half-open
// requests too. Listeners alone cost a walk over their own small table; any other state costs one over all
// connections of the machine, of which only those of the port leave the kernel.
//
// Fails with EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP or ENOENT where the kernel, or what confines the
// process, has no inet_diag.
Result<std::vector<ListedSocket>> sockets_at(const Endpoint &endpoint, std::uint32_t states);

} // namespace spillway::diag
