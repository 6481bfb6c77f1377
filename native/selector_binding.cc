// SPDX-License-Identifier: MIT
#include "selector_binding.h"

#include <algorithm>
#include <cstddef>
#include <memory>

#include "arguments.h"
#include "errors.h"
#include "socket_binding.h"

namespace spillway {
namespace {

std::uint32_t word(const Napi::CallbackInfo &info, std::size_t index) {
  return info[index].As<Napi::Number>().Uint32Value();
}

std::uint32_t field(const Napi::Object &object, const char *name) {
  return object.Get(name).As<Napi::Number>().Uint32Value();
}

int socket_fd(const Napi::CallbackInfo &info, std::size_t index) {
  return SocketBinding::Unwrap(info[index].As<Napi::Object>())->fd();
}

spillway_slot slot_row(const Napi::Object &object) {
  spillway_slot row{};
  row.limit = field(object, "limit");
  row.weight = field(object, "weight");
  row.flags = field(object, "flags");
  row.address = field(object, "address");
  row.hints = field(object, "hints");
  row.instance = field(object, "instance");
  return row;
}

// Counters as doubles: exact up to 2^53, which a connection per nanosecond reaches after a hundred days.
template <typename Row> Napi::Value as_doubles(Napi::Env env, const Row *rows, std::size_t count) {
  constexpr std::size_t words = sizeof(Row) / sizeof(std::uint64_t);
  auto array = Napi::Float64Array::New(env, count * words);
  // A worker thread that is being terminated gets no memory for new values any more.
  if (array.IsEmpty() || array.Data() == nullptr)
    return env.Undefined();
  auto *from = reinterpret_cast<const std::uint64_t *>(rows);
  for (std::size_t index = 0; index < count * words; index++)
    array[index] = static_cast<double>(from[index]);
  return array;
}

} // namespace

Napi::Function SelectorBinding::define(Napi::Env env) {
  return DefineClass(env, "Selector",
                     {
                         InstanceMethod<&SelectorBinding::set_config>("setConfig"),
                         InstanceMethod<&SelectorBinding::set_slot>("setSlot"),
                         InstanceMethod<&SelectorBinding::update_slot>("updateSlot"),
                         InstanceMethod<&SelectorBinding::forget_worker>("forgetWorker"),
                         InstanceMethod<&SelectorBinding::clear_slot>("clearSlot"),
                         InstanceMethod<&SelectorBinding::set_choices>("setChoices"),
                         InstanceMethod<&SelectorBinding::set_cpus>("setCpus"),
                         InstanceMethod<&SelectorBinding::set_buckets>("setBuckets"),
                         InstanceMethod<&SelectorBinding::count_live>("countLive"),
                         InstanceMethod<&SelectorBinding::tag>("tag"),
                         InstanceMethod<&SelectorBinding::untag>("untag"),
                         InstanceAccessor<&SelectorBinding::get_instances>("instances"),
                         InstanceMethod<&SelectorBinding::clear_admission>("clearAdmission"),
                         InstanceMethod<&SelectorBinding::set_limit>("setLimit"),
                         InstanceMethod<&SelectorBinding::admission>("admission"),
                         InstanceMethod<&SelectorBinding::open_claims>("openClaims"),
                         InstanceMethod<&SelectorBinding::end_claims>("endClaims"),
                         InstanceMethod<&SelectorBinding::set_waiting>("setWaiting"),
                         InstanceMethod<&SelectorBinding::clear_waiting>("clearWaiting"),
                         InstanceMethod<&SelectorBinding::parts>("parts"),
                         InstanceAccessor<&SelectorBinding::get_orders>("orders"),
                         InstanceMethod<&SelectorBinding::discard_everything>("discardEverything"),
                         InstanceMethod<&SelectorBinding::set_sink>("setSink"),
                         InstanceMethod<&SelectorBinding::attach>("attach"),
                         InstanceMethod<&SelectorBinding::counters>("counters"),
                         InstanceMethod<&SelectorBinding::slot_counters>("slotCounters"),
                         InstanceMethod<&SelectorBinding::readings>("readings"),
                         InstanceMethod<&SelectorBinding::explain>("explain"),
                         InstanceMethod<&SelectorBinding::run_time>("runTime"),
                         InstanceMethod<&SelectorBinding::close>("close"),
                     });
}

SelectorBinding::SelectorBinding(const Napi::CallbackInfo &info) : Napi::ObjectWrap<SelectorBinding>(info) {
  auto object = info[0].As<Napi::Object>();
  Selector::Options options;
  options.capacity = field(object, "capacity");
  options.sockmap = object.Get("sockmap").ToBoolean();
  options.read_by_cast = object.Get("readByCast").ToBoolean();
  options.explain = object.Get("explain").ToBoolean();
  options.hints = object.Get("hints").As<Napi::Number>().Int32Value();
  auto parts = object.Get("parts").As<Napi::Object>();
  auto names = parts.GetPropertyNames();
  for (std::uint32_t index = 0; index < names.Length(); index++) {
    std::string name = Napi::Value(names[index]).As<Napi::String>().Utf8Value();
    options.parts[name] = parts.Get(name).As<Napi::Number>().Int32Value();
  }
  auto loaded = Selector::load(options);
  if (!loaded.ok()) {
    throw_failure(info.Env(), loaded.failure());
    return;
  }
  selector_ = std::move(loaded.value());
}

bool SelectorBinding::open(Napi::Env env) const {
  if (!selector_)
    throw_failure(env, Failure{EBADF, "selector", "it was closed"});
  return selector_ != nullptr;
}

Napi::Value SelectorBinding::set_config(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto object = info[0].As<Napi::Object>();
  spillway_config config{};
  config.slots = field(object, "slots");
  config.policy = field(object, "policy");
  config.overflow = field(object, "overflow");
  config.migrate = field(object, "migrate");
  config.rank_by_young = field(object, "rankByYoung");
  config.equal = field(object, "equal");
  config.rescue = field(object, "rescue");
  config.tick = field(object, "tick");
  config.fresh = field(object, "fresh");
  config.reserve = field(object, "reserve");
  config.exclusive = field(object, "exclusive");
  config.waiting_limit = field(object, "waitingLimit");
  config.patience = field(object, "patience");
  config.track = field(object, "track");
  return done(info.Env(), selector_->set_config(config));
}

Napi::Value SelectorBinding::set_slot(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto row = slot_row(info[2].As<Napi::Object>());
  return done(info.Env(), selector_->set_slot(word(info, 0), socket_fd(info, 1), row));
}

Napi::Value SelectorBinding::update_slot(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->update_slot(word(info, 0), slot_row(info[1].As<Napi::Object>())));
}

Napi::Value SelectorBinding::forget_worker(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->forget_worker(word(info, 0)));
}

Napi::Value SelectorBinding::clear_slot(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->clear_slot(word(info, 0)));
}

// A Uint32Array with threshold and alias in turn.
Napi::Value SelectorBinding::set_choices(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto words = info[0].As<Napi::Uint32Array>();
  std::vector<spillway_choice> choices;
  for (std::size_t index = 0; index + 1 < words.ElementLength(); index += 2)
    choices.push_back(spillway_choice{words[index], words[index + 1]});
  return done(info.Env(), selector_->set_choices(choices));
}

// Two Uint32Arrays: for each CPU where its part of the second begins and how long it is, in turn; and the
// slots.
Napi::Value SelectorBinding::set_cpus(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto words = info[0].As<Napi::Uint32Array>();
  auto placed = info[1].As<Napi::Uint32Array>();
  std::vector<spillway_cpu> cpus;
  for (std::size_t index = 0; index + 1 < words.ElementLength(); index += 2)
    cpus.push_back(spillway_cpu{words[index], words[index + 1]});
  std::vector<std::uint32_t> slots(placed.Data(), placed.Data() + placed.ElementLength());
  return done(info.Env(), selector_->set_cpus(cpus, slots));
}

// A Uint32Array with the slot of each bucket.
Napi::Value SelectorBinding::set_buckets(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto words = info[0].As<Napi::Uint32Array>();
  auto buckets = std::make_unique<spillway_buckets>();
  for (std::size_t index = 0; index < words.ElementLength() && index < SPILLWAY_BUCKETS; index++)
    buckets->slot[index] = words[index];
  return done(info.Env(), selector_->set_buckets(*buckets));
}

Napi::Value SelectorBinding::count_live(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->count_live());
}

// tag(socket, instance)
Napi::Value SelectorBinding::tag(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->tag(socket_fd(info, 0), word(info, 1)));
}

// untag(socket)
Napi::Value SelectorBinding::untag(const Napi::CallbackInfo &info) {
  if (selector_)
    selector_->untag(socket_fd(info, 0));
  return info.Env().Undefined();
}

Napi::Value SelectorBinding::get_instances(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), selector_ ? selector_->instances() : 0);
}

// clearAdmission(instance, limit)
Napi::Value SelectorBinding::clear_admission(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->clear_admission(word(info, 0), word(info, 1)));
}

// setLimit(instance, limit)
Napi::Value SelectorBinding::set_limit(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->set_limit(word(info, 0), word(info, 1)));
}

// admission(instance)
Napi::Value SelectorBinding::admission(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->admission(word(info, 0));
  if (!result.ok()) {
    throw_failure(info.Env(), result.failure());
    return info.Env().Undefined();
  }
  auto object = Napi::Object::New(info.Env());
  object.Set("open", result.value().open);
  object.Set("promised", result.value().promised);
  return object;
}

// openClaims(instance): both descriptors are the caller's. The key is exact as a double is: a cookie counts
// sockets.
Napi::Value SelectorBinding::open_claims(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->open_claims(word(info, 0));
  if (!result.ok()) {
    throw_failure(info.Env(), result.failure());
    return info.Env().Undefined();
  }
  auto object = Napi::Object::New(info.Env());
  object.Set("sender", result.value().sender.release());
  object.Set("receiver", result.value().receiver.release());
  object.Set("key", static_cast<double>(result.value().key));
  return object;
}

Napi::Value SelectorBinding::end_claims(const Napi::CallbackInfo &info) {
  if (selector_)
    selector_->end_claims(static_cast<std::uint64_t>(info[0].As<Napi::Number>().DoubleValue()));
  return info.Env().Undefined();
}

Napi::Value SelectorBinding::set_waiting(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->set_waiting(socket_fd(info, 0)));
}

Napi::Value SelectorBinding::clear_waiting(const Napi::CallbackInfo &info) {
  if (selector_)
    selector_->clear_waiting();
  return info.Env().Undefined();
}

// parts(): descriptors by name, which stay the selector's.
Napi::Value SelectorBinding::parts(const Napi::CallbackInfo &info) {
  auto object = Napi::Object::New(info.Env());
  if (selector_)
    for (const auto &[name, fd] : selector_->parts())
      object.Set(name, fd);
  return object;
}

Napi::Value SelectorBinding::get_orders(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), selector_ ? selector_->orders() : -1);
}

Napi::Value SelectorBinding::discard_everything(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->discard_everything(socket_fd(info, 0)));
}

Napi::Value SelectorBinding::set_sink(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->set_sink(socket_fd(info, 0)));
}

Napi::Value SelectorBinding::attach(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  return done(info.Env(), selector_->attach(socket_fd(info, 0)));
}

Napi::Value SelectorBinding::counters(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->counters();
  if (result.ok())
    return as_doubles(info.Env(), &result.value(), 1);
  throw_failure(info.Env(), result.failure());
  return info.Env().Undefined();
}

Napi::Value SelectorBinding::slot_counters(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->slot_counters(word(info, 0));
  if (result.ok())
    return as_doubles(info.Env(), result.value().data(), result.value().size());
  throw_failure(info.Env(), result.failure());
  return info.Env().Undefined();
}

Napi::Value SelectorBinding::readings(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->readings(word(info, 0));
  if (!result.ok()) {
    throw_failure(info.Env(), result.failure());
    return info.Env().Undefined();
  }
  constexpr std::size_t words = sizeof(spillway_reading) / sizeof(std::uint32_t);
  auto &rows = result.value();
  auto array = Napi::Uint32Array::New(info.Env(), rows.size() * words);
  // As above.
  if (array.IsEmpty() || array.Data() == nullptr)
    return info.Env().Undefined();
  auto *from = reinterpret_cast<const std::uint32_t *>(rows.data());
  std::copy(from, from + rows.size() * words, array.Data());
  return array;
}

// explain(hash, source, turn, cpu, warm)
Napi::Value SelectorBinding::explain(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result =
      selector_->explain({word(info, 0), word(info, 1), word(info, 2), word(info, 3), word(info, 4)});
  if (!result.ok()) {
    throw_failure(info.Env(), result.failure());
    return info.Env().Undefined();
  }
  auto object = Napi::Object::New(info.Env());
  object.Set("first", result.value().first);
  object.Set("chosen", result.value().chosen);
  return object;
}

Napi::Value SelectorBinding::run_time(const Napi::CallbackInfo &info) {
  if (!open(info.Env()))
    return info.Env().Undefined();
  auto result = selector_->run_time();
  if (!result.ok()) {
    throw_failure(info.Env(), result.failure());
    return info.Env().Undefined();
  }
  auto object = Napi::Object::New(info.Env());
  object.Set("runs", static_cast<double>(result.value().runs));
  object.Set("nanoseconds", static_cast<double>(result.value().nanoseconds));
  return object;
}

Napi::Value SelectorBinding::close(const Napi::CallbackInfo &info) {
  if (selector_)
    selector_->release_sockets();
  selector_.reset();
  return info.Env().Undefined();
}

Napi::Value create_hints_map(const Napi::CallbackInfo &info) {
  auto fd = Selector::create_hints(word(info, 0));
  if (fd.ok())
    return Napi::Number::New(info.Env(), fd.value().release());
  throw_failure(info.Env(), fd.failure());
  return info.Env().Undefined();
}

Napi::Value open_hints_page(const Napi::CallbackInfo &info) {
  auto fd = Selector::open_hints(number(info, 0), word(info, 1));
  if (fd.ok())
    return Napi::Number::New(info.Env(), fd.value().release());
  throw_failure(info.Env(), fd.failure());
  return info.Env().Undefined();
}

Napi::Value clear_hints_page(const Napi::CallbackInfo &info) {
  Selector::clear_hints(number(info, 0), word(info, 1));
  return info.Env().Undefined();
}

Napi::Value kernel_has_cast(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), Selector::kernel_has_cast());
}

// The descriptor is the caller's; accounting ends when it is closed.
Napi::Value account_run_time(const Napi::CallbackInfo &info) {
  auto fd = Selector::account_run_time();
  if (fd.ok())
    return Napi::Number::New(info.Env(), fd.value().release());
  throw_failure(info.Env(), fd.failure());
  return info.Env().Undefined();
}

Napi::Object layout(Napi::Env env) {
  auto object = Napi::Object::New(env);
#define NUMBER(name) object.Set(#name, static_cast<double>(name))
#define OFFSET(type, member) object.Set(#type "." #member, static_cast<double>(offsetof(struct type, member)))
#define SIZE(type) object.Set("sizeof " #type, static_cast<double>(sizeof(struct type)))
  NUMBER(SPILLWAY_MAX_SLOTS);
  NUMBER(SPILLWAY_POLICY_HASH);
  NUMBER(SPILLWAY_POLICY_TWO_CHOICES);
  NUMBER(SPILLWAY_POLICY_LEAST_QUEUE);
  NUMBER(SPILLWAY_POLICY_IDLE_FIRST);
  NUMBER(SPILLWAY_POLICY_WEIGHTED);
  NUMBER(SPILLWAY_POLICY_STICKY);
  NUMBER(SPILLWAY_POLICY_LOCAL_CPU);
  NUMBER(SPILLWAY_POLICY_LEAST_CONNECTIONS);
  NUMBER(SPILLWAY_MAX_CPUS);
  NUMBER(SPILLWAY_BUCKETS);
  NUMBER(SPILLWAY_OVERFLOW_DROP);
  NUMBER(SPILLWAY_OVERFLOW_RESET);
  NUMBER(SPILLWAY_OVERFLOW_WAIT);
  NUMBER(SPILLWAY_KIND_SYN);
  NUMBER(SPILLWAY_KIND_COOKIE_ACK);
  NUMBER(SPILLWAY_KIND_MIGRATION);
  NUMBER(SPILLWAY_KIND_STRAY);
  NUMBER(SPILLWAY_KINDS);
  NUMBER(SPILLWAY_OUTCOME_FIRST);
  NUMBER(SPILLWAY_OUTCOME_REDIRECTED);
  NUMBER(SPILLWAY_OUTCOME_DROPPED);
  NUMBER(SPILLWAY_OUTCOME_RESET);
  NUMBER(SPILLWAY_OUTCOME_FAILED);
  NUMBER(SPILLWAY_OUTCOME_WAITING);
  NUMBER(SPILLWAY_OUTCOMES);
  NUMBER(SPILLWAY_SLOT_ENABLED);
  NUMBER(SPILLWAY_SLOT_HELPS);
  SIZE(spillway_slot_counters);
  OFFSET(spillway_slot_counters, syn);
  OFFSET(spillway_slot_counters, cookie_ack);
  OFFSET(spillway_slot_counters, migrated);
  OFFSET(spillway_slot_counters, redirected_in);
  OFFSET(spillway_slot_counters, redirected_out);
  SIZE(spillway_counters);
  OFFSET(spillway_counters, decisions);
  OFFSET(spillway_counters, stale);
  SIZE(spillway_reading);
  OFFSET(spillway_reading, queue);
  OFFSET(spillway_reading, half_open);
  OFFSET(spillway_reading, young);
  OFFSET(spillway_reading, own_limit);
  OFFSET(spillway_reading, standing);
  OFFSET(spillway_reading, readiness);
  OFFSET(spillway_reading, load);
  OFFSET(spillway_reading, open);
  OFFSET(spillway_reading, promised);
  NUMBER(SPILLWAY_ABSENT);
  NUMBER(SPILLWAY_LIMITED);
  NUMBER(SPILLWAY_DISABLED);
  NUMBER(SPILLWAY_FULL);
  NUMBER(SPILLWAY_ROOM);
  NUMBER(SPILLWAY_FREE);
  NUMBER(SPILLWAY_LEAVING);
  NUMBER(SPILLWAY_LATE);
  NUMBER(SPILLWAY_RUNNING);
  NUMBER(SPILLWAY_IDLE);
  SIZE(spillway_choice);
  OFFSET(spillway_choice, threshold);
  OFFSET(spillway_choice, alias);
#undef NUMBER
#undef OFFSET
#undef SIZE
  return object;
}

} // namespace spillway
