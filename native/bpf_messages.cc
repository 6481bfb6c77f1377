// SPDX-License-Identifier: MIT
#include "bpf_messages.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace spillway {
namespace {

thread_local std::string *collected = nullptr;

int collect(enum libbpf_print_level level, const char *format, va_list arguments) {
  if (!collected || level == LIBBPF_DEBUG)
    return 0;
  char line[4096];
  int length = std::vsnprintf(line, sizeof(line), format, arguments);
  if (length > 0)
    collected->append(line, std::min<std::size_t>(static_cast<std::size_t>(length), sizeof(line) - 1));
  return length;
}

} // namespace

BpfMessages::BpfMessages() {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_set_print(collect); });
  collected = &text_;
}

BpfMessages::~BpfMessages() { collected = nullptr; }

std::string BpfMessages::tail() const {
  constexpr std::size_t most = 2000;
  return text_.size() <= most ? text_ : text_.substr(text_.size() - most);
}

} // namespace spillway
