// SPDX-License-Identifier: MIT
//
// Descriptors that travel with a message of a Unix socket (unix(7), SCM_RIGHTS). No N-API, no policy.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <vector>

#include "unique_fd.h"

namespace spillway::rights {

// The most that one message can carry (SCM_MAX_FD in include/net/scm.h).
constexpr std::size_t most = 253;

// Has `message` carry copies of so many descriptors, more than none. Its `msg_control` has room for
// CMSG_SPACE(count * sizeof(int)) bytes, all zero.
void put(msghdr &message, const int *descriptors, std::size_t count);

// Every descriptor that came with a message, so that none can be left open by chance.
std::vector<UniqueFd> take(const msghdr &message);

} // namespace spillway::rights
