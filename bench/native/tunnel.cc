// SPDX-License-Identifier: MIT
#include "tunnel.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

namespace bench {
namespace {

constexpr const char *kNames = "delay%d";

// Packets the kernel keeps for a reader that is late.
constexpr int kQueue = 10'000;

// The column of /proc/net/dev with packets that were not sent.
constexpr int kTransmitDrops = 11;

ifreq request_for(const std::string &device) {
  ifreq request{};
  device.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

void set_address(ifreq &request, in_addr address) {
  sockaddr_in full{};
  full.sin_family = AF_INET;
  full.sin_addr = address;
  std::memcpy(&request.ifr_addr, &full, sizeof full);
}

Failure about(const char *what, const std::string &device) {
  Failure failure = Failure::last(what);
  failure.detail = device;
  return failure;
}

Result<> set_up(const std::string &device, const std::vector<in_addr> &addresses, int prefix) {
  spillway::UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any.valid())
    return Failure::last("socket");
  in_addr mask{};
  mask.s_addr = htonl(~std::uint32_t{0} << (32 - prefix));
  for (std::size_t i = 0; i < addresses.size(); i++) {
    // All addresses but the first have a label of their own, by which these calls know them.
    std::string label = i == 0 ? device : device + ":" + std::to_string(i);
    ifreq request = request_for(label);
    set_address(request, addresses[i]);
    if (ioctl(any.get(), SIOCSIFADDR, &request) != 0)
      return about("ioctl(SIOCSIFADDR)", label);
    set_address(request, mask);
    if (ioctl(any.get(), SIOCSIFNETMASK, &request) != 0)
      return about("ioctl(SIOCSIFNETMASK)", label);
  }
  ifreq request = request_for(device);
  request.ifr_qlen = kQueue;
  if (ioctl(any.get(), SIOCSIFTXQLEN, &request) != 0)
    return about("ioctl(SIOCSIFTXQLEN)", device);
  return bring_up(device.c_str());
}

} // namespace

Result<Tunnel> Tunnel::open(const std::vector<in_addr> &addresses, int prefix) {
  Tunnel tunnel;
  tunnel.fd_.reset(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tunnel.fd_.valid())
    return about("open", "/dev/net/tun");
  ifreq request = request_for(kNames);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(tunnel.fd(), TUNSETIFF, &request) != 0)
    return Failure::last("ioctl(TUNSETIFF)");
  tunnel.name_ = request.ifr_name;
  // An open file of this kind stays with the namespace it was opened in.
  tunnel.statistics_.reset(::open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC));
  if (!tunnel.statistics_.valid())
    return about("open", "/proc/thread-self/net/dev");
  Result<> done = set_up(tunnel.name_, addresses, prefix);
  if (!done.ok())
    return done.failure();
  return tunnel;
}

Result<std::uint64_t> Tunnel::dropped() const {
  std::string content;
  std::array<char, 4096> buffer;
  lseek(statistics_.get(), 0, SEEK_SET);
  for (;;) {
    ssize_t got = read(statistics_.get(), buffer.data(), buffer.size());
    if (got < 0)
      return about("read", "/proc/net/dev");
    if (got == 0)
      break;
    content.append(buffer.data(), static_cast<std::size_t>(got));
  }
  std::size_t at = content.find(name_ + ":");
  if (at == std::string::npos)
    return Failure{0, "the interface is not listed in /proc/net/dev", name_};
  const char *next = content.data() + at + name_.size() + 1;
  const char *end = content.data() + content.size();
  std::uint64_t value = 0;
  for (int column = 0; column <= kTransmitDrops; column++) {
    while (next < end && *next == ' ')
      next++;
    next = std::from_chars(next, end, value).ptr;
  }
  return value;
}

Result<> bring_up(const char *device) {
  spillway::UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = request_for(device);
  if (!any.valid() || ioctl(any.get(), SIOCGIFFLAGS, &request) != 0)
    return about("ioctl(SIOCGIFFLAGS)", device);
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(any.get(), SIOCSIFFLAGS, &request) != 0)
    return about("ioctl(SIOCSIFFLAGS)", device);
  return Done{};
}

} // namespace bench
