// SPDX-License-Identifier: MIT
//
// `ProcessWatch`: tells when a process ends, also one that this process has not started (pidfd_open(2)).
#pragma once

#include <napi.h>

namespace spillway {

struct ProcessWatchState;

class ProcessWatch : public Napi::ObjectWrap<ProcessWatch> {
public:
  static Napi::Function define(Napi::Env env);

  explicit ProcessWatch(const Napi::CallbackInfo &info);
  ~ProcessWatch() override;

private:
  Napi::Value close(const Napi::CallbackInfo &info);

  // Owned by the event loop once its handle is open; detached from here before either side goes away.
  ProcessWatchState *state_ = nullptr;
};

} // namespace spillway
