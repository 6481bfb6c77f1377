// SPDX-License-Identifier: MIT
#include "network.h"

#include <arpa/inet.h>
#include <linux/ipv6.h>
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

Result<> add_ipv6_address(const std::string &interface, const std::string &address) {
  in6_ifreq request{};
  request.ifr6_prefixlen = 128;
  request.ifr6_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (request.ifr6_ifindex == 0)
    return Failure::last("if_nametoindex");
  if (inet_pton(AF_INET6, address.c_str(), &request.ifr6_addr) != 1)
    return Failure{EINVAL, "inet_pton", address};
  UniqueFd control(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid())
    return Failure::last("socket");
  if (::ioctl(control.get(), SIOCSIFADDR, &request) != 0)
    return Failure::last("ioctl(SIOCSIFADDR)");
  return Done{};
}

} // namespace spillway::testing
