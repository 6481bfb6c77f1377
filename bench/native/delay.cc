// SPDX-License-Identifier: MIT
//
// spillway-bench-delay: a network with a delay, made of two interfaces that this process stands between. One
// is in the caller's network namespace, where the servers are, the other in a new one, for the clients. A
// packet that leaves through either comes out of the other after half the round trip, in order.
//
//   spillway-bench-delay PARENT CPU HALF SERVER CLIENT...
//
// PARENT is the process id of whoever started it: it does not outlive that. CPU is the processor it is bound
// to, -1 for any; HALF the delay of one direction in nanoseconds; the others are IPv4 addresses in one
// network of 24 bits. It writes "ready" and a line feed when packets flow, and ends, interfaces and namespace
// with it, when stdin is closed: with 1 when packets were lost, which it says on stderr.
#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "machine.h"
#include "tunnel.h"

namespace {

using namespace bench;

constexpr int kPrefix = 24;

// Before the load generator: a packet that waits for its own processor is late for both sides.
constexpr int kPriority = 2;

// What a tunnel's packet has room for: its MTU, 1500 by default.
constexpr std::size_t kLongestPacket = 1500;

// Packets under way in one direction. At 20 ms of delay so many mean 800,000 packets per second.
constexpr std::size_t kPackets = 16'384;

// Packets taken from one side before the other side is looked at.
constexpr int kBatch = 64;

struct Packet {
  std::int64_t due;
  std::uint16_t length;
  std::array<char, kLongestPacket> bytes;
};

// Packets from one interface on their way to the other; they leave in the order they came.
class Direction {
public:
  Direction(int from, int to, std::int64_t delay) : from_(from), to_(to), delay_(delay), ring_(kPackets) {}

  // Takes what has come in, as far as there is room for it.
  Result<> take() {
    for (int i = 0; i < kBatch; i++) {
      Packet &packet = count_ < kPackets ? ring_[(first_ + count_) % kPackets] : spare_;
      ssize_t length = read(from_, packet.bytes.data(), packet.bytes.size());
      if (length < 0)
        return errno == EAGAIN ? Result<>(Done{}) : Result<>(Failure::last("read"));
      if (count_ == kPackets) {
        lost_++;
        continue;
      }
      packet.due = monotonic() + delay_;
      packet.length = static_cast<std::uint16_t>(length);
      count_++;
    }
    return Done{};
  }

  void deliver(std::int64_t now) {
    while (count_ > 0 && ring_[first_].due <= now) {
      const Packet &packet = ring_[first_];
      if (write(to_, packet.bytes.data(), packet.length) != packet.length)
        lost_++;
      first_ = (first_ + 1) % kPackets;
      count_--;
    }
  }

  std::int64_t next_due() const { return count_ > 0 ? ring_[first_].due : INT64_MAX; }
  std::uint64_t lost() const { return lost_; }

private:
  int from_;
  int to_;
  std::int64_t delay_;
  std::vector<Packet> ring_;
  Packet spare_{}; // where a packet goes that there is no room for
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t lost_ = 0;
};

struct Order {
  int parent;
  int cpu;
  std::int64_t half;
  in_addr server;
  std::vector<in_addr> clients;
};

template <typename T> bool read_number(const char *text, T &value) {
  const char *end = text + std::strlen(text);
  auto [rest, error] = std::from_chars(text, end, value);
  return error == std::errc{} && rest == end;
}

Result<Order> read_order(int argc, char **argv) {
  const Failure usage{0, "usage: spillway-bench-delay PARENT CPU HALF SERVER CLIENT...", {}};
  Order order{};
  if (argc < 6 || !read_number(argv[1], order.parent) || !read_number(argv[2], order.cpu) ||
      !read_number(argv[3], order.half) || order.half < 0 || inet_pton(AF_INET, argv[4], &order.server) != 1)
    return usage;
  for (int i = 5; i < argc; i++) {
    in_addr client{};
    if (inet_pton(AF_INET, argv[i], &client) != 1)
      return usage;
    order.clients.push_back(client);
  }
  return order;
}

// Carries packets until stdin is closed.
Result<> carry(Direction &there, Direction &back, int servers, int clients) {
  std::array<pollfd, 3> sources{{{servers, POLLIN, 0}, {clients, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}}};
  for (;;) {
    std::int64_t now = monotonic();
    there.deliver(now);
    back.deliver(now);
    std::int64_t next = std::min(there.next_due(), back.next_due());
    timespec wait = to_timespec(next - monotonic());
    if (ppoll(sources.data(), sources.size(), next == INT64_MAX ? nullptr : &wait, nullptr) < 0 &&
        errno != EINTR)
      return Failure::last("ppoll");
    if (sources[2].revents != 0)
      return Done{};
    for (auto [direction, source] : {std::pair{&back, &sources[0]}, std::pair{&there, &sources[1]}}) {
      if (source->revents == 0)
        continue;
      Result<> taken = direction->take();
      if (!taken.ok())
        return taken;
    }
  }
}

Result<> run(const Order &order) {
  if (order.cpu >= 0) {
    Result<> bound = bind_to_processor(order.cpu);
    if (!bound.ok())
      return bound;
  }
  Result<Tunnel> servers = Tunnel::open({order.server}, kPrefix);
  if (!servers.ok())
    return servers.failure();
  if (unshare(CLONE_NEWNET) != 0)
    return Failure::last("unshare(CLONE_NEWNET)");
  Result<> loopback = bring_up("lo");
  if (!loopback.ok())
    return loopback;
  Result<Tunnel> clients = Tunnel::open(order.clients, kPrefix);
  if (!clients.ok())
    return clients.failure();

  Direction there(clients.value().fd(), servers.value().fd(), order.half);
  Direction back(servers.value().fd(), clients.value().fd(), order.half);
  stay_in_memory();
  take_real_time(kPriority);
  if (write(STDOUT_FILENO, "ready\n", 6) != 6)
    return Failure::last("write");
  Result<> carried = carry(there, back, servers.value().fd(), clients.value().fd());
  if (!carried.ok())
    return carried;

  std::uint64_t lost = there.lost() + back.lost();
  for (const Tunnel *tunnel : {&servers.value(), &clients.value()}) {
    Result<std::uint64_t> dropped = tunnel->dropped();
    if (!dropped.ok())
      return dropped.failure();
    lost += dropped.value();
  }
  if (lost > 0)
    return Failure{0, "packets were lost", std::to_string(lost)};
  return Done{};
}

} // namespace

int main(int argc, char **argv) {
  Result<Order> order = read_order(argc, argv);
  if (!order.ok())
    give_up(order.failure());
  if (!die_with_parent(order.value().parent))
    give_up({0, "the process that started it has gone", {}});
  Result<> result = run(order.value());
  if (!result.ok())
    give_up(result.failure());
  return EXIT_SUCCESS;
}
