// SPDX-License-Identifier: MIT
#include "network.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "../unique_fd.h"

namespace spillway::testing {

Result<> unshare_network() {
  if (::unshare(CLONE_NEWNET) != 0)
    return Failure::last("unshare(CLONE_NEWNET)");
  UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid())
    return Failure::last("socket");
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (::ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
    return Failure::last("ioctl(SIOCGIFFLAGS)");
  request.ifr_flags |= IFF_UP;
  if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
    return Failure::last("ioctl(SIOCSIFFLAGS)");
  return Done{};
}

} // namespace spillway::testing
