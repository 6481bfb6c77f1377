// SPDX-License-Identifier: MIT
//
// What the benchmark's programs ask of the machine they run on: a processor, precedence, descriptors, an end
// with whoever started them.
#pragma once

#include <cstdint>
#include <ctime>

#include "../../native/result.h"

namespace bench {

using spillway::Done;
using spillway::Failure;
using spillway::Result;

constexpr std::int64_t kMicrosecond = 1'000;
constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

inline std::int64_t read_clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

// Nanoseconds of CLOCK_MONOTONIC, the clock of Node's process.hrtime().
inline std::int64_t monotonic() { return read_clock(CLOCK_MONOTONIC); }

// A span for ppoll(2) and epoll_pwait2(2); a negative one is none.
inline timespec to_timespec(std::int64_t nanoseconds) {
  if (nanoseconds < 0)
    nanoseconds = 0;
  return {static_cast<time_t>(nanoseconds / kSecond), static_cast<long>(nanoseconds % kSecond)};
}

// The kernel kills this process when its parent ends. False when the parent is not `parent` any more.
bool die_with_parent(int parent);

Result<> bind_to_processor(int cpu);

// How the process comes before others on its processor. The numbers are those of generator.ts.
enum class Precedence : std::uint8_t {
  kNone = 0,
  kNice = 1,     // first among the processes that share in turn
  kRealTime = 2, // SCHED_FIFO: preempts everything that is not real time, and is woken without timer slack
};

// Takes SCHED_FIFO with this priority, or else the lowest nice value; what the machine allows.
Precedence take_real_time(int priority);
Precedence take_nice();

// The soft limit of open descriptors becomes the hard one; returns it.
std::uint64_t raise_descriptor_limit();

// What is in memory now stays there, and so does everything else once it has been touched. No privilege, no
// difference.
void stay_in_memory();

// Enters the network namespace that a file such as /proc/PID/ns/net stands for. Needs CAP_SYS_ADMIN.
Result<> enter_network(const char *path);

// Reports a failure on stderr with the program's name in front, and ends with 1.
[[noreturn]] void give_up(const Failure &failure);

} // namespace bench
