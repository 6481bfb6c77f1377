// SPDX-License-Identifier: MIT
#include "help.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "rights.h"
#include "unix_socket.h"

namespace spillway::help {
namespace {

// Bytes of the channel that orders take up which nobody has read, with all that the kernel counts: some
// twenty of them. Each keeps a listener open, and all together count against the limit of the user's
// descriptors that are on their way (unix(7), ETOOMANYREFS).
constexpr int most_unread = 16384;

} // namespace

Result<Pair> open() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
    return Failure::last("socketpair");
  return Pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<> send(int channel, const Order &order, const std::vector<int> &descriptors) {
  int unread = 0;
  if (::ioctl(channel, SIOCOUTQ, &unread) == 0 && unread >= most_unread)
    return Failure{EAGAIN, "sendmsg", "nobody reads"};
  return unix_socket::send_with_descriptors(channel, &order, sizeof(order), descriptors.data(),
                                            descriptors.size());
}

Result<Received> receive(int channel) {
  alignas(cmsghdr) char control[CMSG_SPACE(most_descriptors * sizeof(int))];
  Received received;
  iovec data{&received.order, sizeof(received.order)};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length = ::recvmsg(channel, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
      return received;
    return Failure::last("recvmsg");
  }
  auto taken = rights::take(message);
  std::move(taken.begin(), taken.begin() + std::min(taken.size(), most_descriptors),
            received.descriptors.begin());
  if (length == 0)
    return Failure{ECONNRESET, "recvmsg", {}};
  received.any = length == sizeof(received.order);
  return received;
}

} // namespace spillway::help
