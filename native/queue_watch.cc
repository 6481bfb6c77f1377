// SPDX-License-Identifier: MIT
#include "queue_watch.h"

#include <sys/epoll.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <vector>

#include "errors.h"
#include "loop_state.h"
#include "socket_binding.h"
#include "unique_fd.h"

namespace spillway {

struct QueueWatchState : LoopState<QueueWatchState> {
  uv_poll_t handle{};
  UniqueFd epoll;
  std::vector<int> listeners;
  Napi::FunctionReference callback;

  std::array<uv_handle_t *, 1> handles() { return {base(handle)}; }
  void release() { callback.Reset(); }
};

namespace {

void on_readable(uv_poll_t *handle, int, int) {
  auto *state = static_cast<QueueWatchState *>(handle->data);
  epoll_event events[16];
  // Each listener that is reported here is disarmed by EPOLLONESHOT; the rest disarms itself when it has its
  // turn.
  while (::epoll_wait(state->epoll.get(), events, 16, 0) == 16) {
  }
  Napi::Env env(state->env);
  Napi::HandleScope scope(env);
  state->callback.MakeCallback(env.Global(), {});
  end_callback(env);
}

Result<> control(int epoll, int operation, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.fd = fd;
  if (::epoll_ctl(epoll, operation, fd, &event) != 0)
    return Failure::last("epoll_ctl");
  return Done{};
}

} // namespace

Napi::Function QueueWatch::define(Napi::Env env) {
  return DefineClass(env, "QueueWatch",
                     {
                         InstanceMethod<&QueueWatch::add>("add"),
                         InstanceMethod<&QueueWatch::remove>("remove"),
                         InstanceMethod<&QueueWatch::arm>("arm"),
                         InstanceMethod<&QueueWatch::close>("close"),
                     });
}

QueueWatch::QueueWatch(const Napi::CallbackInfo &info) : Napi::ObjectWrap<QueueWatch>(info) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) {
    throw_failure(info.Env(), Failure::last("epoll_create1"));
    return;
  }
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *state = new QueueWatchState;
  int result = uv_poll_init(loop, &state->handle, epoll.get());
  if (result != 0) {
    delete state;
    throw_failure(info.Env(), Failure{-result, "uv_poll_init", {}});
    return;
  }
  state->epoll = std::move(epoll);
  state->callback = Napi::Persistent(info[0].As<Napi::Function>());
  // A watch alone keeps no process alive.
  uv_unref(base(state->handle));
  auto bound = state->belong_to(info.Env(), state_);
  if (!bound.ok()) {
    throw_failure(info.Env(), bound.failure());
    return;
  }
  result = uv_poll_start(&state->handle, UV_READABLE, on_readable);
  if (result != 0) {
    state->close();
    throw_failure(info.Env(), Failure{-result, "uv_poll_start", {}});
  }
}

QueueWatch::~QueueWatch() {
  if (state_)
    state_->close();
}

// A listener is watched once. It is armed from the start; after it was reported, by arm().
Napi::Value QueueWatch::add(const Napi::CallbackInfo &info) {
  if (!state_)
    return info.Env().Undefined();
  int fd = SocketBinding::Unwrap(info[0].As<Napi::Object>())->fd();
  auto added = control(state_->epoll.get(), EPOLL_CTL_ADD, fd);
  if (!added.ok())
    throw_failure(info.Env(), added.failure());
  else
    state_->listeners.push_back(fd);
  return info.Env().Undefined();
}

// To be called before the listener is closed: a duplicate elsewhere would keep it in the epoll set.
Napi::Value QueueWatch::remove(const Napi::CallbackInfo &info) {
  if (!state_)
    return info.Env().Undefined();
  int fd = SocketBinding::Unwrap(info[0].As<Napi::Object>())->fd();
  auto &listeners = state_->listeners;
  auto found = std::find(listeners.begin(), listeners.end(), fd);
  if (found == listeners.end())
    return info.Env().Undefined();
  listeners.erase(found);
  auto removed = control(state_->epoll.get(), EPOLL_CTL_DEL, fd);
  if (!removed.ok())
    throw_failure(info.Env(), removed.failure());
  return info.Env().Undefined();
}

Napi::Value QueueWatch::arm(const Napi::CallbackInfo &info) {
  if (!state_)
    return info.Env().Undefined();
  for (int fd : state_->listeners) {
    auto armed = control(state_->epoll.get(), EPOLL_CTL_MOD, fd);
    if (!armed.ok()) {
      throw_failure(info.Env(), armed.failure());
      break;
    }
  }
  return info.Env().Undefined();
}

Napi::Value QueueWatch::close(const Napi::CallbackInfo &info) {
  if (state_)
    state_->close();
  return info.Env().Undefined();
}

} // namespace spillway
