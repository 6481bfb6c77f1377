// SPDX-License-Identifier: MIT
#include "socket_binding.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>

#include "arguments.h"
#include "errors.h"
#include "socket.h"

namespace spillway {

Napi::Function SocketBinding::define(Napi::Env env) {
  return DefineClass(env, "Socket",
                     {
                         InstanceAccessor<&SocketBinding::get_fd>("fd"),
                         InstanceMethod<&SocketBinding::bind>("bind"),
                         InstanceMethod<&SocketBinding::listen>("listen"),
                         InstanceMethod<&SocketBinding::shutdown>("shutdown"),
                         InstanceMethod<&SocketBinding::local_endpoint>("localEndpoint"),
                         InstanceMethod<&SocketBinding::get_int>("getInt"),
                         InstanceMethod<&SocketBinding::set_int>("setInt"),
                         InstanceMethod<&SocketBinding::get_text>("getText"),
                         InstanceMethod<&SocketBinding::set_text>("setText"),
                         InstanceMethod<&SocketBinding::accept_queue>("acceptQueue"),
                         InstanceMethod<&SocketBinding::drops>("drops"),
                         InstanceMethod<&SocketBinding::set_signature_key>("setSignatureKey"),
                         InstanceMethod<&SocketBinding::accept>("accept"),
                         InstanceMethod<&SocketBinding::attach_classic>("attachClassic"),
                         InstanceMethod<&SocketBinding::detach_program>("detachProgram"),
                         InstanceMethod<&SocketBinding::release>("release"),
                         InstanceMethod<&SocketBinding::close>("close"),
                     });
}

// new Socket('create', family) opens one; new Socket('duplicate', fd) makes a second name for an open one.
SocketBinding::SocketBinding(const Napi::CallbackInfo &info) : Napi::ObjectWrap<SocketBinding>(info) {
  int argument = number(info, 1);
  auto made = text(info, 0) == "create" ? socket::create(argument == 6 ? AF_INET6 : AF_INET)
                                        : socket::duplicate(argument);
  if (!made.ok()) {
    throw_failure(info.Env(), made.failure());
    return;
  }
  fd_ = std::move(made.value());
}

Napi::Value SocketBinding::get_fd(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), fd());
}

Napi::Value SocketBinding::bind(const Napi::CallbackInfo &info) {
  Endpoint endpoint{text(info, 0), number(info, 1), number(info, 2) == 6 ? AF_INET6 : AF_INET};
  return done(info.Env(), socket::bind(fd(), endpoint));
}

Napi::Value SocketBinding::listen(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::listen(fd(), number(info, 0)));
}

Napi::Value SocketBinding::shutdown(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::shutdown(fd()));
}

Napi::Value SocketBinding::local_endpoint(const Napi::CallbackInfo &info) {
  auto endpoint = socket::local_endpoint(fd());
  if (!endpoint.ok()) {
    throw_failure(info.Env(), endpoint.failure());
    return info.Env().Undefined();
  }
  auto object = Napi::Object::New(info.Env());
  object.Set("address", endpoint.value().address);
  object.Set("port", endpoint.value().port);
  object.Set("family", endpoint.value().family == AF_INET6 ? 6 : 4);
  return object;
}

Napi::Value SocketBinding::get_int(const Napi::CallbackInfo &info) {
  auto value = socket::get_int(fd(), number(info, 0), number(info, 1));
  if (value.ok())
    return Napi::Number::New(info.Env(), value.value());
  throw_failure(info.Env(), value.failure());
  return info.Env().Undefined();
}

Napi::Value SocketBinding::set_int(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::set_int(fd(), number(info, 0), number(info, 1), number(info, 2)));
}

Napi::Value SocketBinding::get_text(const Napi::CallbackInfo &info) {
  auto value = socket::get_text(fd(), number(info, 0), number(info, 1));
  if (value.ok())
    return Napi::String::New(info.Env(), value.value());
  throw_failure(info.Env(), value.failure());
  return info.Env().Undefined();
}

Napi::Value SocketBinding::set_text(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::set_text(fd(), number(info, 0), number(info, 1), text(info, 2)));
}

Napi::Value SocketBinding::accept_queue(const Napi::CallbackInfo &info) {
  auto queue = socket::accept_queue(fd());
  if (!queue.ok()) {
    throw_failure(info.Env(), queue.failure());
    return info.Env().Undefined();
  }
  if (!queue.value().listening)
    return info.Env().Undefined();
  auto object = Napi::Object::New(info.Env());
  object.Set("length", queue.value().length);
  object.Set("limit", queue.value().limit);
  return object;
}

Napi::Value SocketBinding::drops(const Napi::CallbackInfo &info) {
  auto count = socket::drops(fd());
  if (count.ok())
    return Napi::Number::New(info.Env(), count.value());
  throw_failure(info.Env(), count.failure());
  return info.Env().Undefined();
}

Napi::Value SocketBinding::set_signature_key(const Napi::CallbackInfo &info) {
  Endpoint peers{text(info, 0), 0, number(info, 1) == 6 ? AF_INET6 : AF_INET};
  auto bytes = info[3].As<Napi::Uint8Array>();
  std::vector<std::uint8_t> key(bytes.Data(), bytes.Data() + bytes.ByteLength());
  return done(info.Env(), socket::set_signature_key(fd(), peers, number(info, 2), key));
}

// The descriptor is the caller's from here on; -1 when nobody waits.
Napi::Value SocketBinding::accept(const Napi::CallbackInfo &info) {
  auto connection = socket::accept(fd());
  if (connection.ok())
    return Napi::Number::New(info.Env(), connection.value().release());
  throw_failure(info.Env(), connection.failure());
  return info.Env().Undefined();
}

// A Uint32Array with two words per instruction: code << 16 | jt << 8 | jf, and k.
Napi::Value SocketBinding::attach_classic(const Napi::CallbackInfo &info) {
  auto words = info[0].As<Napi::Uint32Array>();
  std::vector<sock_filter> program;
  for (std::size_t index = 0; index + 1 < words.ElementLength(); index += 2) {
    std::uint32_t head = words[index];
    program.push_back(sock_filter{static_cast<std::uint16_t>(head >> 16),
                                  static_cast<std::uint8_t>(head >> 8), static_cast<std::uint8_t>(head),
                                  words[index + 1]});
  }
  return done(info.Env(), socket::attach_classic(fd(), program));
}

Napi::Value SocketBinding::detach_program(const Napi::CallbackInfo &info) {
  return done(info.Env(), socket::detach_program(fd()));
}

// The descriptor is the caller's from here on.
Napi::Value SocketBinding::release(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), fd_.release());
}

Napi::Value SocketBinding::close(const Napi::CallbackInfo &info) {
  fd_.reset();
  return info.Env().Undefined();
}

Napi::Value idle_since(const Napi::CallbackInfo &info) {
  auto milliseconds = socket::idle_since(number(info, 0));
  if (milliseconds.ok())
    return Napi::Number::New(info.Env(), milliseconds.value());
  throw_failure(info.Env(), milliseconds.failure());
  return info.Env().Undefined();
}

Napi::Value reset(const Napi::CallbackInfo &info) {
  socket::reset(UniqueFd(number(info, 0)));
  return info.Env().Undefined();
}

Napi::Value socket_kind(const Napi::CallbackInfo &info) {
  SocketKind kind = socket::kind(number(info, 0));
  auto object = Napi::Object::New(info.Env());
  object.Set("isSocket", kind.is_socket);
  object.Set("isTcp", kind.is_socket && kind.type == SOCK_STREAM && kind.protocol == IPPROTO_TCP &&
                          (kind.family == AF_INET || kind.family == AF_INET6));
  object.Set("listening", kind.listening);
  object.Set("reusePort", kind.reuse_port);
  return object;
}

Napi::Object socket_constants(Napi::Env env) {
  auto constants = Napi::Object::New(env);
#define CONSTANT(name) constants.Set(#name, static_cast<double>(name))
  CONSTANT(SOL_SOCKET);
  CONSTANT(SO_REUSEADDR);
  CONSTANT(SO_REUSEPORT);
  CONSTANT(SO_KEEPALIVE);
  CONSTANT(SO_RCVBUF);
  CONSTANT(SO_SNDBUF);
  CONSTANT(SO_BINDTODEVICE);
  CONSTANT(SO_BUSY_POLL);
  CONSTANT(IPPROTO_IP);
  CONSTANT(IP_TOS);
  CONSTANT(IP_FREEBIND);
  CONSTANT(IPPROTO_IPV6);
  CONSTANT(IPV6_V6ONLY);
  CONSTANT(IPV6_TCLASS);
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
  CONSTANT(IPV6_FREEBIND);
  CONSTANT(IPPROTO_TCP);
  CONSTANT(TCP_NODELAY);
  CONSTANT(TCP_KEEPIDLE);
  CONSTANT(TCP_KEEPINTVL);
  CONSTANT(TCP_KEEPCNT);
  CONSTANT(TCP_USER_TIMEOUT);
  CONSTANT(TCP_CONGESTION);
  CONSTANT(TCP_NOTSENT_LOWAT);
  CONSTANT(TCP_DEFER_ACCEPT);
  CONSTANT(TCP_FASTOPEN);
#undef CONSTANT
  return constants;
}

} // namespace spillway
