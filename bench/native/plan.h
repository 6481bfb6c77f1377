// SPDX-License-Identifier: MIT
//
// What the load generator is told and what it tells: the two ends of bench/load/generator.ts. Numbers are in
// the byte order of the machine, as both ends run on the same one.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <deque>
#include <vector>

#include "machine.h"

namespace bench {

// The numbers are those of MODES in generator.ts.
enum class Mode : std::uint32_t { kConnections = 0, kKeepAlive = 1, kClosed = 2, kHold = 3 };

// The numbers are those of OUTCOMES in bench/load/samples.ts; what each means is said there.
enum class Outcome : std::uint8_t {
  kOk = 0,
  kRefused = 1,
  kReset = 2,
  kConnectTimeout = 3,
  kUnanswered = 4,
  kBadAnswer = 5,
  kNotSent = 6,
  kPending = 255, // never told
};

struct Arrival {
  std::int64_t due; // nanoseconds after the start
  std::uint8_t kind;
};

struct Plan {
  Mode mode;
  int cpu; // -1: any
  sockaddr_in target;
  std::int64_t timeout;      // nanoseconds
  std::int64_t span;         // nanoseconds: how long a closed load goes on, when held connections are closed
  std::uint32_t concurrency; // connections, in the modes kKeepAlive and kClosed
  std::uint8_t kind;         // in the mode kClosed
  std::vector<std::string> requests;
  std::vector<in_addr> sources;
  std::string network; // empty: the one it runs in
  std::vector<Arrival> arrivals;
};

// Reads until the end of the file.
Result<Plan> read_plan(int fd);

constexpr std::int64_t kNever = INT64_MIN;
constexpr std::uint16_t kNobody = UINT16_MAX;

// What became of one request. Times are nanoseconds after it was due, `kNever` where it did not come to that.
struct Record {
  std::int64_t due; // after the start
  std::int64_t begun;
  std::int64_t connected;
  std::int64_t first_byte;
  std::int64_t ended;
  std::uint32_t slot; // the connection that carries it
  std::uint16_t worker;
  Outcome outcome;
  std::uint8_t kind;
};

// The workers that answered, numbered in the order they were seen first.
class Workers {
public:
  Workers() { numbers_.reserve(1024); }
  std::uint16_t number_of(std::string_view name);
  const std::deque<std::string> &names() const { return names_; }

private:
  std::deque<std::string> names_; // never moves a name: the keys below point into them
  std::unordered_map<std::string_view, std::uint16_t> numbers_;
};

struct Outcomes {
  const Record *records;
  std::uint32_t count;
  const Workers *workers;
  double busy; // processor time over the time in which requests were begun
  Precedence precedence;
};

// When the load starts, CLOCK_MONOTONIC; told ahead of everything else, before it does.
Result<> write_start(int fd, std::int64_t start);
Result<> write_outcomes(int fd, const Outcomes &outcomes);

} // namespace bench
