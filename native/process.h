// SPDX-License-Identifier: MIT
//
// What a process asks the kernel for about itself. No N-API, no policy.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "result.h"
#include "unique_fd.h"

namespace spillway::process {

// From here on the kernel kills this process when its parent ends; false when the parent is not `parent`,
// which also stands for one that has already gone. What ends is, to be exact, the parent's thread that made
// this process, and the wish is lost with the thread that calls this (prctl(2), PR_SET_PDEATHSIG).
//
// For a worker SIGKILL and not SIGTERM: its master has gone without closing. Nobody is left to enforce a
// drain's time limit then, and a worker that ignores SIGTERM, or is stuck, would hold the port and take
// connections that nobody watches over.
Result<bool> die_with_parent(pid_t parent, int signal);

// Takes the exclusive lock of an open file (flock(2)); false when another open file description of it has the
// lock. Never waits. The kernel takes it back when the last copy of this descriptor is closed, which is at
// the latest the end of this process, as long as the descriptor is close-on-exec.
Result<bool> lock_file(int fd);

// Becomes another program, under the same process id (execv(3)): returns only when that fails. The standard
// streams stay open, and these descriptors.
Failure become(const std::string &program, const std::vector<std::string> &arguments,
               const std::vector<int> &kept);

// An empty file in memory, close-on-exec (memfd_create(2)).
Result<UniqueFd> create_memory(const std::string &name);

} // namespace spillway::process
