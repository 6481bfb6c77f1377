// SPDX-License-Identifier: MIT
//
// TCP listeners: create, bind, listen, inspect, duplicate, shut down. Plain system calls, no N-API, no
// policy.
#pragma once

#include <linux/filter.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "result.h"
#include "unique_fd.h"

namespace spillway {

struct Endpoint {
  std::string address; // numeric, IPv6 without brackets, with "%scope" where it has one
  int port = 0;
  int family = AF_INET;
};

// What kind of socket a descriptor is, asked before anything is done to it.
struct SocketKind {
  bool is_socket = false;
  int family = 0;   // SO_DOMAIN
  int type = 0;     // SO_TYPE
  int protocol = 0; // SO_PROTOCOL
  bool listening = false;
  bool reuse_port = false;
};

struct AcceptQueue {
  bool listening = false;
  std::uint32_t length = 0; // connections that wait to be accepted
  std::uint32_t limit = 0;  // the backlog in force; the queue holds one more
};

namespace socket {

// A non-blocking, close-on-exec TCP socket. `family` is AF_INET or AF_INET6.
Result<UniqueFd> create(int family);
// A close-on-exec duplicate; both names refer to one open socket.
Result<UniqueFd> duplicate(int fd);
Result<> bind(int fd, const Endpoint &endpoint);
// Called again on a listener it only changes the backlog; after shutdown() it brings the socket back to its
// port.
Result<> listen(int fd, int backlog);
// Stops listening, if it still does. The kernel moves the queue to the siblings when a program of the group
// lets it.
Result<> shutdown(int fd);
Result<Endpoint> local_endpoint(int fd);
SocketKind kind(int fd);
Result<std::uint64_t> cookie(int fd);

Result<int> get_int(int fd, int level, int name);
Result<> set_int(int fd, int level, int name, int value);
Result<std::string> get_text(int fd, int level, int name);
Result<> set_text(int fd, int level, int name, const std::string &value);

// TCP_INFO of a listener: tcpi_unacked is the queue's length, tcpi_sacked its limit (net/ipv4/tcp.c,
// tcp_get_info).
Result<AcceptQueue> accept_queue(int fd);
// SO_MEMINFO: what the kernel itself dropped at this listener, including what a socket filter discarded.
Result<std::uint32_t> drops(int fd);

// TCP_MD5SIG_EXT: peers within a prefix of this family must sign every segment with the key (RFC 2385). The
// kernel drops what is not signed, a SYN too, without an answer; connections that are there already are not
// affected. A socket of AF_INET6 takes IPv4 peers as a prefix of a mapped address, with the length that it
// has without the mapping. The key has 1 to 80 bytes. Needs no privilege, but a kernel with
// CONFIG_TCP_MD5SIG.
Result<> set_signature_key(int fd, const Endpoint &peers, int prefix_length,
                           const std::vector<std::uint8_t> &key);

// The next queued connection, close-on-exec and non-blocking; an invalid descriptor when nobody waits. A
// blocking listener is made non-blocking first, for all who hold it: another holder may take the connection
// that was seen.
Result<UniqueFd> accept(int fd);

// Milliseconds since data was sent on a connection or, before that, since its handshake (TCP_INFO,
// tcpi_last_data_sent).
Result<std::uint32_t> idle_since(int fd);
// Closes a connection by an RST (SO_LINGER in socket(7)).
void reset(UniqueFd fd);

// SO_ATTACH_REUSEPORT_CBPF for the whole group of `fd`; replaces whatever program it had. Needs no privilege.
Result<> attach_classic(int fd, std::vector<sock_filter> &program);
// Takes any program off the group of `fd`. A group without one is left as it is.
Result<> detach_program(int fd);

} // namespace socket
} // namespace spillway
