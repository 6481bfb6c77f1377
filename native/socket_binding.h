// SPDX-License-Identifier: MIT
//
// `Socket`: one open TCP socket, owned by its JavaScript object. Closing is explicit; the finalizer is the
// safety net that also runs when a worker thread ends.
#pragma once

#include <napi.h>

#include "unique_fd.h"

namespace spillway {

class SocketBinding : public Napi::ObjectWrap<SocketBinding> {
public:
  static Napi::Function define(Napi::Env env);

  explicit SocketBinding(const Napi::CallbackInfo &info);

  int fd() const { return fd_.get(); }

private:
  Napi::Value get_fd(const Napi::CallbackInfo &info);
  Napi::Value bind(const Napi::CallbackInfo &info);
  Napi::Value listen(const Napi::CallbackInfo &info);
  Napi::Value shutdown(const Napi::CallbackInfo &info);
  Napi::Value local_endpoint(const Napi::CallbackInfo &info);
  Napi::Value get_int(const Napi::CallbackInfo &info);
  Napi::Value set_int(const Napi::CallbackInfo &info);
  Napi::Value get_text(const Napi::CallbackInfo &info);
  Napi::Value set_text(const Napi::CallbackInfo &info);
  Napi::Value accept_queue(const Napi::CallbackInfo &info);
  Napi::Value drops(const Napi::CallbackInfo &info);
  Napi::Value set_signature_key(const Napi::CallbackInfo &info);
  Napi::Value accept(const Napi::CallbackInfo &info);
  Napi::Value attach_classic(const Napi::CallbackInfo &info);
  Napi::Value detach_program(const Napi::CallbackInfo &info);
  Napi::Value release(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  UniqueFd fd_;
};

// What kind of socket a descriptor is; asked of descriptors that are not (yet) ours.
// idleSince(fd)
Napi::Value idle_since(const Napi::CallbackInfo &info);
// reset(fd)
Napi::Value reset(const Napi::CallbackInfo &info);
Napi::Value socket_kind(const Napi::CallbackInfo &info);
// The numbers of levels and options for setInt() and its kin; they differ between architectures.
Napi::Object socket_constants(Napi::Env env);

} // namespace spillway
