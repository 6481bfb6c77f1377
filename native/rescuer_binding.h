// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

#include <memory>

#include "rescuer.h"

namespace spillway {

struct NoticeState;

class RescuerBinding : public Napi::ObjectWrap<RescuerBinding> {
public:
  static Napi::Function define(Napi::Env env);

  explicit RescuerBinding(const Napi::CallbackInfo &info);

  ~RescuerBinding() override;

private:
  Napi::Value add_port(const Napi::CallbackInfo &info);
  Napi::Value remove_port(const Napi::CallbackInfo &info);
  Napi::Value order(const Napi::CallbackInfo &info);
  Napi::Value set_listener(const Napi::CallbackInfo &info);
  Napi::Value clear_listener(const Napi::CallbackInfo &info);
  Napi::Value set_worker(const Napi::CallbackInfo &info);
  Napi::Value clear_worker(const Napi::CallbackInfo &info);
  Napi::Value sent(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);
  bool open(Napi::Env env) const;

  std::unique_ptr<Rescuer> rescuer_;
  NoticeState *notices_ = nullptr; // as long as the event loop can be told
};

// sendWaitingList(channel, port, listener, sender, receiver): the descriptors stay the caller's.
Napi::Value send_waiting_list(const Napi::CallbackInfo &info);

// openHelpChannel(): the two ends of one, which are the caller's: [master's, worker's].
Napi::Value open_help_channel(const Napi::CallbackInfo &info);

} // namespace spillway
