// SPDX-License-Identifier: MIT
//
// Sends the requests of a plan and notes what becomes of each. One thread, non-blocking sockets, one epoll
// set; everything that grows with the number of requests is allocated before the load starts.
//
// All requests have the same time limit and are taken up in the order in which they are due: so the oldest
// one that is pending is always the next whose time is up, and a mark that moves over the records is all the
// timers there are.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "answer.h"
#include "plan.h"

#include "../../native/unique_fd.h"

namespace bench {

class Engine {
public:
  static Result<std::unique_ptr<Engine>> make(const Plan &plan, std::uint64_t descriptors);

  // Returns when every request has come to its end and every connection is closed. `start` is when the load's
  // time begins, CLOCK_MONOTONIC.
  Result<> run(std::int64_t start);

  const Record *records() const { return records_.get(); }
  std::uint32_t count() const { return taken_; }
  const Workers &workers() const { return workers_; }
  // Processor time over the time in which requests were begun, 0 to 1.
  double busy() const { return busy_; }

private:
  static constexpr std::uint32_t kNoRequest = UINT32_MAX;

  // A connection and the request on it. In the modes kConnections and kHold any request takes any free slot,
  // in kKeepAlive slot i carries the requests i, i + concurrency, …, in kClosed each slot carries one after
  // the other.
  struct Slot {
    spillway::UniqueFd fd;
    std::uint32_t request = kNoRequest; // the one that waits for an answer
    std::uint16_t held = 0;             // bytes of an incomplete answer, in stash(slot)
    bool connecting = false;
  };

  explicit Engine(const Plan &plan) : plan_(plan) {}

  bool closed_loop() const { return plan_.mode == Mode::kClosed; }
  bool keeps_connections() const { return plan_.mode == Mode::kKeepAlive; }

  std::int64_t due_at(std::uint32_t request) const { return start_ + records_[request].due; }
  // Now, as a record has it.
  std::int64_t since_due(std::uint32_t request) const { return now_ - due_at(request); }
  void look_at_clock() { now_ = monotonic(); }

  void take_up_due();
  void take_up(std::uint32_t request);
  void take_up_in_closed_loop();
  void serve_ready();
  void start_on(std::uint32_t slot, std::uint32_t request);
  void open(std::uint32_t slot);
  void establish(std::uint32_t slot);
  void watch(std::uint32_t slot, int operation, std::uint32_t events);
  void on_event(std::uint32_t slot);
  void on_bytes(std::uint32_t slot, std::string_view bytes, bool ended);
  // `last`: the other end takes no more requests on this connection.
  void finish(std::uint32_t slot, Outcome outcome, bool last = false);
  void finish_unsent(std::uint32_t request);
  void close(std::uint32_t slot);
  void give_up_overdue();
  void close_held();
  bool over() const;
  std::int64_t next_deadline() const;
  void note_busy();

  char *stash(std::uint32_t slot) { return stashes_.get() + slot * kLongestAnswer; }

  const Plan &plan_;
  spillway::UniqueFd epoll_;
  Workers workers_;
  std::unique_ptr<Record[]> records_;
  std::uint32_t capacity_ = 0;
  std::vector<Slot> slots_;
  // Not touched, and so not in memory, for connections whose answers come in one piece.
  std::unique_ptr<char[]> stashes_;
  std::vector<std::uint32_t> free_; // slots without a connection, in the modes that take any
  // Slots that shall begin a request as soon as the event at hand has been dealt with: kClosed the next one,
  // kKeepAlive `next`, which was due and waited.
  struct Ready {
    std::uint32_t slot;
    std::uint32_t next;
  };
  std::vector<Ready> ready_;
  // A closed load lets a connection that failed rest, so that a server that refuses is not hammered. In order
  // of time; never longer than there are slots.
  struct Resting {
    std::int64_t until;
    std::uint32_t slot;
  };
  std::vector<Resting> resting_;
  std::size_t first_resting_ = 0;
  std::size_t resting_count_ = 0;

  std::int64_t rest_ = 0; // nanoseconds after a failure

  std::int64_t start_ = 0;
  std::int64_t now_ = 0;
  std::uint32_t taken_ = 0;   // requests that were taken up so far; in a closed loop, all there are
  std::uint32_t oldest_ = 0;  // no request before it is pending
  std::uint32_t pending_ = 0; // requests taken up and not ended
  std::uint32_t opened_ = 0;  // connections so far: whose turn it is among the sources
  bool holding_ = false;
  std::int64_t processor_time_at_start_ = 0;
  double busy_ = -1;
  Failure failure_{}; // of the engine itself; the load ends early
  std::array<char, kLongestAnswer> buffer_;
};

} // namespace bench
