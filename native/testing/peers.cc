// SPDX-License-Identifier: MIT
#include "peers.h"

#include <linux/bpf.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <memory>

#include "../errors.h"
#include "../socket.h"

namespace spillway::testing {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<AddressList> resolve(const Target &target) {
  addrinfo hints{};
  addrinfo *found = nullptr;
  hints.ai_family = target.family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (getaddrinfo(target.address.c_str(), std::to_string(target.port).c_str(), &hints, &found) != 0)
    return Failure{EINVAL, "getaddrinfo", target.address};
  return AddressList(found, freeaddrinfo);
}

// The connection may be there when this returns: on loopback the handshake happens inside connect().
Result<UniqueFd> start_connection(const addrinfo &address) {
  auto fd = socket::create(address.ai_family);
  if (!fd.ok())
    return fd;
  // A refusal on loopback is known at once, and is the socket's state, not a failure of the test.
  if (::connect(fd.value().get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS &&
      errno != ECONNREFUSED && errno != ECONNRESET)
    return Failure::last("connect");
  return fd;
}

Result<tcp_info> information(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return Failure::last("getsockopt(TCP_INFO)");
  return info;
}

// Sockets belong to the file system user of the thread that creates them.
class AsUser {
public:
  explicit AsUser(int uid) : changed_(uid >= 0) {
    if (changed_)
      before_ = ::setfsuid(static_cast<uid_t>(uid));
  }
  ~AsUser() {
    if (changed_)
      ::setfsuid(static_cast<uid_t>(before_));
  }
  AsUser(const AsUser &) = delete;
  AsUser &operator=(const AsUser &) = delete;

private:
  bool changed_;
  int before_ = 0;
};

Result<UniqueFd> create_as(int uid, int family, bool tcp) {
  AsUser user(uid);
  if (tcp)
    return socket::create(family);
  UniqueFd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid())
    return Failure::last("socket");
  return fd;
}

std::int64_t monotonic_nanoseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

} // namespace

Result<std::vector<Client>> connect_many(const Target &target, std::size_t count) {
  auto address = resolve(target);
  if (!address.ok())
    return address.failure();
  std::vector<Client> clients;
  for (std::size_t index = 0; index < count; index++) {
    auto fd = start_connection(*address.value());
    if (!fd.ok())
      return fd.failure();
    clients.push_back(Client{std::move(fd.value()), {}});
  }
  for (auto &client : clients)
    client.state = state_of(client.fd.get());
  return clients;
}

std::string state_of(int fd) {
  auto info = information(fd);
  if (!info.ok())
    return error_name(info.failure().error);
  switch (info.value().tcpi_state) {
  case TCP_SYN_SENT:
    return "inProgress";
  case TCP_ESTABLISHED:
    return "established";
  case TCP_CLOSE_WAIT:
    return "ended";
  default:
    auto error = socket::get_int(fd, SOL_SOCKET, SO_ERROR);
    return error.ok() && error.value() != 0 ? error_name(error.value()) : "closed";
  }
}

Result<std::uint32_t> retransmissions(int fd) {
  auto info = information(fd);
  if (!info.ok())
    return info.failure();
  return static_cast<std::uint32_t>(info.value().tcpi_total_retrans);
}

void close_with_reset(int fd) {
  linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  ::close(fd);
}

Result<std::int64_t> time_connections(const Target &target, std::size_t count) {
  auto address = resolve(target);
  if (!address.ok())
    return address.failure();
  std::int64_t start = monotonic_nanoseconds();
  for (std::size_t index = 0; index < count; index++) {
    auto fd = start_connection(*address.value());
    if (!fd.ok())
      return fd.failure();
    close_with_reset(fd.value().release());
  }
  return monotonic_nanoseconds() - start;
}

Result<UniqueFd> open_listener(const ListenerOptions &options) {
  const Target &target = options.target;
  auto fd = create_as(options.uid, target.family, options.tcp);
  if (!fd.ok())
    return fd;
  if (options.reuse_port) {
    auto set = socket::set_int(fd.value().get(), SOL_SOCKET, SO_REUSEPORT, 1);
    if (!set.ok())
      return set.failure();
  }
  auto bound = socket::bind(fd.value().get(), Endpoint{target.address, target.port, target.family});
  if (!bound.ok())
    return bound.failure();
  if (options.backlog >= 0) {
    auto listening = socket::listen(fd.value().get(), options.backlog);
    if (!listening.ok())
      return listening.failure();
  }
  return fd;
}

Result<std::vector<UniqueFd>> accept_many(int listener, std::size_t most) {
  std::vector<UniqueFd> connections;
  while (connections.size() < most) {
    auto connection = socket::accept(listener);
    if (!connection.ok())
      return connection.failure();
    if (!connection.value().valid())
      break;
    connections.push_back(std::move(connection.value()));
  }
  return connections;
}

Result<UniqueFd> attach_empty_program(int listener) {
  bpf_insn pass{};
  pass.code = BPF_ALU64 | BPF_MOV | BPF_K;
  pass.imm = SK_PASS;
  bpf_insn leave{};
  leave.code = BPF_JMP | BPF_EXIT;
  const bpf_insn program[] = {pass, leave};
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_SK_REUSEPORT;
  load.insns = reinterpret_cast<std::uintptr_t>(program);
  load.insn_cnt = 2;
  load.license = reinterpret_cast<std::uintptr_t>("MIT");
  UniqueFd fd(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load))));
  if (!fd.valid())
    return Failure::last("bpf(PROG_LOAD)");
  auto attached = socket::set_int(listener, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, fd.get());
  if (!attached.ok())
    return attached.failure();
  return fd;
}

Result<> send_text(int fd, const std::string &text) {
  ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0)
    return Failure::last("send");
  if (static_cast<std::size_t>(sent) != text.size())
    return Failure{EMSGSIZE, "send", "the send buffer is too small for the test's text"};
  return Done{};
}

Received receive_text(int fd) {
  Received received;
  char buffer[4096];
  for (;;) {
    ssize_t length = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (length > 0) {
      received.text.append(buffer, static_cast<std::size_t>(length));
      continue;
    }
    if (length == 0)
      received.ended = true;
    else if (errno != EAGAIN && errno != EWOULDBLOCK)
      received.error = error_name(errno);
    return received;
  }
}

} // namespace spillway::testing
