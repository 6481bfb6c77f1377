// SPDX-License-Identifier: MIT
#pragma once

#include <time.h>

#include <cstdint>

namespace spillway {

// Nanoseconds of CLOCK_MONOTONIC (clock_gettime(2)), which all processes of a machine share.
inline std::uint64_t monotonic_nanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1000000000 + static_cast<std::uint64_t>(time.tv_nsec);
}

} // namespace spillway
