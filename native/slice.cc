// SPDX-License-Identifier: MIT
#include "slice.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace spillway::slice {
namespace {

// struct sched_attr in its first version (SCHED_ATTR_SIZE_VER0). glibc 2.41 is the first to name it.
struct Attributes {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};
static_assert(sizeof(Attributes) == 48);

constexpr std::uint64_t reset_on_fork = 1; // SCHED_FLAG_RESET_ON_FORK

Result<Attributes> attributes_of(pid_t thread) {
  Attributes attributes{};
  if (::syscall(SYS_sched_getattr, thread, &attributes, sizeof(attributes), 0) != 0)
    return Failure::last("sched_getattr");
  return attributes;
}

} // namespace

Result<std::optional<Slice>> read(pid_t thread) {
  auto found = attributes_of(thread);
  if (!found.ok())
    return found.failure();
  auto &attributes = found.value();
  if (attributes.policy != SCHED_OTHER || attributes.runtime == 0 || attributes.nice < 0)
    return std::optional<Slice>();
  return std::optional<Slice>({attributes.runtime, (attributes.flags & reset_on_fork) == 0});
}

Result<> set(pid_t thread, Slice slice) {
  // The rest stays as it is.
  auto found = attributes_of(thread);
  if (!found.ok())
    return found.failure();
  auto &attributes = found.value();
  attributes.runtime = slice.nanoseconds;
  attributes.flags = slice.inherited ? 0 : reset_on_fork;
  if (::syscall(SYS_sched_setattr, thread, &attributes, 0) == 0)
    return Done{};
  if (errno == EPERM && slice.inherited)
    return set(thread, {slice.nanoseconds, false});
  return Failure::last("sched_setattr");
}

} // namespace spillway::slice
