// SPDX-License-Identifier: MIT
#include "errors.h"

#include <cstring>

namespace spillway {

std::string error_name(int error) {
  constexpr int kernel_enotsupp = 524;
  if (error == kernel_enotsupp)
    return "ENOTSUPP";
  const char *name = strerrorname_np(error);
  return name ? name : "ERRNO_" + std::to_string(error);
}

void throw_failure(Napi::Env env, const Failure &failure) {
  std::string code = error_name(failure.error);
  const char *text = strerrordesc_np(failure.error);
  auto error = Napi::Error::New(env, code + ": " + (text ? text : "unknown error") + ", " + failure.syscall);
  error.Set("code", code);
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("syscall", failure.syscall);
  if (!failure.detail.empty())
    error.Set("detail", failure.detail);
  error.ThrowAsJavaScriptException();
}

Napi::Value done(Napi::Env env, Result<> result) {
  if (!result.ok())
    throw_failure(env, result.failure());
  return env.Undefined();
}

} // namespace spillway
