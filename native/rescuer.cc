// SPDX-License-Identifier: MIT
#include "rescuer.h"

#include <bpf/libbpf.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "bpf/layout.h"
#include "clock.h"
#include "help.h"
#include "socket.h"

namespace spillway {
namespace {

// The events of a port carry its number; this is the one that ends the thread.
constexpr std::uint64_t stop_event = ~std::uint64_t{0};

// Connections that one worker takes for one order. It serves each before it takes the next, and is asked
// again while there are more.
constexpr std::uint32_t most_at_a_time = 64;

// Nanoseconds: the longest that the kernel knows.
constexpr std::uint64_t slice_behind = 100'000'000;

} // namespace

Rescuer::Port::~Port() { ring_buffer__free(orders); }

Result<std::unique_ptr<Rescuer>> Rescuer::start(std::function<void(Notice)> tell) {
  std::unique_ptr<Rescuer> rescuer(new Rescuer);
  rescuer->tell_ = std::move(tell);
  rescuer->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!rescuer->epoll_.valid())
    return Failure::last("epoll_create1");
  rescuer->stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!rescuer->stop_.valid())
    return Failure::last("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = stop_event;
  if (::epoll_ctl(rescuer->epoll_.get(), EPOLL_CTL_ADD, rescuer->stop_.get(), &event) != 0)
    return Failure::last("epoll_ctl");
  // A signal of the process must not end up there, where it interrupts nothing.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = ::pthread_create(
      &rescuer->thread_, nullptr,
      [](void *data) -> void * {
        static_cast<Rescuer *>(data)->run();
        return nullptr;
      },
      rescuer.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0)
    return Failure{error, "pthread_create", {}};
  rescuer->running_ = true;
  return rescuer;
}

Rescuer::~Rescuer() {
  if (!running_)
    return;
  std::uint64_t one = 1;
  ssize_t written = ::write(stop_.get(), &one, sizeof(one));
  static_cast<void>(written); // it can only fail when it is full, which is as good
  ::pthread_join(thread_, nullptr);
  for (auto &[slot, worker] : workers_)
    come_back(worker);
}

Result<> Rescuer::add_port(std::uint32_t number, int ring) {
  remove_port(number);
  auto port = std::make_unique<Port>();
  port->rescuer = this;
  port->number = number;
  if (ring < 0) {
    std::lock_guard lock(mutex_);
    ports_[number] = std::move(port);
    return Done{};
  }
  port->orders = ring_buffer__new(
      ring,
      [](void *context, void *data, std::size_t size) {
        auto *owner = static_cast<Port *>(context);
        auto *order = static_cast<const spillway_order *>(data);
        if (size >= sizeof(*order))
          owner->rescuer->carry_out(*owner, *order);
        return 0;
      },
      port.get(), nullptr);
  if (!port->orders)
    return Failure::last("ring_buffer__new");
  std::lock_guard lock(mutex_);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = number;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, ring_buffer__epoll_fd(port->orders), &event) != 0)
    return Failure::last("epoll_ctl");
  ports_[number] = std::move(port);
  return Done{};
}

void Rescuer::remove_port(std::uint32_t number) {
  std::lock_guard lock(mutex_);
  auto found = ports_.find(number);
  if (found == ports_.end())
    return;
  if (found->second->orders)
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, ring_buffer__epoll_fd(found->second->orders), nullptr);
  ports_.erase(found);
  // Nobody may be left to see that they have come back. Another port's orders may come too late then.
  for (auto &[slot, worker] : workers_)
    come_back(worker);
}

void Rescuer::order(std::uint32_t number, std::uint32_t from, std::uint32_t to, std::uint32_t waiting) {
  std::lock_guard lock(mutex_);
  auto port = ports_.find(number);
  if (port != ports_.end())
    carry_out(*port->second, {SPILLWAY_ORDER_HELP, to, from, waiting});
}

Result<> Rescuer::set_listener(std::uint32_t number, std::uint32_t slot, int fd) {
  auto duplicate = socket::duplicate(fd);
  if (!duplicate.ok())
    return duplicate.failure();
  std::lock_guard lock(mutex_);
  auto port = ports_.find(number);
  if (port != ports_.end())
    port->second->listeners[slot] = std::move(duplicate.value());
  return Done{};
}

void Rescuer::clear_listener(std::uint32_t number, std::uint32_t slot) {
  std::lock_guard lock(mutex_);
  auto port = ports_.find(number);
  if (port != ports_.end())
    port->second->listeners.erase(slot);
}

Result<> Rescuer::set_worker(std::uint32_t slot, pid_t process, int channel) {
  UniqueFd own;
  if (channel >= 0) {
    auto duplicate = socket::duplicate(channel);
    if (!duplicate.ok())
      return duplicate.failure();
    own = std::move(duplicate.value());
  }
  std::lock_guard lock(mutex_);
  forget_worker(slot);
  workers_.emplace(slot, Worker{process, std::move(own), std::nullopt});
  return Done{};
}

void Rescuer::clear_worker(std::uint32_t slot) {
  std::lock_guard lock(mutex_);
  forget_worker(slot);
}

// With the mutex held.
void Rescuer::forget_worker(std::uint32_t slot) {
  auto worker = workers_.find(slot);
  if (worker == workers_.end())
    return;
  come_back(worker->second);
  workers_.erase(worker);
}

std::uint64_t Rescuer::sent(std::uint32_t number) const {
  std::lock_guard lock(mutex_);
  auto port = sent_.find(number);
  return port == sent_.end() ? 0 : port->second;
}

void Rescuer::run() {
  ::pthread_setname_np(::pthread_self(), "spillway-rescue");
  for (;;) {
    epoll_event events[8];
    int count = ::epoll_wait(epoll_.get(), events, 8, -1);
    if (count < 0 && errno != EINTR)
      return;
    std::lock_guard lock(mutex_);
    for (int index = 0; index < count; index++) {
      if (events[index].data.u64 == stop_event)
        return;
      auto port = ports_.find(static_cast<std::uint32_t>(events[index].data.u64));
      if (port != ports_.end() && port->second->orders)
        ring_buffer__consume(port->second->orders);
    }
  }
}

// With the mutex held. What cannot be sent is left: the connections stay where they are, and are offered
// again.
void Rescuer::carry_out(const Port &port, const spillway_order &order) {
  if (order.kind == SPILLWAY_ORDER_WANTED || order.kind == SPILLWAY_ORDER_EXPIRED) {
    tell_({port.number, order.kind});
    return;
  }
  auto worker = workers_.find(order.slot);
  if (worker == workers_.end())
    return;
  switch (order.kind) {
  case SPILLWAY_ORDER_HELP:
    help(port, worker->second, order);
    break;
  case SPILLWAY_ORDER_STAND_BACK:
    stand_back(worker->second);
    break;
  case SPILLWAY_ORDER_COME_BACK:
    come_back(worker->second);
    break;
  }
}

void Rescuer::help(const Port &port, const Worker &worker, const spillway_order &order) {
  auto listener = port.listeners.find(order.from);
  if (listener == port.listeners.end() || !worker.channel.valid())
    return;
  help::Order sent{help::Kind::help, port.number, std::min(order.waiting, most_at_a_time), 0,
                   monotonic_nanoseconds()};
  if (help::send(worker.channel.get(), sent, {listener->second.get()}).ok())
    sent_[port.number]++;
}

// A worker that has gone, or is another user's, cannot be moved, which does no harm.
void Rescuer::stand_back(Worker &worker) {
  if (worker.own_slice)
    return;
  auto own = slice::read(worker.process);
  // What it starts meanwhile has nothing to do with it.
  if (own.ok() && own.value() && slice::set(worker.process, {slice_behind, false}).ok())
    worker.own_slice = own.value();
}

void Rescuer::come_back(Worker &worker) {
  if (worker.own_slice)
    slice::set(worker.process, *std::exchange(worker.own_slice, std::nullopt));
}

} // namespace spillway
