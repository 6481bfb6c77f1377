// SPDX-License-Identifier: MIT
//
// What a master tells its keeper: the messages of sd_notify(3), so that systemd can play the keeper as well.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "../result.h"
#include "../unique_fd.h"

namespace spillway::keeper {

struct Notice {
  pid_t from = 0;
  bool ready = false;                 // READY=1
  bool stopping = false;              // STOPPING=1
  bool alive = false;                 // WATCHDOG=1
  bool store = false, remove = false; // FDSTORE=1, FDSTOREREMOVE=1
  std::string name;                   // FDNAME=
  std::string news;                   // lines that a service manager above wants to hear as well
  std::vector<UniqueFd> descriptors;
  bool cut = false; // some did not fit into this process
};

class Notices {
public:
  // A socket at that path, which nobody else may write to; without one, an abstract socket of a name that the
  // kernel finds (unix(7), autobind).
  static Result<Notices> open(const char *path);
  // To be called at the end: there is nobody at that path any more.
  void remove() const;

  int fd() const { return socket_.get(); }
  // The value of NOTIFY_SOCKET.
  const std::string &address() const { return address_; }

  // The next one; false when there is none.
  bool receive(Notice &notice);

private:
  UniqueFd socket_;
  std::string address_;
};

} // namespace spillway::keeper
