// SPDX-License-Identifier: MIT
//
// Arguments of a binding's function, as the core takes them. The callers in TypeScript have checked them
// (lib/native.ts).
#pragma once

#include <napi.h>

#include <string>

namespace spillway {

inline int number(const Napi::CallbackInfo &info, std::size_t index) {
  return info[index].As<Napi::Number>().Int32Value();
}

inline std::string text(const Napi::CallbackInfo &info, std::size_t index) {
  return info[index].As<Napi::String>().Utf8Value();
}

} // namespace spillway
