// SPDX-License-Identifier: MIT
//
// The service manager above the keeper, if there is one: the service's main process is the keeper, so what
// the master says of the service is passed on.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "../unique_fd.h"

namespace spillway::keeper {

class Manager {
public:
  // Takes NOTIFY_SOCKET (sd_notify(3)); without it nobody is told anything.
  Manager();

  // Never waits: what a manager does not read is not said.
  void tell(const std::string &news) const;

private:
  UniqueFd socket_;
  sockaddr_un address_{};
  socklen_t length_ = 0;
};

} // namespace spillway::keeper
