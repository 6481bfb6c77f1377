// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "result.h"

struct live_bpf;

namespace spillway {

// Counts the open connections of workers (bpf/live.bpf.c), from the load to the end of this object.
class Live {
public:
  // Descriptors of a selector's maps, which stay the caller's; and that of the tags that another one has
  // left, -1 for none.
  struct Maps {
    int config, admissions, owners, tags;
  };

  // Needs what the selector needs.
  static Result<std::unique_ptr<Live>> load(const Maps &maps);
  ~Live();
  Live(const Live &) = delete;
  Live &operator=(const Live &) = delete;

  // As of a selector: the tags, and the links by which it counts, for as long as they are open.
  std::vector<std::pair<std::string, int>> parts() const;

  // What comes to this listener from now on is that row's of the admissions.
  Result<> tag(int listener, std::uint32_t instance);

private:
  Live() = default;

  live_bpf *skeleton_ = nullptr;
};

} // namespace spillway
