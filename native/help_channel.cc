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
  Napi::FunctionReference help;
  Napi::FunctionReference wait;

  std::array<uv_handle_t *, 1> handles() { return {base(handle)}; }
  void release() {
    help.Reset();
    wait.Reset();
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
      if (!received.value().any)
        return;
      deliver(received.value());
    }
  }

  void deliver(help::Received &received) {
    auto &[any, order, descriptors] = received;
    if (order.kind == help::Kind::waiting_list) {
      take_list(order, descriptors);
      return;
    }
    if (!descriptors[0].valid())
      return;
    if (monotonic_nanoseconds() - order.sent < too_late)
      call(help, order.port, descriptors, 1, order.most);
  }

  // All that was sent, or nothing: without its claims it would take what it has no room for.
  void take_list(const help::Order &order, std::array<UniqueFd, help::most_descriptors> &descriptors) {
    std::size_t came = 0;
    while (came < descriptors.size() && descriptors[came].valid())
      came++;
    if (came < order.most)
      return;
    // The claims alone.
    if (order.most == 2) {
      descriptors[2] = std::move(descriptors[1]);
      descriptors[1] = std::move(descriptors[0]);
    }
    call(wait, order.port, descriptors, 3, 0);
  }

  // With the port, so many of the descriptors, and a number.
  void call(Napi::FunctionReference &callback, std::uint32_t port,
            std::array<UniqueFd, help::most_descriptors> &descriptors, std::size_t count,
            std::uint32_t last) {
    Napi::Env environment(env);
    Napi::HandleScope scope(environment);
    std::array<napi_value, help::most_descriptors + 2> arguments{};
    arguments[0] = Napi::Number::New(environment, port);
    for (std::size_t index = 0; index < count; index++)
      arguments[1 + index] = Napi::Number::New(environment, descriptors[index].get());
    arguments[1 + count] = Napi::Number::New(environment, last);
    napi_status status = napi_make_callback(env, nullptr, environment.Global(), callback.Value(), count + 2,
                                            arguments.data(), nullptr);
    // An environment that ends runs no JavaScript any more: then nobody has taken them.
    if (status == napi_ok || environment.IsExceptionPending())
      for (std::size_t index = 0; index < count; index++)
        descriptors[index].release();
    end_callback(environment);
  }
};

Napi::Function HelpChannel::define(Napi::Env env) {
  return DefineClass(env, "HelpChannel", {InstanceMethod<&HelpChannel::close>("close")});
}

// new HelpChannel(fd, help, wait): the descriptor is the object's if this succeeds.
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
  state->help = Napi::Persistent(info[1].As<Napi::Function>());
  state->wait = Napi::Persistent(info[2].As<Napi::Function>());
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
