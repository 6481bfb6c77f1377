// SPDX-License-Identifier: MIT
//
// What a master sends to a worker, with descriptors (SCM_RIGHTS in unix(7)), each as one message on a Unix
// socket that keeps messages apart. To one that is free a listener of the same port whose own worker does not
// come, to take waiting connections from. To any the listener whose queue is the waiting list of a port, and
// the two ends of the socket by which it claims places (claims.h). No N-API, no policy.
//
// A connection is in the kernel's queue, or accepted by who is going to serve it: whoever ends in between,
// none is in nobody's hands.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "result.h"
#include "unique_fd.h"

namespace spillway::help {

enum class Kind : std::uint32_t {
  help = 0, // with a listener
  // With the waiting list's listener, if there is one, and the two ends of a socket of claims, unless
  // connections are not kept count of.
  waiting_list = 1,
};

struct Order {
  Kind kind;
  std::uint32_t port; // the master's number for it
  std::uint32_t
      most; // connections to be taken at most, of those who help; otherwise how many descriptors come
  std::uint32_t spare = 0;
  std::uint64_t sent; // nanoseconds of CLOCK_MONOTONIC
};
static_assert(sizeof(Order) == 24, "the order is sent as it is");

constexpr std::size_t most_descriptors = 3;

struct Pair {
  UniqueFd master;
  UniqueFd worker;
};

// Both ends close-on-exec and non-blocking.
Result<Pair> open();

// Never waits: EAGAIN when the worker has not read what it was sent before, some twenty orders.
Result<> send(int channel, const Order &order, const std::vector<int> &descriptors);

struct Received {
  bool any = false;
  Order order{};
  // In the order in which they were sent; invalid where there was no room in this process.
  std::array<UniqueFd, most_descriptors> descriptors;
};

// The next order, if there is any. The other end's close is an order that never comes: ECONNRESET.
Result<Received> receive(int channel);

} // namespace spillway::help
