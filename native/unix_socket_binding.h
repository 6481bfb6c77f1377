// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace spillway {

// { pid, uid, gid } of the other end of a connected Unix socket.
Napi::Value peer_credentials(const Napi::CallbackInfo &info);
// (fd, message, descriptor or a negative number)
Napi::Value send_with_descriptor(const Napi::CallbackInfo &info);
// (path, request, milliseconds): { reply, fd }; the descriptor is the caller's, -1 when none came.
Napi::Value exchange(const Napi::CallbackInfo &info);
// (path, text)
Napi::Value notify(const Napi::CallbackInfo &info);

} // namespace spillway
