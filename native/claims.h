// SPDX-License-Identifier: MIT
//
// The worker's side of its socket of claims (SPILLWAY_CLAIM in bpf/layout.h). No N-API.
#pragma once

#include <utility>

#include "unique_fd.h"

namespace spillway {

class Claims {
public:
  Claims() = default;
  Claims(UniqueFd sender, UniqueFd receiver) : sender_(std::move(sender)), receiver_(std::move(receiver)) {}

  // Whether this worker can be given one more connection; it has the place until own() or give_back(). True
  // for one that has no limit.
  bool take();
  // It has accepted this connection, which came to somebody else.
  void own(int fd);
  // To be called when nothing more is to be accepted, whether anything was or not.
  void give_back();

private:
  UniqueFd sender_, receiver_;
};

} // namespace spillway
