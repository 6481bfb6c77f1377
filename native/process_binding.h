// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace spillway {

// (process id of the parent): whether it still is.
Napi::Value die_with_parent(const Napi::CallbackInfo &info);

// (descriptor): whether the lock is ours now.
// become(program, arguments, kept)
Napi::Value become(const Napi::CallbackInfo &info);
// createMemory(name)
Napi::Value create_memory(const Napi::CallbackInfo &info);
// setAffinity(process, cpus)
Napi::Value set_affinity(const Napi::CallbackInfo &info);
// allowedCpus()
Napi::Value allowed_cpus(const Napi::CallbackInfo &info);
Napi::Value lock_file(const Napi::CallbackInfo &info);

} // namespace spillway
