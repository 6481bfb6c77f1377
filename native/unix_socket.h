// SPDX-License-Identifier: MIT
//
// Unix sockets between a master, its workers and the service manager: credentials, descriptors, one question
// and its answer, one notice. No N-API, no policy.
//
// A path is a file's, or `@` and the name of an abstract address (unix(7)). One that does not fit into an
// address fails with ENAMETOOLONG, an empty one with EINVAL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "result.h"
#include "unique_fd.h"

namespace spillway::unix_socket {

struct Credentials {
  pid_t pid; // 0 when the other end is not visible in this process id namespace
  uid_t uid;
  gid_t gid;
};

struct Reply {
  std::vector<std::uint8_t> bytes;
  UniqueFd fd; // close-on-exec; invalid when none came with the reply
};

// Bytes that send_with_descriptors() takes at most: fits into every default send buffer
// (net.core.wmem_default).
constexpr std::size_t longest_message = 65536;
// No process: exchange() speaks to whoever answers.
constexpr pid_t anybody = 0;

// Bytes that exchange() takes as a reply at most.
constexpr std::size_t longest_reply = 1048576;

// Who called connect(), or listen(), at the other end, as of that time (SO_PEERCRED).
Result<Credentials> peer_credentials(int fd);

// Descriptors that go with a message at most.
constexpr std::size_t most_descriptors = 3;

// Sends the message as a whole on a connected stream socket, with copies of so many descriptors. Never waits:
// EAGAIN when the other end does not read. Where that is found out in the middle of a message, with `detail`,
// the connection can be used no more. EMSGSIZE for a message that is too long; EINVAL for an empty one, with
// which no descriptor can travel.
Result<> send_with_descriptors(int fd, const void *message, std::size_t size, const int *descriptors,
                               std::size_t count);

// Connects, sends, ends its own sending side, and takes what comes until the other end closes, together in at
// most `timeout` milliseconds: ETIMEDOUT. Of the descriptors that come the first is kept and the others are
// closed; EMFILE when there is no room for one. EMSGSIZE for a reply that is too long, ECONNRESET when the
// other end goes without having read the request.
//
// Nothing is sent to another process than `peer`, the one that called listen(): EPERM. Its id counts in the
// process id namespace of the caller, so `peer` has to be visible there; one that is not has the id 0.
Result<Reply> exchange(const std::string &path, const void *request, std::size_t size, std::int64_t timeout,
                       pid_t peer = anybody);

// Sends one datagram, with a copy of `descriptor` unless that is negative. Waits a second at most for a
// receiver whose queue is full: EAGAIN.
Result<> notify(const std::string &path, const std::string &text, int descriptor = -1);

} // namespace spillway::unix_socket
