// SPDX-License-Identifier: MIT
#include "process_binding.h"

#include <vector>

#include "affinity.h"
#include "arguments.h"
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
  auto parent = info[0].As<Napi::Number>().Int32Value();
  auto signal = info[1].As<Napi::Number>().Int32Value();
  return boolean_of(info.Env(), process::die_with_parent(parent, signal));
}

Napi::Value lock_file(const Napi::CallbackInfo &info) {
  return boolean_of(info.Env(), process::lock_file(info[0].As<Napi::Number>().Int32Value()));
}

Napi::Value become(const Napi::CallbackInfo &info) {
  auto given = info[1].As<Napi::Array>();
  std::vector<std::string> arguments;
  for (std::uint32_t index = 0; index < given.Length(); index++)
    arguments.push_back(Napi::Value(given[index]).As<Napi::String>().Utf8Value());
  auto numbers = info[2].As<Napi::Int32Array>();
  std::vector<int> kept(numbers.Data(), numbers.Data() + numbers.ElementLength());
  throw_failure(info.Env(), process::become(text(info, 0), arguments, kept));
  return info.Env().Undefined();
}

Napi::Value create_memory(const Napi::CallbackInfo &info) {
  auto memory = process::create_memory(text(info, 0));
  if (memory.ok())
    return Napi::Number::New(info.Env(), memory.value().release());
  throw_failure(info.Env(), memory.failure());
  return info.Env().Undefined();
}

Napi::Value set_affinity(const Napi::CallbackInfo &info) {
  auto given = info[1].As<Napi::Int32Array>();
  std::vector<int> cpus(given.Data(), given.Data() + given.ElementLength());
  return done(info.Env(), affinity::set_process(info[0].As<Napi::Number>().Int32Value(), cpus));
}

Napi::Value allowed_cpus(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto cpus = affinity::allowed();
  if (!cpus.ok()) {
    throw_failure(env, cpus.failure());
    return env.Undefined();
  }
  auto list = Napi::Array::New(env, cpus.value().size());
  for (std::uint32_t index = 0; index < cpus.value().size(); index++)
    list[index] = Napi::Number::New(env, cpus.value()[index]);
  return list;
}

} // namespace spillway
