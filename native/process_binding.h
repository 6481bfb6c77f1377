// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace spillway {

// (process id of the parent): whether it still is.
Napi::Value die_with_parent(const Napi::CallbackInfo &info);

// (descriptor): whether the lock is ours now.
Napi::Value lock_file(const Napi::CallbackInfo &info);

} // namespace spillway
