// SPDX-License-Identifier: MIT
#include "process_binding.h"

#include "errors.h"
#include "process.h"

namespace spillway {

Napi::Value die_with_parent(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto asked = process::die_with_parent(info[0].As<Napi::Number>().Int32Value());
  if (asked.ok())
    return Napi::Boolean::New(env, asked.value());
  throw_failure(env, asked.failure());
  return env.Undefined();
}

} // namespace spillway
