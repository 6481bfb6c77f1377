// SPDX-License-Identifier: MIT
//
// On which processors a process may run (sched_setaffinity(2)). No N-API, no policy.
#pragma once

#include <sys/types.h>

#include <vector>

#include "result.h"

namespace spillway::affinity {

// More than any kernel is built for (CONFIG_NR_CPUS).
constexpr int most_cpus = 8192;

// Of one thread; 0 for the one that calls.
Result<> set_thread(pid_t thread, const std::vector<int> &cpus);
// Of all threads of a process, also of those that start meanwhile: they have it from the one that starts
// them. EINVAL when none of the processors is there.
Result<> set_process(pid_t process, const std::vector<int> &cpus);
// Where the calling process may run: also those that are offline now, unless it is bound.
Result<std::vector<int>> allowed();

} // namespace spillway::affinity
