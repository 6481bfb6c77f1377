// SPDX-License-Identifier: MIT
//
// `QueueWatch`: calls back once when a connection waits in any of the watched listeners, then sleeps until it
// is armed again. The tiers without a program in the kernel use it to look at queues only while something is
// queued.
#pragma once

#include <napi.h>

namespace spillway {

struct QueueWatchState;

class QueueWatch : public Napi::ObjectWrap<QueueWatch> {
public:
  static Napi::Function define(Napi::Env env);

  explicit QueueWatch(const Napi::CallbackInfo &info);
  ~QueueWatch() override;

private:
  Napi::Value add(const Napi::CallbackInfo &info);
  Napi::Value remove(const Napi::CallbackInfo &info);
  Napi::Value arm(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  // Owned by the event loop once its handle is open; detached from here before either side goes away.
  QueueWatchState *state_ = nullptr;
};

} // namespace spillway
