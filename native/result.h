// SPDX-License-Identifier: MIT
//
// How the core reports that the system said no: without exceptions, with the error number saved before any
// clean-up.
#pragma once

#include <cerrno>
#include <string>
#include <utility>
#include <variant>

namespace spillway {

struct Failure {
  int error;           // errno
  const char *syscall; // what was called, for people: "bind", "setsockopt(SO_REUSEPORT)"
  std::string detail;  // what more is known, for example the verifier's log; may be empty

  static Failure last(const char *syscall) { return Failure{errno, syscall, {}}; }
};

struct Done {};

// Either a value or the failure; `ok()` must be asked before `value()` or `failure()`.
template <typename T = Done> class Result {
public:
  Result(T value) : content_(std::move(value)) {}
  Result(Failure failure) : content_(std::move(failure)) {}

  bool ok() const { return std::holds_alternative<T>(content_); }
  T &value() { return std::get<T>(content_); }
  const Failure &failure() const { return std::get<Failure>(content_); }

private:
  std::variant<T, Failure> content_;
};

} // namespace spillway
