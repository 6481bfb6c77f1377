// SPDX-License-Identifier: MIT
#include "process_watch.h"

#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <utility>

#include "arguments.h"
#include "errors.h"
#include "loop_state.h"
#include "unique_fd.h"

namespace spillway {

struct ProcessWatchState : LoopState<ProcessWatchState> {
  uv_poll_t handle{};
  UniqueFd process;
  Napi::FunctionReference callback;

  std::array<uv_handle_t *, 1> handles() { return {base(handle)}; }
  void release() {
    callback.Reset();
    process.reset();
  }

  void ended() {
    Napi::Env environment(env);
    Napi::HandleScope scope(environment);
    auto function = callback.Value();
    // Once: it stays ended.
    close();
    napi_make_callback(environment, nullptr, environment.Global(), function, 0, nullptr, nullptr);
    end_callback(environment);
  }
};

Napi::Function ProcessWatch::define(Napi::Env env) {
  return DefineClass(env, "ProcessWatch", {InstanceMethod<&ProcessWatch::close>("close")});
}

// new ProcessWatch(pid, callback)
ProcessWatch::ProcessWatch(const Napi::CallbackInfo &info) : Napi::ObjectWrap<ProcessWatch>(info) {
  // glibc names it since 2.36.
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, number(info, 0), 0)));
  if (!process.valid()) {
    throw_failure(info.Env(), Failure::last("pidfd_open"));
    return;
  }
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *state = new ProcessWatchState;
  int result = uv_poll_init(loop, &state->handle, process.get());
  if (result != 0) {
    delete state;
    throw_failure(info.Env(), Failure{-result, "uv_poll_init", {}});
    return;
  }
  state->process = std::move(process);
  state->callback = Napi::Persistent(info[1].As<Napi::Function>());
  auto bound = state->belong_to(info.Env(), state_);
  if (!bound.ok()) {
    throw_failure(info.Env(), bound.failure());
    return;
  }
  result = uv_poll_start(&state->handle, UV_READABLE, [](uv_poll_t *handle, int, int) {
    static_cast<ProcessWatchState *>(handle->data)->ended();
  });
  if (result != 0) {
    state->close();
    throw_failure(info.Env(), Failure{-result, "uv_poll_start", {}});
  }
}

ProcessWatch::~ProcessWatch() {
  if (state_)
    state_->close();
}

Napi::Value ProcessWatch::close(const Napi::CallbackInfo &info) {
  if (state_)
    state_->close();
  return info.Env().Undefined();
}

} // namespace spillway
