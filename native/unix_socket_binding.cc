// SPDX-License-Identifier: MIT
#include "unix_socket_binding.h"

#include "arguments.h"
#include "errors.h"
#include "unix_socket.h"

namespace spillway {

Napi::Value peer_credentials(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto who = unix_socket::peer_credentials(number(info, 0));
  if (!who.ok()) {
    throw_failure(env, who.failure());
    return env.Undefined();
  }
  auto object = Napi::Object::New(env);
  object.Set("pid", who.value().pid);
  object.Set("uid", who.value().uid);
  object.Set("gid", who.value().gid);
  return object;
}

Napi::Value send_with_descriptor(const Napi::CallbackInfo &info) {
  auto message = info[1].As<Napi::Uint8Array>();
  int descriptor = number(info, 2);
  return done(info.Env(),
              unix_socket::send_with_descriptors(number(info, 0), message.Data(), message.ByteLength(),
                                                 &descriptor, descriptor < 0 ? 0 : 1));
}

Napi::Value exchange(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto request = info[1].As<Napi::Uint8Array>();
  auto peer = info[3].IsUndefined() ? unix_socket::anybody : number(info, 3);
  auto reply = unix_socket::exchange(text(info, 0), request.Data(), request.ByteLength(),
                                     info[2].As<Napi::Number>().Int64Value(), peer);
  if (!reply.ok()) {
    throw_failure(env, reply.failure());
    return env.Undefined();
  }
  auto &[bytes, fd] = reply.value();
  auto object = Napi::Object::New(env);
  object.Set("reply", Napi::Buffer<std::uint8_t>::Copy(env, bytes.data(), bytes.size()));
  object.Set("fd", Napi::Number::New(env, fd.release()));
  return object;
}

Napi::Value notify(const Napi::CallbackInfo &info) {
  int descriptor = info[2].IsUndefined() ? -1 : number(info, 2);
  return done(info.Env(), unix_socket::notify(text(info, 0), text(info, 1), descriptor));
}

} // namespace spillway
