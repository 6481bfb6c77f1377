// SPDX-License-Identifier: MIT
#include "diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <optional>

#include "unique_fd.h"

namespace spillway::diag {
namespace {

// The kernel fills messages of a dump up to this size and no further (net/netlink/af_netlink.c,
// netlink_recvmsg).
constexpr std::size_t buffer_size = 32768;
// Dumps in a row that the kernel calls interrupted before the caller is told so.
constexpr std::uint32_t attempts = 16;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 what;
};

// What one dump comes to: the list, or the kernel's word that its tables changed meanwhile.
struct Dump {
  std::vector<ListedSocket> sockets;
  bool interrupted = false;
  bool complete = false;
};

// Filled by inet_pton(); the rest of the words stays zero for IPv4, as the kernel has it.
using Address = std::array<std::uint32_t, 4>;

// Nothing stands for all addresses.
using Local = std::optional<Address>;

Result<Local> numeric(const Endpoint &endpoint) {
  if (endpoint.address.empty())
    return Local{};
  Address address{};
  std::string host = endpoint.address.substr(0, endpoint.address.find('%'));
  if (inet_pton(endpoint.family, host.c_str(), address.data()) != 1)
    return Failure{EINVAL, "inet_pton", endpoint.address};
  return Local{address};
}

Request request_for(const Endpoint &endpoint, std::uint32_t states, std::uint32_t sequence) {
  Request request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = sequence;
  request.what.sdiag_family = static_cast<std::uint8_t>(endpoint.family);
  request.what.sdiag_protocol = IPPROTO_TCP;
  request.what.idiag_states = states;
  // In a dump the kernel compares the port and ignores the addresses.
  request.what.id.idiag_sport = htons(static_cast<std::uint16_t>(endpoint.port));
  return request;
}

Result<> send_request(int fd, const Request &request) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  while (::sendto(fd, &request, sizeof(request), 0, reinterpret_cast<sockaddr *>(&kernel), sizeof(kernel)) <
         0)
    if (errno != EINTR)
      return Failure::last("sendto(NETLINK_SOCK_DIAG)");
  return Done{};
}

std::string peer_text(const inet_diag_msg &message) {
  // The same words as in /proc/net/tcp: network order, printed as numbers of this machine.
  char text[sizeof("00112233445566778899AABBCCDDEEFF:FFFF")];
  const auto *words = message.id.idiag_dst;
  unsigned port = ntohs(message.id.idiag_dport);
  if (message.idiag_family == AF_INET6)
    std::snprintf(text, sizeof(text), "%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3], port);
  else
    std::snprintf(text, sizeof(text), "%08X:%04X", words[0], port);
  return text;
}

// The error number that ends a dump or refuses it, as a positive number; 0 when there is none.
int error_of(const nlmsghdr &header) {
  // Both kinds of message begin with it. A dump that fails half-way says so in its last message.
  int error = 0;
  if (header.nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
    std::memcpy(&error, NLMSG_DATA(&header), sizeof(error));
  return -error;
}

// Takes what is in one datagram.
Result<> take(Dump &dump, const nlmsghdr *header, std::size_t length, const Request &request,
              const Local &local) {
  for (; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
    if (header->nlmsg_seq != request.header.nlmsg_seq)
      continue;
    dump.interrupted |= (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
      if (int error = error_of(*header))
        return Failure{error, "SOCK_DIAG_BY_FAMILY", {}};
      dump.complete = true;
      return Done{};
    }
    inet_diag_msg message;
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(message)))
      continue;
    std::memcpy(&message, NLMSG_DATA(header), sizeof(message));
    if (message.idiag_family == request.what.sdiag_family &&
        message.id.idiag_sport == request.what.id.idiag_sport &&
        (!local || std::memcmp(message.id.idiag_src, local->data(), sizeof(*local)) == 0))
      dump.sockets.push_back({message.idiag_inode, message.idiag_uid, peer_text(message)});
  }
  return Done{};
}

Result<Dump> dump_once(int fd, const Request &request, const Local &local) {
  auto sent = send_request(fd, request);
  if (!sent.ok())
    return sent.failure();
  Dump dump;
  alignas(nlmsghdr) char buffer[buffer_size];
  while (!dump.complete) {
    sockaddr_nl from{};
    iovec part{buffer, sizeof(buffer)};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    ssize_t length = ::recvmsg(fd, &message, 0);
    if (length < 0) {
      if (errno == EINTR)
        continue;
      return Failure::last("recvmsg(NETLINK_SOCK_DIAG)");
    }
    // Any process may send to a netlink socket; the kernel is the one with port number 0.
    if (from.nl_pid != 0)
      continue;
    if (message.msg_flags & MSG_TRUNC)
      return Failure{EMSGSIZE, "recvmsg(NETLINK_SOCK_DIAG)", {}};
    auto taken = take(dump, reinterpret_cast<const nlmsghdr *>(buffer), static_cast<std::size_t>(length),
                      request, local);
    if (!taken.ok())
      return taken.failure();
  }
  return dump;
}

} // namespace

Result<std::vector<ListedSocket>> sockets_at(const Endpoint &endpoint, std::uint32_t states) {
  auto local = numeric(endpoint);
  if (!local.ok())
    return local.failure();
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd.valid())
    return Failure::last("socket(NETLINK_SOCK_DIAG)");
  for (std::uint32_t attempt = 1; attempt <= attempts; attempt++) {
    auto dump = dump_once(fd.get(), request_for(endpoint, states, attempt), local.value());
    if (!dump.ok())
      return dump.failure();
    if (!dump.value().interrupted)
      return std::move(dump.value().sockets);
  }
  return Failure{EAGAIN, "SOCK_DIAG_BY_FAMILY", {}};
}

} // namespace spillway::diag
