// SPDX-License-Identifier: MIT
#include "plan.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace bench {
namespace {

constexpr std::uint32_t kMagic = 0x31445753; // "SWD1"

std::int64_t to_nanoseconds(double milliseconds) {
  return static_cast<std::int64_t>(std::llround(milliseconds * static_cast<double>(kMillisecond)));
}

double to_milliseconds(std::int64_t nanoseconds) {
  if (nanoseconds == kNever)
    return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(nanoseconds) / static_cast<double>(kMillisecond);
}

Result<std::string> read_all(int fd) {
  std::string content;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got == 0)
      return content;
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return Failure::last("read");
    content.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

Result<> write_all(int fd, const char *data, std::size_t size) {
  while (size > 0) {
    ssize_t written = write(fd, data, size);
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return Failure::last("write");
    data += written;
    size -= static_cast<std::size_t>(written);
  }
  return Done{};
}

// Takes values off the front of a plan; once it was too short, everything that follows is zero.
class Reader {
public:
  explicit Reader(std::string_view rest) : rest_(rest) {}

  template <typename T> T take() {
    T value{};
    std::string_view bytes = take_bytes(sizeof value);
    if (bytes.size() == sizeof value)
      std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  std::string_view take_bytes(std::size_t size) {
    if (size > rest_.size()) {
      complete_ = false;
      rest_ = {};
      return {};
    }
    std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  std::string_view take_text() { return take_bytes(take<std::uint32_t>()); }

  bool complete() const { return complete_ && rest_.empty(); }
  std::size_t rest() const { return rest_.size(); }

private:
  std::string_view rest_;
  bool complete_ = true;
};

class Writer {
public:
  template <typename T> void put(T value) {
    bytes_.append(reinterpret_cast<const char *>(&value), sizeof value);
  }
  void put_text(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    bytes_.append(text);
  }
  template <typename T, typename Of> void put_column(const Outcomes &outcomes, Of of) {
    for (std::uint32_t i = 0; i < outcomes.count; i++)
      put(static_cast<T>(of(outcomes.records[i])));
  }
  const std::string &bytes() const { return bytes_; }
  void reserve(std::size_t size) { bytes_.reserve(size); }

private:
  std::string bytes_;
};

in_addr take_address(Reader &reader) {
  in_addr address{};
  address.s_addr = htonl(reader.take<std::uint32_t>());
  return address;
}

} // namespace

Result<Plan> read_plan(int fd) {
  Result<std::string> content = read_all(fd);
  if (!content.ok())
    return content.failure();
  const Failure damaged{0, "this is no plan of bench/load/generator.ts", {}};
  Reader reader(content.value());
  if (reader.take<std::uint32_t>() != kMagic)
    return damaged;
  Plan plan{};
  plan.mode = static_cast<Mode>(reader.take<std::uint32_t>());
  plan.cpu = reader.take<std::int32_t>();
  plan.target.sin_family = AF_INET;
  plan.target.sin_addr = take_address(reader);
  plan.target.sin_port = htons(static_cast<std::uint16_t>(reader.take<std::uint32_t>()));
  plan.timeout = to_nanoseconds(reader.take<double>());
  plan.span = to_nanoseconds(reader.take<double>());
  plan.concurrency = reader.take<std::uint32_t>();
  plan.kind = static_cast<std::uint8_t>(reader.take<std::uint32_t>());
  plan.network = reader.take_text();
  for (std::uint32_t left = reader.take<std::uint32_t>(); left > 0 && reader.rest() > 0; left--)
    plan.requests.emplace_back(reader.take_text());
  for (std::uint32_t left = reader.take<std::uint32_t>(); left > 0 && reader.rest() > 0; left--)
    plan.sources.push_back(take_address(reader));
  std::uint32_t count = reader.take<std::uint32_t>();
  if (reader.rest() != count * (sizeof(double) + 1))
    return damaged;
  plan.arrivals.resize(count);
  for (Arrival &arrival : plan.arrivals)
    arrival.due = to_nanoseconds(reader.take<double>());
  for (Arrival &arrival : plan.arrivals) {
    arrival.kind = reader.take<std::uint8_t>();
    if (arrival.kind >= plan.requests.size())
      return damaged;
  }
  if (!reader.complete() || plan.kind >= plan.requests.size())
    return damaged;
  return plan;
}

std::uint16_t Workers::number_of(std::string_view name) {
  auto known = numbers_.find(name);
  if (known != numbers_.end())
    return known->second;
  if (names_.size() >= kNobody)
    return kNobody;
  auto number = static_cast<std::uint16_t>(names_.size());
  names_.emplace_back(name);
  numbers_.emplace(names_.back(), number);
  return number;
}

Result<> write_start(int fd, std::int64_t start) {
  return write_all(fd, reinterpret_cast<const char *>(&start), sizeof start);
}

Result<> write_outcomes(int fd, const Outcomes &outcomes) {
  Writer writer;
  writer.reserve(outcomes.count * (5 * sizeof(double) + 4) + 4096);
  writer.put(outcomes.count);
  writer.put(static_cast<std::uint32_t>(outcomes.precedence));
  writer.put(outcomes.busy);
  writer.put(static_cast<std::uint32_t>(outcomes.workers->names().size()));
  for (const std::string &name : outcomes.workers->names())
    writer.put_text(name);
  writer.put_column<double>(outcomes, [](const Record &record) { return to_milliseconds(record.due); });
  writer.put_column<double>(outcomes, [](const Record &record) { return to_milliseconds(record.begun); });
  writer.put_column<double>(outcomes, [](const Record &record) { return to_milliseconds(record.connected); });
  writer.put_column<double>(outcomes,
                            [](const Record &record) { return to_milliseconds(record.first_byte); });
  writer.put_column<double>(outcomes, [](const Record &record) { return to_milliseconds(record.ended); });
  writer.put_column<std::uint8_t>(outcomes, [](const Record &record) { return record.outcome; });
  writer.put_column<std::uint8_t>(outcomes, [](const Record &record) { return record.kind; });
  writer.put_column<std::uint16_t>(outcomes, [](const Record &record) { return record.worker; });
  return write_all(fd, writer.bytes().data(), writer.bytes().size());
}

} // namespace bench
