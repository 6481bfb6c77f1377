// SPDX-License-Identifier: MIT
//
// A network interface whose packets come to this process instead of a wire
// (Documentation/networking/tuntap.rst).
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <vector>

#include "machine.h"

#include "../../native/unique_fd.h"

namespace bench {

class Tunnel {
public:
  // An interface in the network namespace this process is in now; it stays there, and goes with the object.
  // Needs CAP_NET_ADMIN. The addresses, one or more, share a network of `prefix` bits.
  static Result<Tunnel> open(const std::vector<in_addr> &addresses, int prefix);

  int fd() const { return fd_.get(); }

  // Packets that the kernel threw away since nobody took them in time. Right whichever namespace this process
  // is in by now.
  Result<std::uint64_t> dropped() const;

private:
  std::string name_;
  spillway::UniqueFd fd_;         // non-blocking, one packet per read and write
  spillway::UniqueFd statistics_; // /proc/net/dev of the namespace
};

// In the calling process's namespace.
Result<> bring_up(const char *device);

} // namespace bench
