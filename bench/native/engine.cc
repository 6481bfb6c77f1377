// SPDX-License-Identifier: MIT
#include "engine.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace bench {
namespace {

// Events taken at once: few enough that what falls due meanwhile is not late by much.
constexpr int kEvents = 64;
// No processor gets more answers on new connections than this per millisecond: a closed load has room for so
// many records.
constexpr std::int64_t kMostPerMillisecond = 100;
// A connection of a closed load rests after a failure: all of them together fail this often at most.
constexpr std::int64_t kFailuresPerMillisecond = 50;
// Descriptors that are not connections: the standard ones and the epoll set, with some to spare.
constexpr std::uint64_t kOtherDescriptors = 16;
// A share of processor time over less than this says nothing.
constexpr std::int64_t kShortestForShare = 10 * kMillisecond;

// With an explicit source the kernel would choose a port at bind(2), without regard to the target: so each
// source would have its ports once instead of once per target, and none that is in TIME_WAIT.
bool bind_to_source(int fd, in_addr source) {
  const int yes = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = source;
  return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes) == 0 &&
         bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0;
}

// What an error before the connection was established says about the service.
Outcome unconnected(int error) {
  switch (error) {
  case ECONNREFUSED:
    return Outcome::kRefused;
  case ETIMEDOUT:
    return Outcome::kConnectTimeout;
  case ECONNRESET:
  case EPIPE:
    return Outcome::kReset;
  default:
    return Outcome::kNotSent;
  }
}

Protocol protocol_of(const std::string &request) {
  return !request.empty() && request.front() == '/' ? Protocol::kLine : Protocol::kHttp;
}

} // namespace

Result<std::unique_ptr<Engine>> Engine::make(const Plan &plan, std::uint64_t descriptors) {
  std::unique_ptr<Engine> engine(new Engine(plan));
  engine->epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!engine->epoll_.valid())
    return Failure::last("epoll_create1");

  std::uint64_t most = descriptors > kOtherDescriptors ? descriptors - kOtherDescriptors : 0;
  std::uint64_t slots = plan.concurrency;
  if (plan.mode == Mode::kConnections || plan.mode == Mode::kHold)
    slots = std::min<std::uint64_t>(most, plan.arrivals.size());
  if (slots > most)
    return Failure{0, "more connections than descriptors",
                   std::to_string(slots) + " and " + std::to_string(most)};
  engine->slots_.resize(slots);
  engine->stashes_.reset(new char[slots * kLongestAnswer]);
  engine->ready_.reserve(slots);

  if (engine->closed_loop()) {
    engine->capacity_ = static_cast<std::uint32_t>(plan.span / kMillisecond * kMostPerMillisecond + slots);
    engine->records_.reset(new Record[engine->capacity_]);
    engine->resting_.resize(slots);
    engine->rest_ = static_cast<std::int64_t>(slots / kFailuresPerMillisecond + 1) * kMillisecond;
  } else {
    engine->capacity_ = static_cast<std::uint32_t>(plan.arrivals.size());
    engine->records_.reset(new Record[engine->capacity_]);
    for (std::uint32_t i = 0; i < engine->capacity_; i++) {
      const Arrival &arrival = plan.arrivals[i];
      engine->records_[i] = {arrival.due,       kNever,      kNever, kNever, kNever, 0, kNobody,
                             Outcome::kPending, arrival.kind};
    }
  }
  if (!engine->closed_loop() && !engine->keeps_connections()) {
    for (auto slot = static_cast<std::uint32_t>(slots); slot > 0; slot--)
      engine->free_.push_back(slot - 1);
  }
  engine->holding_ = plan.mode == Mode::kHold;
  return engine;
}

Result<> Engine::run(std::int64_t start) {
  std::array<epoll_event, kEvents> events;
  start_ = start;
  while (monotonic() < start) {
    timespec left = to_timespec(start - monotonic());
    clock_nanosleep(CLOCK_MONOTONIC, 0, &left, nullptr);
  }
  processor_time_at_start_ = read_clock(CLOCK_PROCESS_CPUTIME_ID);
  look_at_clock();
  if (closed_loop()) {
    for (std::uint32_t slot = 0; slot < slots_.size(); slot++)
      ready_.push_back({slot, kNoRequest});
  }
  for (;;) {
    take_up_due();
    give_up_overdue();
    close_held();
    if (failure_.syscall != nullptr)
      return failure_;
    if (over())
      break;
    timespec wait = to_timespec(next_deadline() - monotonic());
    int count = epoll_pwait2(epoll_.get(), events.data(), kEvents, &wait, nullptr);
    if (count < 0 && errno != EINTR)
      return Failure::last("epoll_pwait2");
    look_at_clock();
    // What falls due between two events does not wait for the last of them.
    for (int i = 0; i < count; i++) {
      on_event(events[static_cast<std::size_t>(i)].data.u32);
      take_up_due();
    }
  }
  for (std::uint32_t slot = 0; slot < slots_.size(); slot++)
    slots_[slot].fd.reset();
  if (busy_ < 0)
    note_busy();
  return Done{};
}

// Begins what is due, in its order, and what waited for a connection that is free now.
void Engine::take_up_due() {
  serve_ready();
  if (closed_loop()) {
    take_up_in_closed_loop();
    return;
  }
  while (taken_ < capacity_ && due_at(taken_) <= now_) {
    take_up(taken_++);
    serve_ready();
    if (taken_ == capacity_)
      note_busy();
  }
}

void Engine::take_up(std::uint32_t request) {
  look_at_clock();
  records_[request].begun = since_due(request);
  pending_++;
  if (keeps_connections()) {
    std::uint32_t slot = request % plan_.concurrency;
    // The one before it is pending: it is served after that, in finish().
    if (slots_[slot].request == kNoRequest)
      start_on(slot, request);
    return;
  }
  if (free_.empty()) {
    finish_unsent(request);
    return;
  }
  std::uint32_t slot = free_.back();
  free_.pop_back();
  start_on(slot, request);
}

// Wakes the connections that have rested.
void Engine::take_up_in_closed_loop() {
  while (resting_count_ > 0 && resting_[first_resting_].until <= now_) {
    ready_.push_back({resting_[first_resting_].slot, kNoRequest});
    first_resting_ = (first_resting_ + 1) % resting_.size();
    resting_count_--;
    serve_ready();
  }
  if (busy_ < 0 && now_ >= start_ + plan_.span)
    note_busy();
}

void Engine::serve_ready() {
  while (!ready_.empty()) {
    auto [slot, next] = ready_.back();
    ready_.pop_back();
    if (!closed_loop()) {
      start_on(slot, next);
      continue;
    }
    look_at_clock();
    if (now_ >= start_ + plan_.span)
      continue;
    if (taken_ == capacity_) {
      failure_ = {0, "more requests than a closed load has room for", {}};
      return;
    }
    std::uint32_t request = taken_++;
    records_[request] = {now_ - start_,     0,         kNever, kNever, kNever, slot, kNobody,
                         Outcome::kPending, plan_.kind};
    pending_++;
    start_on(slot, request);
  }
}

void Engine::start_on(std::uint32_t number, std::uint32_t request) {
  Slot &slot = slots_[number];
  slot.request = request;
  slot.held = 0;
  records_[request].slot = number;
  if (!slot.fd.valid()) {
    open(number);
    return;
  }
  const std::string &text = plan_.requests[records_[request].kind];
  if (send(slot.fd.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size())) {
    records_[request].connected = 0;
    return;
  }
  // The other end closed it while nothing was under way, which only was not noticed yet.
  close(number);
  open(number);
}

void Engine::open(std::uint32_t number) {
  Slot &slot = slots_[number];
  slot.fd.reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const std::vector<in_addr> &sources = plan_.sources;
  if (!slot.fd.valid() ||
      (!sources.empty() && !bind_to_source(slot.fd.get(), sources[opened_++ % sources.size()]))) {
    finish(number, Outcome::kNotSent);
    return;
  }
  int result = connect(slot.fd.get(), reinterpret_cast<const sockaddr *>(&plan_.target), sizeof plan_.target);
  int error = errno;
  look_at_clock();
  if (result != 0 && error != EINPROGRESS) {
    finish(number, unconnected(error));
    return;
  }
  slot.connecting = true;
  // On loopback the handshake is over by now, although connect(2) cannot tell.
  establish(number);
  if (slot.fd.valid())
    watch(number, EPOLL_CTL_ADD, slot.connecting ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

// Sends the request, which fails with EAGAIN for as long as the handshake goes on.
void Engine::establish(std::uint32_t number) {
  Slot &slot = slots_[number];
  Record &record = records_[slot.request];
  const std::string &text = plan_.requests[record.kind];
  ssize_t sent = send(slot.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
  if (sent == static_cast<ssize_t>(text.size())) {
    slot.connecting = false;
    record.connected = since_due(slot.request);
  } else if (sent >= 0) {
    finish(number, Outcome::kNotSent);
  } else if (errno != EAGAIN) {
    Outcome outcome = unconnected(errno);
    // It was established before it broke.
    if (outcome == Outcome::kReset)
      record.connected = since_due(slot.request);
    finish(number, outcome);
  }
}

void Engine::watch(std::uint32_t number, int operation, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u32 = number;
  if (epoll_ctl(epoll_.get(), operation, slots_[number].fd.get(), &event) != 0)
    failure_ = Failure::last("epoll_ctl");
}

// What the event says is not asked: the connection may have been replaced since, and the calls tell the
// truth.
void Engine::on_event(std::uint32_t number) {
  Slot &slot = slots_[number];
  if (!slot.fd.valid())
    return;
  look_at_clock();
  if (slot.connecting) {
    establish(number);
    if (slot.fd.valid() && !slot.connecting)
      watch(number, EPOLL_CTL_MOD, EPOLLIN);
    return;
  }
  ssize_t got = recv(slot.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (got < 0 && errno == EAGAIN)
    return;
  if (slot.request == kNoRequest) {
    // Nothing was asked: it is the end, or something that makes the connection useless.
    close(number);
    if (!closed_loop() && !keeps_connections())
      free_.push_back(number);
    return;
  }
  if (got < 0)
    finish(number, Outcome::kReset);
  else
    on_bytes(number, {buffer_.data(), static_cast<std::size_t>(got)}, got == 0);
}

void Engine::on_bytes(std::uint32_t number, std::string_view bytes, bool ended) {
  Slot &slot = slots_[number];
  Record &record = records_[slot.request];
  if (record.first_byte == kNever && !ended)
    record.first_byte = since_due(slot.request);
  std::string_view text = bytes;
  if (slot.held > 0) {
    std::size_t room = kLongestAnswer - slot.held;
    std::copy_n(bytes.data(), std::min(bytes.size(), room), stash(number) + slot.held);
    text = {stash(number), slot.held + std::min(bytes.size(), room)};
  }
  Answer answer = read_answer(protocol_of(plan_.requests[record.kind]), text, ended);
  if (answer.state == Answer::kComplete) {
    record.worker = workers_.number_of(answer.worker);
    finish(number, Outcome::kOk, answer.last);
  } else if (answer.state == Answer::kBad) {
    finish(number, Outcome::kBadAnswer);
  } else if (ended) {
    finish(number, Outcome::kReset);
  } else if (text.size() == kLongestAnswer) {
    finish(number, Outcome::kBadAnswer);
  } else {
    if (slot.held == 0)
      std::copy(text.begin(), text.end(), stash(number));
    slot.held = static_cast<std::uint16_t>(text.size());
  }
}

void Engine::finish(std::uint32_t number, Outcome outcome, bool last) {
  Slot &slot = slots_[number];
  std::uint32_t request = slot.request;
  Record &record = records_[request];
  record.outcome = outcome;
  record.ended = since_due(request);
  pending_--;
  slot.request = kNoRequest;
  bool good = outcome == Outcome::kOk;
  if (!good || last || !(keeps_connections() || holding_))
    close(number);
  switch (plan_.mode) {
  case Mode::kConnections:
  case Mode::kHold:
    if (!slot.fd.valid())
      free_.push_back(number);
    break;
  case Mode::kKeepAlive: {
    std::uint64_t next = std::uint64_t{request} + plan_.concurrency;
    if (next < taken_)
      ready_.push_back({number, static_cast<std::uint32_t>(next)});
    break;
  }
  case Mode::kClosed:
    if (good)
      ready_.push_back({number, kNoRequest});
    else
      resting_[(first_resting_ + resting_count_++) % resting_.size()] = {now_ + rest_, number};
  }
}

// No descriptor is left for it.
void Engine::finish_unsent(std::uint32_t request) {
  Record &record = records_[request];
  record.outcome = Outcome::kNotSent;
  record.ended = since_due(request);
  pending_--;
}

void Engine::close(std::uint32_t number) {
  slots_[number].fd.reset();
  slots_[number].connecting = false;
}

void Engine::give_up_overdue() {
  for (; oldest_ < taken_; oldest_++) {
    Record &record = records_[oldest_];
    if (record.outcome != Outcome::kPending)
      continue;
    if (due_at(oldest_) + plan_.timeout > now_)
      return;
    // On a connection that stays, the one before it was due no later and has been given up: it is its turn.
    bool connected = record.connected != kNever;
    finish(record.slot, connected ? Outcome::kUnanswered : Outcome::kConnectTimeout);
    serve_ready();
  }
}

// From the end of the load on, a connection that was to be held is closed as soon as it is answered.
void Engine::close_held() {
  if (!holding_ || now_ < start_ + plan_.span)
    return;
  holding_ = false;
  for (std::uint32_t number = 0; number < slots_.size(); number++) {
    if (slots_[number].request != kNoRequest || !slots_[number].fd.valid())
      continue;
    close(number);
    free_.push_back(number);
  }
}

bool Engine::over() const {
  if (pending_ > 0 || holding_)
    return false;
  return closed_loop() ? now_ >= start_ + plan_.span : taken_ == capacity_;
}

// When something is to be done although nothing happens.
std::int64_t Engine::next_deadline() const {
  std::int64_t next = INT64_MAX;
  if (!closed_loop() && taken_ < capacity_)
    next = due_at(taken_);
  if (oldest_ < taken_)
    next = std::min(next, due_at(oldest_) + plan_.timeout);
  if (resting_count_ > 0)
    next = std::min(next, resting_[first_resting_].until);
  if (holding_ || (closed_loop() && now_ < start_ + plan_.span))
    next = std::min(next, start_ + plan_.span);
  return next;
}

void Engine::note_busy() {
  std::int64_t wall = now_ - start_;
  // Too soon: it is noted at the end then.
  if (wall < kShortestForShare && !over())
    return;
  auto used = static_cast<double>(read_clock(CLOCK_PROCESS_CPUTIME_ID) - processor_time_at_start_);
  busy_ = wall > 0 ? std::min(1.0, used / static_cast<double>(wall)) : 0;
}

} // namespace bench
