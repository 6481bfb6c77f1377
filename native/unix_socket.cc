// SPDX-License-Identifier: MIT
#include "unix_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "clock.h"
#include "rights.h"

namespace spillway::unix_socket {
namespace {

// Milliseconds notify() waits for room in the receiver's queue, which is short (net.unix.max_dgram_qlen) and
// which a service manager shares among all its services: a moment's patience there is no hang of ours.
constexpr std::int64_t notify_patience = 1000;

constexpr std::size_t read_size = 16384;

struct Address {
  sockaddr_un raw{};
  socklen_t length = 0;
};

Result<Address> address_of(const std::string &path, const char *syscall) {
  bool abstract = !path.empty() && path[0] == '@';
  Address address;
  // A file's name ends with a zero, which has to have room; all bytes of an abstract name count.
  std::size_t room = sizeof(address.raw.sun_path) - (abstract ? 0 : 1);
  if (path.empty() || path == "@" || (!abstract && path.find('\0') != std::string::npos))
    return Failure{EINVAL, syscall, path};
  if (path.size() > room)
    return Failure{ENAMETOOLONG, syscall, path};
  address.raw.sun_family = AF_UNIX;
  std::memcpy(address.raw.sun_path, path.data(), path.size());
  if (abstract)
    address.raw.sun_path[0] = '\0';
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return address;
}

class Deadline {
public:
  // A time that no clock reaches is as good as any later one, and adds up without overflow.
  explicit Deadline(std::int64_t milliseconds)
      : end_(now() + std::clamp<std::int64_t>(milliseconds, 0, longest) * per_millisecond) {}

  // Milliseconds that are left, rounded up so that a wait of that length does not end too early.
  std::int64_t left() const {
    return std::max<std::int64_t>(end_ - now() + per_millisecond - 1, 0) / per_millisecond;
  }

private:
  static constexpr std::int64_t per_millisecond = 1000000; // nanoseconds
  static constexpr std::int64_t longest = std::numeric_limits<std::int64_t>::max() / 2 / per_millisecond;

  static std::int64_t now() { return static_cast<std::int64_t>(monotonic_nanoseconds()); }

  std::int64_t end_;
};

// Waits until the socket can be read or written, or has failed, which the next call on it tells.
Result<> wait_for(int fd, short events, const Deadline &deadline, const char *syscall) {
  for (;;) {
    pollfd one{fd, events, 0};
    auto left = std::min<std::int64_t>(deadline.left(), std::numeric_limits<int>::max());
    int ready = ::poll(&one, 1, static_cast<int>(left));
    if (ready > 0)
      return Done{};
    if (ready < 0 && errno != EINTR)
      return Failure::last("poll");
    if (deadline.left() == 0)
      return Failure{ETIMEDOUT, syscall, {}};
  }
}

Result<> limit_sending(int fd, std::int64_t milliseconds) {
  // A limit of zero would be none.
  auto most = std::clamp<std::int64_t>(milliseconds, 1, std::numeric_limits<int>::max());
  timeval limit{static_cast<time_t>(most / 1000), static_cast<suseconds_t>(most % 1000 * 1000)};
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
    return Failure::last("setsockopt(SO_SNDTIMEO)");
  return Done{};
}

// A full backlog cannot be waited for by poll(): a blocking connect() waits, and no longer than a send may
// (net/unix/af_unix.c, unix_stream_connect).
Result<UniqueFd> connect_once(const Address &address, const std::string &path, pid_t peer,
                              const Deadline &deadline) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid())
    return Failure::last("socket");
  int error;
  do {
    auto limited = limit_sending(fd.get(), deadline.left());
    if (!limited.ok())
      return limited.failure();
    bool connected =
        ::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address.raw), address.length) == 0;
    error = connected ? 0 : errno;
  } while ((error == EINTR || error == EAGAIN) && deadline.left() > 0);
  if (error != 0)
    return Failure{error == EINTR || error == EAGAIN ? ETIMEDOUT : error, "connect", path};
  if (peer == anybody)
    return fd;
  auto who = peer_credentials(fd.get());
  if (!who.ok())
    return who.failure();
  if (who.value().pid != peer)
    return Failure{EPERM, "connect", path};
  return fd;
}

// All bytes of an abstract name count, and net.Server of Node 20 fills it up with zeros (libuv's
// uv_pipe_bind(), which binds the whole of sun_path): where nobody has the name as it is, or somebody else,
// that one is meant.
Result<UniqueFd> connect_to(const std::string &path, pid_t peer, const Deadline &deadline) {
  auto address = address_of(path, "connect");
  if (!address.ok())
    return address.failure();
  auto as_it_is = connect_once(address.value(), path, peer, deadline);
  bool ends_early = path[0] == '@' && address.value().length < sizeof(sockaddr_un);
  if (as_it_is.ok() || !ends_early)
    return as_it_is;
  int error = as_it_is.failure().error;
  if (error != ECONNREFUSED && error != EPERM)
    return as_it_is;
  address.value().length = sizeof(sockaddr_un);
  auto filled_up = connect_once(address.value(), path, peer, deadline);
  // That somebody else answers says more than that nobody does.
  bool is_foreign = error == EPERM && !filled_up.ok() && filled_up.failure().error == ECONNREFUSED;
  return is_foreign ? std::move(as_it_is) : std::move(filled_up);
}

Result<> send_all(int fd, const void *message, std::size_t size, const Deadline &deadline) {
  auto *from = static_cast<const std::uint8_t *>(message);
  while (size > 0) {
    ssize_t sent = ::send(fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      from += sent;
      size -= static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN) {
      auto ready = wait_for(fd, POLLOUT, deadline, "send");
      if (!ready.ok())
        return ready.failure();
    } else if (errno != EINTR) {
      return Failure::last("send");
    }
  }
  return Done{};
}

// Adds what has come to the reply; 0 when the other end has closed.
Result<std::size_t> receive(int fd, Reply &reply, const Deadline &deadline) {
  alignas(cmsghdr) char control[CMSG_SPACE(rights::most * sizeof(int))];
  std::size_t before = reply.bytes.size();
  reply.bytes.resize(before + read_size);
  iovec place{reply.bytes.data() + before, read_size};
  for (;;) {
    msghdr message{};
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) {
      reply.bytes.resize(before + static_cast<std::size_t>(got));
      auto taken = rights::take(message);
      if (!reply.fd.valid() && !taken.empty())
        reply.fd = std::move(taken.front());
      // There is room for all that can come: what is missing is what this process may not open
      // (net/core/scm.c, scm_detach_fds).
      if (message.msg_flags & MSG_CTRUNC)
        return Failure{EMFILE, "recvmsg(SCM_RIGHTS)", {}};
      return static_cast<std::size_t>(got);
    }
    if (errno == EAGAIN) {
      auto ready = wait_for(fd, POLLIN, deadline, "recvmsg");
      if (!ready.ok())
        return ready.failure();
    } else if (errno != EINTR) {
      return Failure::last("recvmsg");
    }
  }
}

} // namespace

Result<Credentials> peer_credentials(int fd) {
  ucred who{};
  socklen_t length = sizeof(who);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0)
    return Failure::last("getsockopt(SO_PEERCRED)");
  // Other kinds of sockets, and unconnected ones, have nobody: the kernel answers all the same.
  if (length != sizeof(who) || who.uid == static_cast<uid_t>(-1))
    return Failure{ENOTCONN, "getsockopt(SO_PEERCRED)", {}};
  return Credentials{who.pid, who.uid, who.gid};
}

Result<> send_with_descriptors(int fd, const void *message, std::size_t size, const int *descriptors,
                               std::size_t count) {
  if (size == 0 || count > most_descriptors)
    return Failure{EINVAL, "sendmsg", {}};
  if (size > longest_message)
    return Failure{EMSGSIZE, "sendmsg", {}};
  iovec part{const_cast<void *>(message), size};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(most_descriptors * sizeof(int))] = {};
  if (count > 0) {
    header.msg_control = control;
    rights::put(header, descriptors, count);
  }
  ssize_t sent;
  do
    sent = ::sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0)
    return Failure::last("sendmsg");
  if (static_cast<std::size_t>(sent) != size)
    return Failure{EAGAIN, "sendmsg", "only a part of the message was sent"};
  return Done{};
}

Result<Reply> exchange(const std::string &path, const void *request, std::size_t size, std::int64_t timeout,
                       pid_t peer) {
  Deadline deadline(timeout);
  auto connected = connect_to(path, peer, deadline);
  if (!connected.ok())
    return connected.failure();
  int fd = connected.value().get();
  auto sent = send_all(fd, request, size, deadline);
  if (!sent.ok())
    return sent.failure();
  if (::shutdown(fd, SHUT_WR) != 0)
    return Failure::last("shutdown");
  Reply reply;
  for (;;) {
    auto got = receive(fd, reply, deadline);
    if (!got.ok())
      return got.failure();
    if (got.value() == 0)
      return reply;
    if (reply.bytes.size() > longest_reply)
      return Failure{EMSGSIZE, "recvmsg", {}};
    // Not only a silent end is too slow: so is one that never stops talking.
    if (deadline.left() == 0)
      return Failure{ETIMEDOUT, "recvmsg", {}};
  }
}

Result<> notify(const std::string &path, const std::string &text, int descriptor) {
  auto address = address_of(path, "sendmsg");
  if (!address.ok())
    return address.failure();
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid())
    return Failure::last("socket");
  auto &[raw, length] = address.value();
  iovec part{const_cast<char *>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_name = &raw;
  message.msg_namelen = length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    rights::put(message, &descriptor, 1);
  }
  Deadline deadline(notify_patience);
  do {
    auto limited = limit_sending(fd.get(), deadline.left());
    if (!limited.ok())
      return limited.failure();
    if (::sendmsg(fd.get(), &message, MSG_NOSIGNAL) >= 0)
      return Done{};
  } while (errno == EINTR && deadline.left() > 0);
  return Failure{errno, "sendmsg", path};
}

} // namespace spillway::unix_socket
