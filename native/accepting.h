// SPDX-License-Identifier: MIT
//
// What accept(2) may fail with, and what that means.
#pragma once

#include <cerrno>
#include <cstdint>

namespace spillway {

// Milliseconds without accepting after a shortage of descriptors or memory. What waits meanwhile is in the
// kernel's queue, where others can take it.
constexpr std::uint64_t pause_after_shortage = 10;

inline bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

// Of the connection and not of the listener (accept(2)).
inline bool is_of_one_connection(int error) {
  switch (error) {
  case ECONNABORTED:
  case EINTR:
  case EPROTO:
  case EPERM:
  case ENETDOWN:
  case ENOPROTOOPT:
  case EHOSTDOWN:
  case ENONET:
  case EHOSTUNREACH:
  case ENETUNREACH:
    return true;
  default:
    return false;
  }
}

} // namespace spillway
