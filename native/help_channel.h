// SPDX-License-Identifier: MIT
//
// `HelpChannel`: the worker's end of the socket on which its master asks it to help (help.h).
#pragma once

#include <napi.h>

namespace spillway {

struct HelpChannelState;

class HelpChannel : public Napi::ObjectWrap<HelpChannel> {
public:
  static Napi::Function define(Napi::Env env);

  explicit HelpChannel(const Napi::CallbackInfo &info);
  ~HelpChannel() override;

private:
  Napi::Value close(const Napi::CallbackInfo &info);

  // Owned by the event loop once its handle is open; detached from here before either side goes away.
  HelpChannelState *state_ = nullptr;
};

} // namespace spillway
