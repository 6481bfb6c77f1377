// SPDX-License-Identifier: MIT
#include "affinity.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>

namespace spillway::affinity {
namespace {

struct FreeSet {
  void operator()(cpu_set_t *set) const { CPU_FREE(set); }
};
using Set = std::unique_ptr<cpu_set_t, FreeSet>;

struct CloseFolder {
  void operator()(DIR *folder) const { ::closedir(folder); }
};

// ENOENT: the process has gone.
Result<std::set<pid_t>> threads_of(pid_t process) {
  std::string path = "/proc/" + std::to_string(process) + "/task";
  std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  if (!folder)
    return Failure::last("opendir");
  std::set<pid_t> threads;
  while (dirent *entry = ::readdir(folder.get()))
    if (pid_t thread = std::atoi(entry->d_name); thread > 0)
      threads.insert(thread);
  return threads;
}

} // namespace

Result<> set_thread(pid_t thread, const std::vector<int> &cpus) {
  Set set(CPU_ALLOC(most_cpus));
  std::size_t size = CPU_ALLOC_SIZE(most_cpus);
  if (!set)
    return Failure{ENOMEM, "CPU_ALLOC", {}};
  CPU_ZERO_S(size, set.get());
  for (int cpu : cpus)
    if (cpu >= 0 && cpu < most_cpus)
      CPU_SET_S(static_cast<std::size_t>(cpu), size, set.get());
  if (::sched_setaffinity(thread, size, set.get()) != 0)
    return Failure::last("sched_setaffinity");
  return Done{};
}

Result<> set_process(pid_t process, const std::vector<int> &cpus) {
  std::set<pid_t> done;
  // Until there is nobody new: who was started by a thread that had not been moved yet has not either.
  for (;;) {
    auto threads = threads_of(process);
    if (!threads.ok())
      return threads.failure();
    bool any = false;
    for (pid_t thread : threads.value()) {
      if (!done.insert(thread).second)
        continue;
      any = true;
      auto set = set_thread(thread, cpus);
      // It has ended meanwhile.
      if (!set.ok() && set.failure().error != ESRCH)
        return set;
    }
    if (!any)
      return Done{};
  }
}

Result<std::vector<int>> allowed() {
  Set set(CPU_ALLOC(most_cpus));
  std::size_t size = CPU_ALLOC_SIZE(most_cpus);
  if (!set)
    return Failure{ENOMEM, "CPU_ALLOC", {}};
  CPU_ZERO_S(size, set.get());
  if (::sched_getaffinity(0, size, set.get()) != 0)
    return Failure::last("sched_getaffinity");
  std::vector<int> cpus;
  for (int cpu = 0; cpu < most_cpus; cpu++)
    if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set.get()))
      cpus.push_back(cpu);
  return cpus;
}

} // namespace spillway::affinity
