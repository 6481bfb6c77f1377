// SPDX-License-Identifier: MIT
//
// What an object of the addon has in the event loop: handles, which outlive the object until the loop has
// closed them. Either the JavaScript object or the end of the environment asks for that first.
#pragma once

#include <napi.h>
#include <uv.h>

#include "result.h"

namespace spillway {

template <typename Handle> uv_handle_t *base(Handle &handle) {
  return reinterpret_cast<uv_handle_t *>(&handle);
}

// To be called after JavaScript was called back from the event loop. Nothing is below that could catch an
// exception: like a throw in any other callback of the loop, it is the process's uncaught exception. Left
// pending, it would come out of an unrelated call into the addon.
inline void end_callback(Napi::Env env) {
  if (env.IsExceptionPending())
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

// Made by `new`, with all its handles initialized, and deletes itself. `State` derives from this and has
// handles(), a range of pointers to all of them, and release(), which lets go of the rest.
template <typename State> struct LoopState {
  napi_env env = nullptr;
  bool closing = false;

  // From now on `owner`, a field of the JavaScript object, points here until this is closed. ENOMEM: then it
  // is closed already.
  Result<> belong_to(napi_env environment, State *&owner) {
    env = environment;
    for (auto *handle : self()->handles())
      handle->data = self();
    owner = self();
    owner_field_ = &owner;
    // Without it the handles would outlive the environment's event loop.
    napi_status hooked = napi_add_async_cleanup_hook(
        env, [](napi_async_cleanup_hook_handle, void *data) { static_cast<State *>(data)->close(); }, self(),
        &cleanup_);
    if (hooked == napi_ok)
      return Done{};
    cleanup_ = nullptr;
    close();
    return Failure{ENOMEM, "napi_add_async_cleanup_hook", {}};
  }

  void close() {
    if (closing)
      return;
    closing = true;
    *owner_field_ = nullptr;
    // The handles come first: a descriptor leaves the loop's epoll set while it is open.
    for (auto *handle : self()->handles()) {
      open_handles_++;
      uv_close(handle, [](uv_handle_t *closed) { static_cast<State *>(closed->data)->handle_closed(); });
    }
    self()->release();
  }

private:
  State *self() { return static_cast<State *>(this); }

  void handle_closed() {
    if (--open_handles_ > 0)
      return;
    if (cleanup_)
      napi_remove_async_cleanup_hook(cleanup_);
    delete self();
  }

  State **owner_field_ = nullptr;
  int open_handles_ = 0;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
};

} // namespace spillway
