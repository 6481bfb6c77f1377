// SPDX-License-Identifier: MIT
//
// The face of the addon that only tests and benchmarks load: plain synchronous functions, described in
// test/support/testing.ts.
#include <napi.h>

#include <unistd.h>

#include <cstdio>
#include <limits>

#include "../errors.h"
#include "../slice.h"
#include "../socket.h"
#include "network.h"
#include "peers.h"

#include <sys/socket.h>

namespace spillway::testing {
namespace {

int number(const Napi::Value &value, int otherwise = -1) {
  return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : otherwise;
}

std::string text(const Napi::Value &value) { return value.As<Napi::String>().Utf8Value(); }

Napi::Value fail(Napi::Env env, const Failure &failure) {
  throw_failure(env, failure);
  return env.Undefined();
}

Target target_from(const Napi::Object &options) {
  return Target{text(options.Get("address")), number(options.Get("port")),
                number(options.Get("family")) == 6 ? AF_INET6 : AF_INET};
}

std::vector<int> numbers(const Napi::Value &value) {
  auto list = value.As<Napi::Array>();
  std::vector<int> result;
  for (std::uint32_t index = 0; index < list.Length(); index++)
    result.push_back(number(list.Get(index)));
  return result;
}

Napi::Value to_array(Napi::Env env, std::vector<UniqueFd> &fds) {
  auto list = Napi::Array::New(env, fds.size());
  for (std::uint32_t index = 0; index < fds.size(); index++)
    list.Set(index, Napi::Number::New(env, fds[index].release()));
  return list;
}

Napi::Value js_unshare_network(const Napi::CallbackInfo &info) { return done(info.Env(), unshare_network()); }

Napi::Value js_add_ipv6_address(const Napi::CallbackInfo &info) {
  return done(info.Env(), add_ipv6_address(text(info[0]), text(info[1])));
}

Napi::Value js_connect_many(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  auto options = info[0].As<Napi::Object>();
  auto hold = options.Get("hold");
  auto clients = connect_many(target_from(options), static_cast<std::size_t>(number(options.Get("count"))));
  if (!clients.ok())
    return fail(env, clients.failure());
  bool close = hold.IsBoolean() && !hold.As<Napi::Boolean>().Value();
  auto list = Napi::Array::New(env, clients.value().size());
  std::uint32_t index = 0;
  for (auto &client : clients.value()) {
    auto entry = Napi::Object::New(env);
    int fd = client.fd.release();
    if (close)
      close_with_reset(fd);
    entry.Set("fd", close ? -1 : fd);
    entry.Set("state", client.state);
    list.Set(index++, entry);
  }
  return list;
}

Napi::Value js_poll_established(const Napi::CallbackInfo &info) {
  auto fds = numbers(info[0]);
  auto list = Napi::Array::New(info.Env(), fds.size());
  for (std::uint32_t index = 0; index < fds.size(); index++)
    list.Set(index, state_of(fds[index]));
  return list;
}

Napi::Value js_retransmissions(const Napi::CallbackInfo &info) {
  double sum = 0;
  for (int fd : numbers(info[0])) {
    auto count = retransmissions(fd);
    if (!count.ok())
      return fail(info.Env(), count.failure());
    sum += count.value();
  }
  return Napi::Number::New(info.Env(), sum);
}

Napi::Value js_close_many(const Napi::CallbackInfo &info) {
  for (int fd : numbers(info[0]))
    close_with_reset(fd);
  return info.Env().Undefined();
}

Napi::Value js_time_connections(const Napi::CallbackInfo &info) {
  auto options = info[0].As<Napi::Object>();
  auto took = time_connections(target_from(options), static_cast<std::size_t>(number(options.Get("count"))));
  if (!took.ok())
    return fail(info.Env(), took.failure());
  return Napi::Number::New(info.Env(), static_cast<double>(took.value()));
}

Napi::Value js_open_listener(const Napi::CallbackInfo &info) {
  auto given = info[0].As<Napi::Object>();
  ListenerOptions options;
  options.target = target_from(given);
  options.tcp = !given.Has("type") || text(given.Get("type")) == "tcp";
  options.reuse_port = given.Get("reusePort").ToBoolean();
  options.backlog = number(given.Get("backlog"));
  options.uid = number(given.Get("uid"));
  auto fd = open_listener(options);
  if (!fd.ok())
    return fail(info.Env(), fd.failure());
  return Napi::Number::New(info.Env(), fd.value().release());
}

Napi::Value js_accept_many(const Napi::CallbackInfo &info) {
  auto most = static_cast<std::size_t>(number(info[1], std::numeric_limits<int>::max()));
  auto connections = accept_many(number(info[0]), most);
  if (!connections.ok())
    return fail(info.Env(), connections.failure());
  return to_array(info.Env(), connections.value());
}

Napi::Value js_attach_empty_program(const Napi::CallbackInfo &info) {
  auto program = attach_empty_program(number(info[0]));
  if (!program.ok())
    return fail(info.Env(), program.failure());
  return Napi::Number::New(info.Env(), program.value().release());
}

Napi::Value js_send(const Napi::CallbackInfo &info) {
  return done(info.Env(), send_text(number(info[0]), text(info[1])));
}

Napi::Value js_receive(const Napi::CallbackInfo &info) {
  auto received = receive_text(number(info[0]));
  auto object = Napi::Object::New(info.Env());
  object.Set("text", received.text);
  object.Set("ended", received.ended);
  if (!received.error.empty())
    object.Set("error", received.error);
  return object;
}

Napi::Value js_duplicate(const Napi::CallbackInfo &info) {
  auto copy = socket::duplicate(number(info[0]));
  if (!copy.ok())
    return fail(info.Env(), copy.failure());
  return Napi::Number::New(info.Env(), copy.value().release());
}

Napi::Value js_listen(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::listen(number(info[0]), number(info[1])));
}

Napi::Value js_shutdown(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::shutdown(number(info[0])));
}

// sliceOf(process)
Napi::Value js_slice_of(const Napi::CallbackInfo &info) {
  auto own = slice::read(number(info[0]));
  if (!own.ok())
    return fail(info.Env(), own.failure());
  return Napi::Number::New(info.Env(), own.value() ? static_cast<double>(own.value()->nanoseconds) : 0);
}

Napi::Object define(Napi::Env env, Napi::Object exports) {
#define FUNCTION(name, function) exports.Set(name, Napi::Function::New<function>(env, name))
  FUNCTION("unshareNetwork", js_unshare_network);
  FUNCTION("addIpv6Address", js_add_ipv6_address);
  FUNCTION("connectMany", js_connect_many);
  FUNCTION("pollEstablished", js_poll_established);
  FUNCTION("retransmissions", js_retransmissions);
  FUNCTION("closeMany", js_close_many);
  FUNCTION("timeConnections", js_time_connections);
  FUNCTION("openListener", js_open_listener);
  FUNCTION("acceptMany", js_accept_many);
  FUNCTION("attachEmptyProgram", js_attach_empty_program);
  FUNCTION("send", js_send);
  FUNCTION("receive", js_receive);
  FUNCTION("duplicate", js_duplicate);
  FUNCTION("listen", js_listen);
  FUNCTION("shutdown", js_shutdown);
  FUNCTION("sliceOf", js_slice_of);
#undef FUNCTION
  return exports;
}

} // namespace
} // namespace spillway::testing

using spillway::testing::define;
NODE_API_MODULE(spillway_testing, define)
