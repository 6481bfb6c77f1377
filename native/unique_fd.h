// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

namespace spillway {

// Owns one file descriptor; 0 is a valid one. Moving hands the ownership over, release() gives it to the
// caller.
class UniqueFd {
public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd &&other) noexcept : fd_(other.release()) {}
  UniqueFd &operator=(UniqueFd &&other) noexcept {
    if (this != &other)
      reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd &) = delete;
  UniqueFd &operator=(const UniqueFd &) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

  // The number is forgotten before it is closed: the kernel may give it to somebody else at once.
  void reset(int fd = -1) {
    int old = fd_;
    fd_ = fd;
    if (old >= 0)
      ::close(old);
  }

private:
  int fd_ = -1;
};

} // namespace spillway
