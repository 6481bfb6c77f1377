// SPDX-License-Identifier: MIT
#include "help_channel.h"

#include <uv.h>

#include <utility>

#include "errors.h"
#include "help.h"

namespace spillway {
namespace {

// Nanoseconds after which help is not wanted any more: who was free then has been busy since, and others have
// come.
constexpr std::uint64_t too_late = 20'000'000;

// Orders read at a time.
constexpr int most_orders = 8;

} // namespace

// Lives until its uv handle is closed, which the JavaScript object or the end of the environment may ask for.
struct HelpChannelState {
  uv_poll_t handle{};
  UniqueFd channel;
  Napi::FunctionReference callback;
  napi_env env = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  HelpChannelState **owner_field = nullptr;
  bool closing = false;

  void close() {
    if (closing)
      return;
    closing = true;
    if (owner_field)
      *owner_field = nullptr;
    callback.Reset();
    uv_poll_stop(&handle);
    uv_close(reinterpret_cast<uv_handle_t *>(&handle), [](uv_handle_t *closed) {
      auto *state = static_cast<HelpChannelState *>(closed->data);
      if (state->cleanup)
        napi_remove_async_cleanup_hook(state->cleanup);
      delete state;
    });
    channel.reset();
  }

  void read() {
    for (int count = 0; count < most_orders && !closing; count++) {
      auto received = help::receive(channel.get());
      if (!received.ok()) {
        // The master has gone, and this process is about to.
        close();
        return;
      }
      auto &[any, order, listener] = received.value();
      if (!any)
        return;
      if (listener.valid() && help::now() - order.sent < too_late)
        deliver(order, std::move(listener));
    }
  }

  void deliver(const help::Order &order, UniqueFd listener) {
    Napi::Env environment(env);
    Napi::HandleScope scope(environment);
    napi_value arguments[] = {Napi::Number::New(environment, order.port),
                              Napi::Number::New(environment, listener.get()),
                              Napi::Number::New(environment, order.most)};
    napi_status status =
        napi_make_callback(env, nullptr, environment.Global(), callback.Value(), 3, arguments, nullptr);
    // An environment that ends runs no JavaScript any more: then nobody has taken it.
    if (status == napi_ok || environment.IsExceptionPending())
      listener.release();
    // No JavaScript is below that could catch it: like a throw in any other callback of the event loop, it is
    // the process's uncaught exception. Left pending, it would come out of an unrelated call into the addon.
    if (environment.IsExceptionPending())
      napi_fatal_exception(env, environment.GetAndClearPendingException().Value());
  }
};

Napi::Function HelpChannel::define(Napi::Env env) {
  return DefineClass(env, "HelpChannel", {InstanceMethod<&HelpChannel::close>("close")});
}

// new HelpChannel(fd, callback): the descriptor is the object's if this succeeds.
HelpChannel::HelpChannel(const Napi::CallbackInfo &info) : Napi::ObjectWrap<HelpChannel>(info) {
  int fd = info[0].As<Napi::Number>().Int32Value();
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *state = new HelpChannelState;
  int result = uv_poll_init(loop, &state->handle, fd);
  if (result != 0) {
    delete state;
    throw_failure(info.Env(), Failure{-result, "uv_poll_init", {}});
    return;
  }
  state->handle.data = state;
  state->callback = Napi::Persistent(info[1].As<Napi::Function>());
  state->env = info.Env();
  state->owner_field = &state_;
  state_ = state;
  // It keeps no process alive.
  uv_unref(reinterpret_cast<uv_handle_t *>(&state->handle));
  result = uv_poll_start(&state->handle, UV_READABLE, [](uv_poll_t *handle, int, int) {
    static_cast<HelpChannelState *>(handle->data)->read();
  });
  if (result != 0) {
    state->close();
    throw_failure(info.Env(), Failure{-result, "uv_poll_start", {}});
    return;
  }
  state->channel.reset(fd);
  // Without it the handle would outlive the environment's event loop.
  napi_status hooked = napi_add_async_cleanup_hook(
      info.Env(),
      [](napi_async_cleanup_hook_handle, void *data) { static_cast<HelpChannelState *>(data)->close(); },
      state, &state->cleanup);
  if (hooked != napi_ok) {
    state->cleanup = nullptr;
    state->channel.release();
    state->close();
    throw_failure(info.Env(), Failure{ENOMEM, "napi_add_async_cleanup_hook", {}});
  }
}

HelpChannel::~HelpChannel() {
  if (state_)
    state_->close();
}

Napi::Value HelpChannel::close(const Napi::CallbackInfo &info) {
  if (state_)
    state_->close();
  return info.Env().Undefined();
}

} // namespace spillway
