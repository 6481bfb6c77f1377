// SPDX-License-Identifier: MIT
//
// What a master sends to a free worker: a listener of the same port whose own worker does not come, to take
// waiting connections from. One message on a Unix socket that keeps messages apart, with the listener's
// descriptor (SCM_RIGHTS in unix(7)). No N-API, no policy.
//
// A connection is in the kernel's queue, or accepted by who is going to serve it: whoever ends in between,
// none is in nobody's hands.
#pragma once

#include <cstdint>

#include "result.h"
#include "unique_fd.h"

namespace spillway::help {

struct Order {
  std::uint32_t port; // the master's number for it
  std::uint32_t most; // connections to be taken at most
  std::uint64_t sent; // nanoseconds of CLOCK_MONOTONIC
};
static_assert(sizeof(Order) == 16, "the order is sent as it is");

struct Pair {
  UniqueFd master;
  UniqueFd worker;
};

// Both ends close-on-exec and non-blocking.
Result<Pair> open();

// Never waits: EAGAIN when the worker has not read what it was sent before, some twenty orders.
Result<> send(int channel, const Order &order, int listener);

struct Received {
  bool any = false;
  Order order{};
  UniqueFd listener; // invalid when there was no room for it in this process
};

// The next order, if there is any. The other end's close is an order that never comes: ECONNRESET.
Result<Received> receive(int channel);

} // namespace spillway::help
