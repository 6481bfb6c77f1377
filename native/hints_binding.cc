// SPDX-License-Identifier: MIT
#include "hints_binding.h"

#include <uv.h>

#include <algorithm>
#include <utility>

#include "beat.h"
#include "errors.h"

namespace spillway {

// Lives until the beat's uv handles are closed, which the JavaScript object or the end of the environment may
// ask for.
struct HintsBinding::Beating {
  Beat *beat = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  HintsBinding *owner = nullptr;
  bool closing = false;

  void close() {
    if (closing)
      return;
    closing = true;
    if (owner)
      owner->beating_ = nullptr;
    beat->close(
        [](void *data) {
          auto *closed = static_cast<Beating *>(data);
          if (closed->cleanup)
            napi_remove_async_cleanup_hook(closed->cleanup);
          delete closed;
        },
        this);
  }
};

namespace {

const char *name_of(hints::State state) {
  return state == hints::State::waiting ? "waiting" : state == hints::State::running ? "running" : "silent";
}

} // namespace

Napi::Function HintsBinding::define(Napi::Env env) {
  return DefineClass(env, "Hints",
                     {
                         InstanceAccessor<&HintsBinding::get_fd>("fd"),
                         InstanceMethod<&HintsBinding::beat>("beat"),
                         InstanceMethod<&HintsBinding::read>("read"),
                         InstanceMethod<&HintsBinding::drain>("drain"),
                         InstanceMethod<&HintsBinding::close>("close"),
                     });
}

// new Hints('create') makes a page; new Hints('map', fd) shares the one behind a descriptor, which stays the
// caller's.
HintsBinding::HintsBinding(const Napi::CallbackInfo &info) : Napi::ObjectWrap<HintsBinding>(info) {
  UniqueFd created;
  int fd = -1;
  if (info[0].As<Napi::String>().Utf8Value() == "create") {
    auto made = hints::create();
    if (!made.ok()) {
      throw_failure(info.Env(), made.failure());
      return;
    }
    created = std::move(made.value());
    fd = created.get();
  } else {
    fd = info[1].As<Napi::Number>().Int32Value();
  }
  auto page = hints::Page::map(fd);
  if (!page.ok()) {
    throw_failure(info.Env(), page.failure());
    return;
  }
  fd_ = std::move(created);
  page_ = std::make_shared<hints::Page>(std::move(page.value()));
}

// A beat goes on without its object: it is the event loop's, and ends with that.
HintsBinding::~HintsBinding() {
  if (beating_)
    beating_->owner = nullptr;
}

Napi::Value HintsBinding::get_fd(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

Napi::Value HintsBinding::beat(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  if (!page_) {
    throw_failure(env, Failure{EBADF, "beat", "the hints were closed"});
    return env.Undefined();
  }
  if (beating_)
    return env.Undefined();
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto started = Beat::start(loop, page_);
  if (!started.ok()) {
    throw_failure(env, started.failure());
    return env.Undefined();
  }
  auto *beating = new Beating;
  beating->beat = started.value();
  beating->owner = this;
  beating_ = beating;
  // Without it the handles would outlive the environment's event loop.
  napi_status hooked = napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void *data) { static_cast<Beating *>(data)->close(); }, beating,
      &beating->cleanup);
  if (hooked != napi_ok) {
    beating->cleanup = nullptr;
    beating->close();
    throw_failure(env, Failure{ENOMEM, "napi_add_async_cleanup_hook", {}});
  }
  return env.Undefined();
}

// The other side may have written anything: what is not a state is silence, and a time to come is now.
Napi::Value HintsBinding::read(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  if (!page_) {
    throw_failure(env, Failure{EBADF, "read", "the hints were closed"});
    return env.Undefined();
  }
  auto note = page_->read();
  auto state = hints::state_of(note);
  auto since = state == hints::State::silent ? 0 : std::min(hints::since_of(note), hints::now());
  auto object = Napi::Object::New(env);
  object.Set("state", name_of(state));
  object.Set("since", Napi::Number::New(env, static_cast<double>(since)));
  object.Set("turn", Napi::Number::New(env, static_cast<double>(hints::turn_of(note))));
  return object;
}

Napi::Value HintsBinding::drain(const Napi::CallbackInfo &info) {
  if (page_)
    page_->set_draining();
  return info.Env().Undefined();
}

Napi::Value HintsBinding::close(const Napi::CallbackInfo &info) {
  if (beating_)
    beating_->close();
  page_.reset();
  fd_.reset();
  return info.Env().Undefined();
}

} // namespace spillway
