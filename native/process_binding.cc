// SPDX-License-Identifier: MIT
#include "process_binding.h"

#include "errors.h"
#include "process.h"

namespace spillway {

namespace {

Napi::Value boolean_of(Napi::Env env, Result<bool> result) {
  if (result.ok())
    return Napi::Boolean::New(env, result.value());
  throw_failure(env, result.failure());
  return env.Undefined();
}

} // namespace

Napi::Value die_with_parent(const Napi::CallbackInfo &info) {
  return boolean_of(info.Env(), process::die_with_parent(info[0].As<Napi::Number>().Int32Value()));
}

Napi::Value lock_file(const Napi::CallbackInfo &info) {
  return boolean_of(info.Env(), process::lock_file(info[0].As<Napi::Number>().Int32Value()));
}

} // namespace spillway
