// SPDX-License-Identifier: MIT
//
// `Selector`: the BPF objects of one group, owned by their JavaScript object.
#pragma once

#include <napi.h>

#include <memory>

#include "selector.h"

namespace spillway {

class SelectorBinding : public Napi::ObjectWrap<SelectorBinding> {
public:
  static Napi::Function define(Napi::Env env);

  explicit SelectorBinding(const Napi::CallbackInfo &info);

private:
  Napi::Value set_config(const Napi::CallbackInfo &info);
  Napi::Value set_slot(const Napi::CallbackInfo &info);
  Napi::Value update_slot(const Napi::CallbackInfo &info);
  Napi::Value forget_worker(const Napi::CallbackInfo &info);
  Napi::Value clear_slot(const Napi::CallbackInfo &info);
  Napi::Value set_choices(const Napi::CallbackInfo &info);
  Napi::Value set_cpus(const Napi::CallbackInfo &info);
  Napi::Value set_buckets(const Napi::CallbackInfo &info);
  Napi::Value discard_everything(const Napi::CallbackInfo &info);
  Napi::Value set_sink(const Napi::CallbackInfo &info);
  Napi::Value attach(const Napi::CallbackInfo &info);
  Napi::Value count_live(const Napi::CallbackInfo &info);
  Napi::Value tag(const Napi::CallbackInfo &info);
  Napi::Value untag(const Napi::CallbackInfo &info);
  Napi::Value get_instances(const Napi::CallbackInfo &info);
  Napi::Value clear_admission(const Napi::CallbackInfo &info);
  Napi::Value set_limit(const Napi::CallbackInfo &info);
  Napi::Value admission(const Napi::CallbackInfo &info);
  Napi::Value open_claims(const Napi::CallbackInfo &info);
  Napi::Value end_claims(const Napi::CallbackInfo &info);
  Napi::Value set_waiting(const Napi::CallbackInfo &info);
  Napi::Value clear_waiting(const Napi::CallbackInfo &info);
  Napi::Value parts(const Napi::CallbackInfo &info);
  Napi::Value get_orders(const Napi::CallbackInfo &info);
  Napi::Value counters(const Napi::CallbackInfo &info);
  Napi::Value slot_counters(const Napi::CallbackInfo &info);
  Napi::Value readings(const Napi::CallbackInfo &info);
  Napi::Value explain(const Napi::CallbackInfo &info);
  Napi::Value run_time(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);

  // False after close(), with the exception already thrown.
  bool open(Napi::Env env) const;

  std::unique_ptr<Selector> selector_;
};

// createHintsMap(rows): a descriptor, which is the caller's.
Napi::Value create_hints_map(const Napi::CallbackInfo &info);
// openHintsPage(map, row): a descriptor, which is the caller's.
Napi::Value open_hints_page(const Napi::CallbackInfo &info);
// clearHintsPage(map, row)
Napi::Value clear_hints_page(const Napi::CallbackInfo &info);
Napi::Value kernel_has_cast(const Napi::CallbackInfo &info);
Napi::Value account_run_time(const Napi::CallbackInfo &info);
// The sizes, offsets and numbers of bpf/layout.h, for the test that holds lib/group/layout.ts against them.
Napi::Object layout(Napi::Env env);

} // namespace spillway
