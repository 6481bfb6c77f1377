// SPDX-License-Identifier: MIT
//
// A failure of the core as a JavaScript exception.
#pragma once

#include <napi.h>

#include "result.h"

namespace spillway {

// Throws an Error with `code` ("EADDRINUSE"), `errno` (negative, as Node has it), `syscall` and, where more
// is known, `detail`. The caller returns to JavaScript at once.
void throw_failure(Napi::Env env, const Failure &failure);

// What a call that only does something gives back: undefined, or the exception of a failed one.
Napi::Value done(Napi::Env env, Result<> result);

// The "what": "EADDRINUSE" for 98. Numbers without a name become "ERRNO_n"; 524 is the kernel's own ENOTSUPP.
std::string error_name(int error);

} // namespace spillway
