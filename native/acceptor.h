// SPDX-License-Identifier: MIT
//
// `Acceptor`: accepts the connections of a listener in place of libuv, later in the turn of the event loop.
//
// libuv accepts where the listener's event happens to be among the others, and what it accepts is read in the
// next turn, together with the events of other connections. If one of those blocks the loop, the accepted one
// waits with it: it has left the kernel's queue, where a free worker could have taken it. So here a
// connection is accepted at the last moment before the loop looks for events again, when everything else of
// the turn is done: what is accepted is read next.
//
// It can also be asked to help: to take from the queue of another listener of the same port, whose own worker
// does not come.
#pragma once

#include <napi.h>

namespace spillway {

struct AcceptorState;

class Acceptor : public Napi::ObjectWrap<Acceptor> {
public:
  static Napi::Function define(Napi::Env env);

  explicit Acceptor(const Napi::CallbackInfo &info);
  ~Acceptor() override;

private:
  Napi::Value start(const Napi::CallbackInfo &info);
  Napi::Value help(const Napi::CallbackInfo &info);
  Napi::Value claim(const Napi::CallbackInfo &info);
  Napi::Value ref(const Napi::CallbackInfo &info);
  Napi::Value unref(const Napi::CallbackInfo &info);
  Napi::Value has_ref(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  // Owned by the event loop once its handles are open; detached from here before either side goes away.
  AcceptorState *state_ = nullptr;
};

} // namespace spillway
