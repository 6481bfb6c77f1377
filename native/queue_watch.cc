// SPDX-License-Identifier: MIT
#include "queue_watch.h"

#include <sys/epoll.h>
#include <uv.h>

#include <algorithm>
#include <vector>

#include "errors.h"
#include "socket_binding.h"
#include "unique_fd.h"

namespace spillway {

// Lives until its uv handle is closed, which the JavaScript object or the end of the environment may ask for.
struct QueueWatchState {
  uv_poll_t handle{};
  UniqueFd epoll;
  std::vector<int> listeners;
  Napi::FunctionReference callback;
  napi_env env = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  QueueWatchState **owner_field = nullptr;
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
      auto *state = static_cast<QueueWatchState *>(closed->data);
      if (state->cleanup)
        napi_remove_async_cleanup_hook(state->cleanup);
      delete state;
    });
  }
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
  // No JavaScript is below that could catch it: like a throw in any other callback of the event loop, it is
  // the process's uncaught exception. Left pending, it would come out of an unrelated call into the addon.
  if (env.IsExceptionPending())
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
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
  state->handle.data = state;
  state->epoll = std::move(epoll);
  state->callback = Napi::Persistent(info[0].As<Napi::Function>());
  state->env = info.Env();
  state->owner_field = &state_;
  state_ = state;
  // A watch alone keeps no process alive.
  uv_unref(reinterpret_cast<uv_handle_t *>(&state->handle));
  result = uv_poll_start(&state->handle, UV_READABLE, on_readable);
  if (result != 0) {
    state->close();
    throw_failure(info.Env(), Failure{-result, "uv_poll_start", {}});
    return;
  }
  // Without it a handle would outlive the environment's event loop.
  napi_status hooked = napi_add_async_cleanup_hook(
      info.Env(),
      [](napi_async_cleanup_hook_handle, void *data) { static_cast<QueueWatchState *>(data)->close(); },
      state, &state->cleanup);
  if (hooked != napi_ok) {
    state->cleanup = nullptr;
    state->close();
    throw_failure(info.Env(), Failure{ENOMEM, "napi_add_async_cleanup_hook", {}});
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
