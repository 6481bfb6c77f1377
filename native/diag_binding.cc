// SPDX-License-Identifier: MIT
#include "diag_binding.h"

#include "diag.h"
#include "errors.h"

namespace spillway {

Napi::Value sockets_at(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  Endpoint endpoint{info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::Number>().Int32Value(),
                    info[2].As<Napi::Number>().Int32Value() == 6 ? AF_INET6 : AF_INET};
  auto found = diag::sockets_at(endpoint, info[3].As<Napi::Number>().Uint32Value());
  if (!found.ok()) {
    throw_failure(env, found.failure());
    return env.Undefined();
  }
  auto list = Napi::Array::New(env, found.value().size());
  std::uint32_t index = 0;
  for (const auto &[inode, uid, peer] : found.value()) {
    auto row = Napi::Object::New(env);
    row.Set("inode", inode);
    row.Set("uid", uid);
    row.Set("peer", peer);
    list.Set(index++, row);
  }
  return list;
}

} // namespace spillway
