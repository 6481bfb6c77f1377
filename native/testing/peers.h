// SPDX-License-Identifier: MIT
//
// Both ends of test connections: clients that connect in a row, listeners that are not the group's, and what
// can be said through a connected socket. Nothing here blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../result.h"
#include "../unique_fd.h"

namespace spillway::testing {

struct Target {
  std::string address; // numeric
  int port;
  int family; // AF_INET or AF_INET6
};

struct Client {
  UniqueFd fd;
  std::string state;
};

struct ListenerOptions {
  Target target;
  bool tcp = true;
  bool reuse_port = false;
  int backlog = -1; // below 0: the socket does not listen
  int uid = -1;     // the user the socket belongs to; below 0: the caller
};

struct Received {
  std::string text;
  bool ended = false; // the peer will send no more
  std::string error;  // name of the error the socket is left with, or nothing
};

// Starts `count` connections one right after the other.
Result<std::vector<Client>> connect_many(const Target &target, std::size_t count);

// "established", "inProgress", "ended" (the peer sent its FIN), "closed", or the name of the error that ended
// the connection, such as "ECONNREFUSED". An error is told once: asking takes it off the socket.
std::string state_of(int fd);

// How many segments the socket had to send again, its SYN included.
Result<std::uint32_t> retransmissions(int fd);

// Closes with an RST instead of a FIN, so that no TIME-WAIT holds the port.
void close_with_reset(int fd);

// Nanoseconds for `count` times connecting and closing with an RST.
Result<std::int64_t> time_connections(const Target &target, std::size_t count);

// A socket that is bound and, if asked for, listens.
Result<UniqueFd> open_listener(const ListenerOptions &options);

// At most `most` queued connections, taken without waiting for more.
Result<std::vector<UniqueFd>> accept_many(int listener, std::size_t most);

// Attaches a BPF program that does nothing to the listener's reuseport group: the kernel's own hash chooses,
// as without one. What the kernel accounts for its runs (/proc/self/fdinfo of the descriptor) is the price of
// the accounting. Needs CAP_BPF and, for the accounting to be on, somebody who has turned it on.
Result<UniqueFd> attach_empty_program(int listener);

Result<> send_text(int fd, const std::string &text);

// What has arrived by now.
Received receive_text(int fd);

} // namespace spillway::testing
