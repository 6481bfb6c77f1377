// SPDX-License-Identifier: MIT
//
// The slice of a thread: the time that the scheduler gives it before others of equal rank have their turn,
// and by which it sorts who has been woken. Whoever has a long one has as much of a processor as before, and
// lets those with shorter ones go first when they wake up (sched_setattr(2), sched_runtime; since
// Linux 6.12).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "result.h"

namespace spillway::slice {

struct Slice {
  std::uint64_t nanoseconds;
  bool inherited; // by the threads and processes that the thread makes
};

// Nothing where the kernel has no slices, the thread is scheduled another way, or its priority is raised: a
// slice that is not inherited would take that from its children as well. A process stands for its first
// thread.
Result<std::optional<Slice>> read(pid_t thread);

// From 0.1 to 100 ms; the kernel takes the nearest. That it is inherited again takes CAP_SYS_NICE; without it
// the rest is set all the same.
Result<> set(pid_t thread, Slice slice);

} // namespace spillway::slice
