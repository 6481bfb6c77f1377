// SPDX-License-Identifier: MIT
#include "machine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../native/unique_fd.h"

namespace bench {

bool die_with_parent(int parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have gone before the wish was told.
  return getppid() == parent;
}

Result<> bind_to_processor(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    Failure failure = Failure::last("sched_setaffinity");
    failure.detail = "processor " + std::to_string(cpu);
    return failure;
  }
  return Done{};
}

Precedence take_real_time(int priority) {
  sched_param parameters{};
  parameters.sched_priority = priority;
  return sched_setscheduler(0, SCHED_FIFO, &parameters) == 0 ? Precedence::kRealTime : take_nice();
}

Precedence take_nice() {
  // Without real-time priority a timer may be late by this many nanoseconds; the default is 50,000.
  prctl(PR_SET_TIMERSLACK, 1UL);
  return setpriority(PRIO_PROCESS, 0, -20) == 0 ? Precedence::kNice : Precedence::kNone;
}

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

void stay_in_memory() { mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT); }

Result<> enter_network(const char *path) {
  spillway::UniqueFd network(open(path, O_RDONLY | O_CLOEXEC));
  if (!network.valid()) {
    Failure failure = Failure::last("open");
    failure.detail = path;
    return failure;
  }
  if (setns(network.get(), CLONE_NEWNET) != 0) {
    Failure failure = Failure::last("setns");
    failure.detail = path;
    return failure;
  }
  return Done{};
}

void give_up(const Failure &failure) {
  std::fprintf(stderr, "%s: %s", program_invocation_short_name, failure.syscall);
  if (!failure.detail.empty())
    std::fprintf(stderr, " (%s)", failure.detail.c_str());
  if (failure.error != 0)
    std::fprintf(stderr, ": %s", std::strerror(failure.error));
  std::fputc('\n', stderr);
  std::exit(EXIT_FAILURE);
}

} // namespace bench
