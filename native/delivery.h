// SPDX-License-Identifier: MIT
//
// Gives descriptors of accepted connections to a function in JavaScript.
#pragma once

#include <napi.h>
#include <unistd.h>

#include <memory>

#include "loop_state.h"

namespace spillway {

class Delivery {
public:
  Delivery(Napi::Env env, Napi::Function callback)
      : env_(env), callback_(Napi::Persistent(callback)),
        // What a request finds in AsyncLocalStorage is what there was where its server was told to listen.
        resource_(Napi::Persistent(Napi::Object::New(env))),
        context_(std::make_unique<Napi::AsyncContext>(env, "SpillwayAcceptor", resource_.Value())) {}

  // A descriptor, or a negative errno. False when the environment runs no JavaScript any more: the connection
  // would be in nobody's hands, and is closed.
  bool operator()(int value) {
    Napi::Env environment(env_);
    Napi::HandleScope scope(environment);
    napi_value argument = Napi::Number::New(environment, value);
    napi_status status =
        napi_make_callback(env_, *context_, environment.Global(), callback_.Value(), 1, &argument, nullptr);
    bool taken = status == napi_ok || environment.IsExceptionPending();
    if (!taken && value >= 0)
      ::close(value);
    end_callback(environment);
    return taken;
  }

private:
  napi_env env_;
  Napi::FunctionReference callback_;
  Napi::ObjectReference resource_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

} // namespace spillway
