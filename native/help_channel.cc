// SPDX-License-Identifier: MIT
#include "help_channel.h"

#include <uv.h>

#include <array>
#include <utility>

#include "clock.h"
#include "errors.h"
#include "help.h"
#include "loop_state.h"

namespace spillway {
namespace {

// Nanoseconds after which help is not wanted any more: who was free then has been busy since, and others have
// come.
constexpr std::uint64_t too_late = 20'000'000;

// Orders read at a time.
constexpr int most_orders = 8;

} // namespace

struct HelpChannelState : LoopState<HelpChannelState> {
  uv_poll_t handle{};
  UniqueFd channel;
  Napi::FunctionReference callback;

  std::array<uv_handle_t *, 1> handles() { return {base(handle)}; }
  void release() {
    callback.Reset();
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
      if (listener.valid() && monotonic_nanoseconds() - order.sent < too_late)
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
    end_callback(environment);
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
  state->callback = Napi::Persistent(info[1].As<Napi::Function>());
  // It keeps no process alive.
  uv_unref(base(state->handle));
  auto bound = state->belong_to(info.Env(), state_);
  if (!bound.ok()) {
    throw_failure(info.Env(), bound.failure());
    return;
  }
  result = uv_poll_start(&state->handle, UV_READABLE, [](uv_poll_t *handle, int, int) {
    static_cast<HelpChannelState *>(handle->data)->read();
  });
  if (result != 0) {
    state->close();
    throw_failure(info.Env(), Failure{-result, "uv_poll_start", {}});
    return;
  }
  state->channel.reset(fd);
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
