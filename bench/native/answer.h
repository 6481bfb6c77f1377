// SPDX-License-Identifier: MIT
//
// Reads the answers of service/program.mjs, as they come directly or through a proxy.
#pragma once

#include <string_view>

namespace bench {

enum class Protocol { kHttp, kLine };

struct Answer {
  enum { kIncomplete, kComplete, kBad } state;
  std::string_view worker; // of a complete one: the name of who answered
  bool last;               // of a complete one: it says that the connection will be closed
};

// An answer longer than this, its header included, is not one of the service's program.
constexpr std::size_t kLongestAnswer = 4096;
// Likewise the name of a worker.
constexpr std::size_t kLongestName = 64;

// `text` is all that has come so far, `ended` whether more can come. HTTP: status 200, and a body of one name
// with white space around it, framed by Content-Length or by the end of the connection; any other status is
// bad as soon as it is known. Line protocol: one name and a line feed.
Answer read_answer(Protocol protocol, std::string_view text, bool ended);

} // namespace bench
