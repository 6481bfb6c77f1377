// SPDX-License-Identifier: MIT
#include "claims.h"

#include <sys/socket.h>

#include <cerrno>

#include "bpf/layout.h"

namespace spillway {
namespace {

void say(int fd, spillway_claim claim) {
  while (::send(fd, &claim, sizeof(claim), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR)
    ;
}

} // namespace

bool Claims::take() {
  if (!sender_.valid())
    return true;
  // The kernel has decided when the call returns: what it has let pass is there to be read.
  say(sender_.get(), {SPILLWAY_CLAIM_TAKE, 0});
  spillway_claim answer;
  ssize_t length;
  do
    length = ::recv(receiver_.get(), &answer, sizeof(answer), MSG_DONTWAIT);
  while (length < 0 && errno == EINTR);
  return length == sizeof(answer);
}

void Claims::own(int fd) {
  if (sender_.valid())
    say(sender_.get(), {SPILLWAY_CLAIM_OWN, static_cast<std::uint32_t>(fd)});
}

void Claims::give_back() {
  if (sender_.valid())
    say(sender_.get(), {SPILLWAY_CLAIM_GIVE_BACK, 0});
}

} // namespace spillway
