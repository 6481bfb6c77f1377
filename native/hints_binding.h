// SPDX-License-Identifier: MIT
//
// `Hints`: one page shared by a master and a worker. The object owns the descriptor it has created, and a
// share in the mapping.
#pragma once

#include <napi.h>

#include <memory>

#include "hints.h"
#include "unique_fd.h"

namespace spillway {

class HintsBinding : public Napi::ObjectWrap<HintsBinding> {
public:
  static Napi::Function define(Napi::Env env);

  explicit HintsBinding(const Napi::CallbackInfo &info);
  ~HintsBinding() override;

  // A beat of an environment's event loop, and who has to know when it ends.
  struct Beating;

private:
  Napi::Value get_fd(const Napi::CallbackInfo &info);
  Napi::Value beat(const Napi::CallbackInfo &info);
  Napi::Value read(const Napi::CallbackInfo &info);
  Napi::Value drain(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  UniqueFd fd_;
  std::shared_ptr<hints::Page> page_; // null once closed
  // Owned by the event loop; detached from here before either side goes away.
  Beating *beating_ = nullptr;
};

} // namespace spillway
