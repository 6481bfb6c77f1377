// SPDX-License-Identifier: MIT
#include "socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>

namespace spillway {
namespace {

struct RawAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Result<RawAddress> to_raw(const Endpoint &endpoint) {
  RawAddress raw;
  std::string host = endpoint.address;
  unsigned scope = 0;
  auto percent = host.find('%');
  if (percent != std::string::npos) {
    std::string name = host.substr(percent + 1);
    host.resize(percent);
    scope = if_nametoindex(name.c_str());
    if (scope == 0) {
      char *end = nullptr;
      scope = static_cast<unsigned>(std::strtoul(name.c_str(), &end, 10));
      if (end == name.c_str() || *end != '\0')
        return Failure{ENODEV, "if_nametoindex", name};
    }
  }
  if (endpoint.family == AF_INET6) {
    auto *in6 = reinterpret_cast<sockaddr_in6 *>(&raw.storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(static_cast<uint16_t>(endpoint.port));
    in6->sin6_scope_id = scope;
    raw.length = sizeof(*in6);
    if (inet_pton(AF_INET6, host.c_str(), &in6->sin6_addr) != 1)
      return Failure{EINVAL, "inet_pton", endpoint.address};
  } else {
    auto *in = reinterpret_cast<sockaddr_in *>(&raw.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(static_cast<uint16_t>(endpoint.port));
    raw.length = sizeof(*in);
    if (inet_pton(AF_INET, host.c_str(), &in->sin_addr) != 1)
      return Failure{EINVAL, "inet_pton", endpoint.address};
  }
  return raw;
}

} // namespace

namespace socket {

Result<UniqueFd> create(int family) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd.valid())
    return Failure::last("socket");
  return fd;
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy.valid())
    return Failure::last("fcntl(F_DUPFD_CLOEXEC)");
  return copy;
}

Result<> bind(int fd, const Endpoint &endpoint) {
  auto raw = to_raw(endpoint);
  if (!raw.ok())
    return raw.failure();
  if (::bind(fd, reinterpret_cast<sockaddr *>(&raw.value().storage), raw.value().length) != 0)
    return Failure::last("bind");
  return Done{};
}

Result<> listen(int fd, int backlog) {
  if (::listen(fd, backlog) != 0)
    return Failure::last("listen");
  return Done{};
}

Result<> shutdown(int fd) {
  if (::shutdown(fd, SHUT_RD) != 0 && errno != ENOTCONN)
    return Failure::last("shutdown");
  return Done{};
}

Result<Endpoint> local_endpoint(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr *>(&storage), &length) != 0)
    return Failure::last("getsockname");
  Endpoint endpoint;
  char text[INET6_ADDRSTRLEN] = {};
  endpoint.family = storage.ss_family;
  if (storage.ss_family == AF_INET6) {
    auto *in6 = reinterpret_cast<sockaddr_in6 *>(&storage);
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
    endpoint.address = text;
    if (in6->sin6_scope_id != 0) {
      char name[IF_NAMESIZE] = {};
      endpoint.address += '%';
      endpoint.address +=
          if_indextoname(in6->sin6_scope_id, name) ? std::string(name) : std::to_string(in6->sin6_scope_id);
    }
    endpoint.port = ntohs(in6->sin6_port);
  } else if (storage.ss_family == AF_INET) {
    auto *in = reinterpret_cast<sockaddr_in *>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
    endpoint.address = text;
    endpoint.port = ntohs(in->sin_port);
  } else {
    return Failure{EAFNOSUPPORT, "getsockname", {}};
  }
  return endpoint;
}

SocketKind kind(int fd) {
  SocketKind kind;
  auto type = get_int(fd, SOL_SOCKET, SO_TYPE);
  if (!type.ok())
    return kind;
  kind.is_socket = true;
  kind.type = type.value();
  auto asked = [fd](int name) {
    auto answer = get_int(fd, SOL_SOCKET, name);
    return answer.ok() ? answer.value() : 0;
  };
  kind.family = asked(SO_DOMAIN);
  kind.protocol = asked(SO_PROTOCOL);
  kind.listening = asked(SO_ACCEPTCONN) != 0;
  kind.reuse_port = asked(SO_REUSEPORT) != 0;
  return kind;
}

Result<std::uint64_t> cookie(int fd) {
  std::uint64_t value = 0;
  socklen_t length = sizeof(value);
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &value, &length) != 0)
    return Failure::last("getsockopt(SO_COOKIE)");
  return value;
}

Result<int> get_int(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof(value);
  if (::getsockopt(fd, level, name, &value, &length) != 0)
    return Failure::last("getsockopt");
  return value;
}

Result<> set_int(int fd, int level, int name, int value) {
  if (::setsockopt(fd, level, name, &value, sizeof(value)) != 0)
    return Failure::last("setsockopt");
  return Done{};
}

Result<std::string> get_text(int fd, int level, int name) {
  char text[64] = {};
  socklen_t length = sizeof(text);
  if (::getsockopt(fd, level, name, text, &length) != 0)
    return Failure::last("getsockopt");
  return std::string(text, strnlen(text, length));
}

Result<> set_text(int fd, int level, int name, const std::string &value) {
  if (::setsockopt(fd, level, name, value.c_str(), static_cast<socklen_t>(value.size())) != 0)
    return Failure::last("setsockopt");
  return Done{};
}

Result<AcceptQueue> accept_queue(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return Failure::last("getsockopt(TCP_INFO)");
  if (info.tcpi_state != TCP_LISTEN)
    return AcceptQueue{};
  return AcceptQueue{true, info.tcpi_unacked, info.tcpi_sacked};
}

Result<std::uint32_t> idle_since(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return Failure::last("getsockopt(TCP_INFO)");
  return info.tcpi_last_data_sent;
}

void reset(UniqueFd fd) {
  linger at_once{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

Result<std::uint32_t> drops(int fd) {
  std::uint32_t values[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof(values);
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &length) != 0)
    return Failure::last("getsockopt(SO_MEMINFO)");
  return values[SK_MEMINFO_DROPS];
}

Result<UniqueFd> accept(int fd) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (!(flags & O_NONBLOCK) && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
    return Failure::last("fcntl(F_SETFL)");
  for (;;) {
    UniqueFd connection(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid())
      return connection;
    // The client gave up while it was queued: the next one is asked for (accept(2), "Error handling").
    if (errno == ECONNABORTED || errno == EINTR)
      continue;
    // EINVAL: another holder has shut the listener down, and its queue is gone.
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINVAL)
      return UniqueFd();
    return Failure::last("accept4");
  }
}

Result<> set_signature_key(int fd, const Endpoint &peers, int prefix_length,
                           const std::vector<std::uint8_t> &key) {
  static const char *const call = "setsockopt(TCP_MD5SIG_EXT)";
  tcp_md5sig signature{};
  auto raw = to_raw(peers);
  if (!raw.ok())
    return raw.failure();
  if (key.empty() || key.size() > sizeof(signature.tcpm_key) || prefix_length < 0 || prefix_length > 128)
    return Failure{EINVAL, call, {}};
  std::memcpy(&signature.tcpm_addr, &raw.value().storage, sizeof(signature.tcpm_addr));
  signature.tcpm_flags = TCP_MD5SIG_FLAG_PREFIX;
  signature.tcpm_prefixlen = static_cast<std::uint8_t>(prefix_length);
  signature.tcpm_keylen = static_cast<std::uint16_t>(key.size());
  std::memcpy(signature.tcpm_key, key.data(), key.size());
  if (::setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, &signature, sizeof(signature)) != 0)
    return Failure::last(call);
  return Done{};
}

Result<> attach_classic(int fd, std::vector<sock_filter> &instructions) {
  if (instructions.size() > BPF_MAXINSNS)
    return Failure{E2BIG, "setsockopt(SO_ATTACH_REUSEPORT_CBPF)", {}};
  sock_fprog program{static_cast<unsigned short>(instructions.size()), instructions.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) != 0)
    return Failure::last("setsockopt(SO_ATTACH_REUSEPORT_CBPF)");
  return Done{};
}

Result<> detach_program(int fd) {
  int unused = 0;
  if (::setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof(unused)) != 0 && errno != ENOENT)
    return Failure::last("setsockopt(SO_DETACH_REUSEPORT_BPF)");
  return Done{};
}

} // namespace socket
} // namespace spillway
