// SPDX-License-Identifier: MIT
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U // Linux 6.3
#endif

namespace spillway::process {

Result<bool> die_with_parent(pid_t parent, int signal) {
  if (::prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0)
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

Failure become(const std::string &program, const std::vector<std::string> &arguments,
               const std::vector<int> &kept) {
  // Node marks what it has inherited as close-on-exec, the standard streams too
  // (uv_disable_stdio_inheritance).
  std::vector<int> open{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  open.insert(open.end(), kept.begin(), kept.end());
  for (int fd : open)
    if (int flags = ::fcntl(fd, F_GETFD); flags >= 0)
      ::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
  std::vector<char *> list{const_cast<char *>(program.c_str())};
  for (const auto &argument : arguments)
    list.push_back(const_cast<char *>(argument.c_str()));
  list.push_back(nullptr);
  ::execv(program.c_str(), list.data());
  return Failure{errno, "execv", program};
}

// Since 6.3 the kernel may insist on being told that the memory is nothing to execute (sysctl
// vm.memfd_noexec); kernels before do not know the flag.
Result<UniqueFd> create_memory(const std::string &name) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_NOEXEC_SEAL));
  if (!fd.valid() && errno == EINVAL)
    fd.reset(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid())
    return Failure::last("memfd_create");
  return fd;
}

} // namespace spillway::process
