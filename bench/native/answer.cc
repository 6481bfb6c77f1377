// SPDX-License-Identifier: MIT
#include "answer.h"

#include <strings.h>

#include <charconv>

namespace bench {
namespace {

constexpr Answer kIncompleteAnswer{Answer::kIncomplete, {}, false};
constexpr Answer kBadAnswer{Answer::kBad, {}, false};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

Answer from(std::string_view body, bool last) {
  std::string_view name = trimmed(body);
  if (name.empty() || name.size() > kLongestName || name.find_first_of("\r\n") != std::string_view::npos)
    return kBadAnswer;
  return {Answer::kComplete, name, last};
}

// The value of a field of the header, which begins and ends with a line break; empty when it has none.
std::string_view field(std::string_view header, std::string_view name) {
  for (std::size_t at = header.find("\r\n"); at != std::string_view::npos; at = header.find("\r\n", at)) {
    at += 2;
    if (header.size() - at <= name.size() || header[at + name.size()] != ':')
      continue;
    if (strncasecmp(header.data() + at, name.data(), name.size()) != 0)
      continue;
    std::size_t value = at + name.size() + 1;
    return trimmed(header.substr(value, header.find("\r\n", value) - value));
  }
  return {};
}

Answer read_http(std::string_view text, bool ended) {
  // "HTTP/1.1 200"
  constexpr std::size_t kStatusAt = 9;
  constexpr std::string_view kOk = "200";
  if (text.size() < kStatusAt + kOk.size())
    return kIncompleteAnswer;
  if (text.substr(0, 7) != "HTTP/1." || text.substr(kStatusAt, kOk.size()) != kOk)
    return kBadAnswer;
  std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos)
    return kIncompleteAnswer;
  std::string_view header = text.substr(0, end + 2);
  std::string_view body = text.substr(end + 4);
  if (!field(header, "transfer-encoding").empty())
    return kBadAnswer;
  std::string_view length = field(header, "content-length");
  if (length.empty())
    return ended ? from(body, true) : kIncompleteAnswer;
  std::size_t bytes = 0;
  auto [rest, error] = std::from_chars(length.data(), length.data() + length.size(), bytes);
  if (error != std::errc{} || rest != length.data() + length.size())
    return kBadAnswer;
  bool last = field(header, "connection") == "close";
  return body.size() < bytes ? kIncompleteAnswer : from(body.substr(0, bytes), last);
}

} // namespace

Answer read_answer(Protocol protocol, std::string_view text, bool ended) {
  if (protocol == Protocol::kHttp)
    return read_http(text, ended);
  std::size_t end = text.find('\n');
  return end == std::string_view::npos ? kIncompleteAnswer : from(text.substr(0, end), false);
}

} // namespace bench
