// SPDX-License-Identifier: MIT
#include "notices.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

#include "../rights.h"

namespace spillway::keeper {
namespace {

constexpr std::size_t longest_message = 4096;

void read_line(std::string_view line, Notice &notice) {
  constexpr std::string_view name = "FDNAME=";
  if (line == "READY=1")
    notice.ready = true;
  else if (line == "STOPPING=1")
    notice.stopping = true;
  else if (line == "WATCHDOG=1")
    notice.alive = true;
  else if (line == "FDSTORE=1")
    notice.store = true;
  else if (line == "FDSTOREREMOVE=1")
    notice.remove = true;
  else if (line.substr(0, name.size()) == name)
    notice.name = std::string(line.substr(name.size()));
  for (std::string_view news :
       {"READY=", "STOPPING=", "RELOADING=", "STATUS=", "MONOTONIC_USEC=", "WATCHDOG=1"})
    if (line.substr(0, news.size()) == news)
      notice.news += (notice.news.empty() ? "" : "\n") + std::string(line);
}

void read_lines(std::string_view text, Notice &notice) {
  while (!text.empty()) {
    auto end = text.find('\n');
    read_line(text.substr(0, end), notice);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

pid_t sender_of(msghdr &message) {
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS)
      continue;
    ucred sender{};
    std::memcpy(&sender, CMSG_DATA(header), sizeof(sender));
    return sender.pid;
  }
  return 0;
}

} // namespace

Result<Notices> Notices::open(const char *path) {
  Notices notices;
  notices.socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int fd = notices.socket_.get();
  if (fd < 0)
    return Failure::last("socket");
  int on = 1;
  if (::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0)
    return Failure::last("setsockopt(SO_PASSCRED)");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path) {
    std::size_t letters = std::strlen(path);
    if (letters >= sizeof(address.sun_path))
      return Failure{ENAMETOOLONG, "bind", path};
    std::memcpy(address.sun_path, path, letters);
    // What a keeper that was killed has left; whoever has the name has the path.
    ::unlink(path);
    if (::bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0)
      return Failure::last("bind");
    notices.address_ = path;
    return notices;
  }
  if (::bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof(sa_family_t)) != 0)
    return Failure::last("bind");
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) != 0)
    return Failure::last("getsockname");
  std::size_t letters = length - offsetof(sockaddr_un, sun_path) - 1;
  notices.address_ = "@" + std::string(address.sun_path + 1, letters);
  return notices;
}

void Notices::remove() const {
  if (!address_.empty() && address_[0] == '/')
    ::unlink(address_.c_str());
}

bool Notices::receive(Notice &notice) {
  char text[longest_message];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(rights::most * sizeof(int))];
  iovec data{text, sizeof(text)};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length;
  do
    length = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (length < 0 && errno == EINTR);
  if (length < 0)
    return false;
  notice = Notice{};
  notice.from = sender_of(message);
  notice.cut = (message.msg_flags & MSG_CTRUNC) != 0;
  notice.descriptors = rights::take(message);
  read_lines(std::string_view(text, static_cast<std::size_t>(length)), notice);
  return true;
}

} // namespace spillway::keeper
