// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace spillway {

// Collects what libbpf has to say in this thread, as long as it lives: warnings, and the verifier's log.
// There is one function for the whole process to report through, while several threads may load at once.
class BpfMessages {
public:
  BpfMessages();
  ~BpfMessages();
  BpfMessages(const BpfMessages &) = delete;
  BpfMessages &operator=(const BpfMessages &) = delete;

  // The end of a verifier log says what was wrong; its beginning may be a megabyte away.
  std::string tail() const;

private:
  std::string text_;
};

} // namespace spillway
