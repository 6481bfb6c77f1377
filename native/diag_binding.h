// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace spillway {

// The sockets on an address, port and family, in the states of a bit mask: an array of { inode, uid, peer }.
Napi::Value sockets_at(const Napi::CallbackInfo &info);

} // namespace spillway
