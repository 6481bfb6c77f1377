// SPDX-License-Identifier: MIT
#include "store.h"

#include <algorithm>
#include <utility>

namespace spillway::keeper {

bool Store::put(std::string name, UniqueFd fd) {
  auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry &entry) { return entry.name == name; });
  if (found != entries_.end()) {
    found->fd = std::move(fd);
    return true;
  }
  if (entries_.size() >= most)
    return false;
  entries_.push_back({std::move(name), std::move(fd)});
  return true;
}

void Store::remove(std::string_view name) {
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(),
                                [&](const Entry &entry) { return entry.name == name; }),
                 entries_.end());
}

} // namespace spillway::keeper
