// SPDX-License-Identifier: MIT
#include "rescuer_binding.h"

#include <utility>

#include "arguments.h"
#include "errors.h"
#include "help.h"

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

RescuerBinding::RescuerBinding(const Napi::CallbackInfo &info) : Napi::ObjectWrap<RescuerBinding>(info) {
  auto started = Rescuer::start();
  if (started.ok())
    rescuer_ = std::move(started.value());
  else
    throw_failure(info.Env(), started.failure());
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
  return info.Env().Undefined();
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
