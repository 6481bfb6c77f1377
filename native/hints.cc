// SPDX-License-Identifier: MIT
#include "hints.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U // Linux 6.3
#endif

namespace spillway::hints {
namespace {

// Bytes; where the machine's pages are larger, a whole one is mapped all the same.
constexpr std::size_t page_size = 4096;

// Since 6.3 the kernel may insist on being told that the memory is nothing to execute (sysctl
// vm.memfd_noexec); kernels before do not know the flag.
int open_memory() {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create("spillway-hints", flags | MFD_NOEXEC_SEAL);
  return fd < 0 && errno == EINVAL ? ::memfd_create("spillway-hints", flags) : fd;
}

} // namespace

std::uint64_t now() { return monotonic_nanoseconds() / 1000000; }

Result<Page> Page::map(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    return Failure::last("fstat");
  // What is no regular file, such as a BPF map, has no size here and checks the length by itself.
  if (S_ISREG(status.st_mode) && status.st_size < static_cast<off_t>(sizeof(Layout)))
    return Failure{EINVAL, "mmap", "the file is too short"};
  void *memory = ::mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED)
    return Failure::last("mmap");
  return Page(static_cast<Layout *>(memory));
}

Page::~Page() {
  if (layout_)
    ::munmap(layout_, page_size);
}

Result<UniqueFd> create() {
  UniqueFd fd(open_memory());
  if (!fd.valid())
    return Failure::last("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(page_size)) != 0)
    return Failure::last("ftruncate");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Failure::last("fcntl(F_ADD_SEALS)");
  return fd;
}

} // namespace spillway::hints
