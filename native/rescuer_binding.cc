// SPDX-License-Identifier: MIT
#include "rescuer_binding.h"

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "arguments.h"
#include "clock.h"
#include "errors.h"
#include "help.h"
#include "loop_state.h"

namespace spillway {
namespace {

std::uint32_t word(const Napi::CallbackInfo &info, std::size_t index) {
  return info[index].As<Napi::Number>().Uint32Value();
}

} // namespace

Napi::Function RescuerBinding::define(Napi::Env env) {
  return DefineClass(env, "Rescuer",
                     {
                         InstanceMethod<&RescuerBinding::add_port>("addPort"),
                         InstanceMethod<&RescuerBinding::remove_port>("removePort"),
                         InstanceMethod<&RescuerBinding::order>("order"),
                         InstanceMethod<&RescuerBinding::set_listener>("setListener"),
                         InstanceMethod<&RescuerBinding::clear_listener>("clearListener"),
                         InstanceMethod<&RescuerBinding::set_worker>("setWorker"),
                         InstanceMethod<&RescuerBinding::clear_worker>("clearWorker"),
                         InstanceMethod<&RescuerBinding::sent>("sent"),
                         InstanceMethod<&RescuerBinding::close>("close"),
                     });
}

// What the thread has to tell, on its way into the event loop. It lives until the thread has ended.
struct NoticeState : LoopState<NoticeState> {
  uv_async_t async{};
  Napi::FunctionReference callback;
  std::mutex mutex;
  std::map<std::uint32_t, std::set<std::uint32_t>> kinds; // by port

  std::function<void()> ended; // ends the thread, which would use the handle

  std::array<uv_handle_t *, 1> handles() { return {base(async)}; }
  void release() { callback.Reset(); }

  // The environment may end first.
  void close() {
    if (!closing && ended)
      ended();
    LoopState::close();
  }

  void note(Rescuer::Notice notice) {
    {
      std::lock_guard lock(mutex);
      kinds[notice.port].insert(notice.kind);
    }
    uv_async_send(&async);
  }

  void deliver() {
    std::map<std::uint32_t, std::set<std::uint32_t>> told;
    {
      std::lock_guard lock(mutex);
      told.swap(kinds);
    }
    for (const auto &[port, all] : told)
      for (std::uint32_t kind : all)
        if (!closing)
          call(port, kind);
  }

  void call(std::uint32_t port, std::uint32_t kind) {
    Napi::Env environment(env);
    Napi::HandleScope scope(environment);
    napi_value arguments[] = {Napi::Number::New(environment, port), Napi::Number::New(environment, kind)};
    napi_make_callback(env, nullptr, environment.Global(), callback.Value(), 2, arguments, nullptr);
    end_callback(environment);
  }
};

// new Rescuer(callback)
RescuerBinding::RescuerBinding(const Napi::CallbackInfo &info) : Napi::ObjectWrap<RescuerBinding>(info) {
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *notices = new NoticeState;
  int result = uv_async_init(loop, &notices->async,
                             [](uv_async_t *handle) { static_cast<NoticeState *>(handle->data)->deliver(); });
  if (result != 0) {
    delete notices;
    throw_failure(info.Env(), Failure{-result, "uv_async_init", {}});
    return;
  }
  // It keeps no process alive.
  uv_unref(base(notices->async));
  notices->callback = Napi::Persistent(info[0].As<Napi::Function>());
  auto bound = notices->belong_to(info.Env(), notices_);
  if (!bound.ok()) {
    throw_failure(info.Env(), bound.failure());
    return;
  }
  auto started = Rescuer::start([notices](Rescuer::Notice notice) { notices->note(notice); });
  if (started.ok()) {
    rescuer_ = std::move(started.value());
    notices->ended = [this] { rescuer_.reset(); };
    return;
  }
  notices_->close();
  throw_failure(info.Env(), started.failure());
}

RescuerBinding::~RescuerBinding() {
  rescuer_.reset();
  if (notices_)
    notices_->close();
}

bool RescuerBinding::open(Napi::Env env) const {
  if (!rescuer_)
    throw_failure(env, Failure{EBADF, "rescuer", "it was closed"});
  return rescuer_ != nullptr;
}

// addPort(port, ring)
Napi::Value RescuerBinding::add_port(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), rescuer_->add_port(word(info, 0), number(info, 1)));
}

Napi::Value RescuerBinding::remove_port(const Napi::CallbackInfo &info) {
  if (rescuer_)
    rescuer_->remove_port(word(info, 0));
  return info.Env().Undefined();
}

// order(port, from, to, waiting)
Napi::Value RescuerBinding::order(const Napi::CallbackInfo &info) {
  if (rescuer_)
    rescuer_->order(word(info, 0), word(info, 1), word(info, 2), word(info, 3));
  return info.Env().Undefined();
}

// setListener(port, slot, fd)
Napi::Value RescuerBinding::set_listener(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), rescuer_->set_listener(word(info, 0), word(info, 1), number(info, 2)));
}

Napi::Value RescuerBinding::clear_listener(const Napi::CallbackInfo &info) {
  if (rescuer_)
    rescuer_->clear_listener(word(info, 0), word(info, 1));
  return info.Env().Undefined();
}

// setWorker(slot, process, channel)
Napi::Value RescuerBinding::set_worker(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), rescuer_->set_worker(word(info, 0), number(info, 1), number(info, 2)));
}

Napi::Value RescuerBinding::clear_worker(const Napi::CallbackInfo &info) {
  if (rescuer_)
    rescuer_->clear_worker(word(info, 0));
  return info.Env().Undefined();
}

// sent(port)
Napi::Value RescuerBinding::sent(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), rescuer_ ? static_cast<double>(rescuer_->sent(word(info, 0))) : 0);
}

Napi::Value RescuerBinding::close(const Napi::CallbackInfo &info) {
  rescuer_.reset();
  if (notices_)
    notices_->close();
  return info.Env().Undefined();
}

Napi::Value send_waiting_list(const Napi::CallbackInfo &info) {
  help::Order order{help::Kind::waiting_list, word(info, 1), 0, 0, monotonic_nanoseconds()};
  std::vector<int> descriptors;
  for (std::size_t index = 2; index < 5; index++)
    if (int fd = number(info, index); fd >= 0)
      descriptors.push_back(fd);
  order.most = static_cast<std::uint32_t>(descriptors.size());
  return done(info.Env(), help::send(number(info, 0), order, descriptors));
}

Napi::Value open_help_channel(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto opened = help::open();
  if (!opened.ok()) {
    throw_failure(env, opened.failure());
    return env.Undefined();
  }
  auto ends = Napi::Array::New(env, 2);
  ends[0u] = Napi::Number::New(env, opened.value().master.release());
  ends[1u] = Napi::Number::New(env, opened.value().worker.release());
  return ends;
}

} // namespace spillway
