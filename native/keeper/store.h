// SPDX-License-Identifier: MIT
//
// The descriptors that a keeper holds for its master, by name.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "../unique_fd.h"

namespace spillway::keeper {

class Store {
public:
  // More than any master has, and so many that one which stores in a loop ends with an error of its own.
  static constexpr std::size_t most = 65536;

  // In the place of the one of that name. False when there are too many: then it is closed.
  bool put(std::string name, UniqueFd fd);
  void remove(std::string_view name);

  struct Entry {
    std::string name;
    UniqueFd fd;
  };
  const std::vector<Entry> &entries() const { return entries_; }

private:
  std::vector<Entry> entries_;
};

} // namespace spillway::keeper
