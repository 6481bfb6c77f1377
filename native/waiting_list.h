// SPDX-License-Identifier: MIT
//
// `WaitingList`: takes connections from the listener whose queue is the waiting list, as long as this worker
// has room, which it asks the kernel for before each.
//
// While it has none, it does not look at the list. It looks again when it is told that it may have room: when
// a connection of its own has been closed. Promises of the kernel that nobody keeps run out unnoticed, so it
// looks from time to time as well while somebody waits.
#pragma once

#include <napi.h>

namespace spillway {

struct WaitingListState;

class WaitingList : public Napi::ObjectWrap<WaitingList> {
public:
  static Napi::Function define(Napi::Env env);

  explicit WaitingList(const Napi::CallbackInfo &info);
  ~WaitingList() override;

private:
  Napi::Value start(const Napi::CallbackInfo &info);
  Napi::Value stop(const Napi::CallbackInfo &info);
  Napi::Value room(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  // Owned by the event loop once its handles are open; detached from here before either side goes away.
  WaitingListState *state_ = nullptr;
};

} // namespace spillway
