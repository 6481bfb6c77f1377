// SPDX-License-Identifier: MIT
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace spillway::process {

Result<bool> die_with_parent(pid_t parent) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
    return Failure::last("prctl(PR_SET_PDEATHSIG)");
  // A parent that went before the line above sends no signal any more.
  if (::getppid() == parent)
    return true;
  // Whoever has adopted this process is nobody to die with.
  if (::prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0)
    return Failure::last("prctl(PR_SET_PDEATHSIG)");
  return false;
}

Result<bool> lock_file(int fd) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0)
    return true;
  if (errno == EWOULDBLOCK)
    return false;
  return Failure::last("flock");
}

} // namespace spillway::process
