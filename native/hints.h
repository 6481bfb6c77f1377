// SPDX-License-Identifier: MIT
//
// The page that a worker and its master share: in it the worker notes what its event loop does, and the
// master reads it without asking. No N-API, no policy.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bpf/layout.h"
#include "result.h"
#include "unique_fd.h"

namespace spillway::hints {

enum class State : std::uint64_t {
  silent = SPILLWAY_LOOP_SILENT,   // nothing has been noted yet
  waiting = SPILLWAY_LOOP_WAITING, // the loop waits for events in the kernel
  running = SPILLWAY_LOOP_RUNNING, // it handles events, timers and what else a turn has
};

// The page's content, as the kernel's program reads it (struct spillway_hints). One word holds all of a note,
// so that no reader ever meets half of one, and relaxed order is enough: nothing else is read because of it.
struct Layout {
  // Bits 0-1: the state; a 3 is nobody's. Bits 2-15: the turn's number, which tells two notes of one
  // millisecond apart. Bits 16-63: since when, in milliseconds of CLOCK_MONOTONIC. In the machine's byte
  // order.
  std::atomic<std::uint64_t> loop;
  std::atomic<std::uint32_t> draining;
};
static_assert(offsetof(Layout, loop) == offsetof(spillway_hints, loop) &&
                  offsetof(Layout, draining) == offsetof(spillway_hints, draining) &&
                  sizeof(Layout) <= sizeof(spillway_hints),
              "the page is shared with the kernel");
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock would be in one process only");

constexpr unsigned turn_shift = SPILLWAY_LOOP_TURN_SHIFT;
constexpr unsigned since_shift = SPILLWAY_LOOP_SINCE_SHIFT;
constexpr std::uint64_t state_mask = (1U << turn_shift) - 1;
constexpr std::uint64_t turn_mask = (1U << (since_shift - turn_shift)) - 1;

constexpr std::uint64_t note(State state, std::uint64_t turn, std::uint64_t since) {
  return since << since_shift | (turn & turn_mask) << turn_shift | static_cast<std::uint64_t>(state);
}
constexpr State state_of(std::uint64_t note) {
  auto state = note & state_mask;
  return state == 1 ? State::waiting : state == 2 ? State::running : State::silent;
}
constexpr std::uint64_t turn_of(std::uint64_t note) { return note >> turn_shift & turn_mask; }
constexpr std::uint64_t since_of(std::uint64_t note) { return note >> since_shift; }

static_assert(state_of(note(State::running, 3, 7)) == State::running);
static_assert(turn_of(note(State::running, turn_mask + 4, 7)) == 3 &&
              since_of(note(State::running, 3, 7)) == 7);
static_assert(state_of(~std::uint64_t{0}) == State::silent, "a number that is no state");

// CLOCK_MONOTONIC in milliseconds, as uv_now() has it.
std::uint64_t now();

// A mapping of the page, unmapped at the end. Everything that uses it has a share in it.
class Page {
public:
  // The page behind a descriptor that mmap(2) takes, which is no longer needed afterwards.
  // EINVAL for a file without that much in it: to read beyond its end would be a SIGBUS.
  static Result<Page> map(int fd);

  Page(Page &&other) noexcept : layout_(other.layout_) { other.layout_ = nullptr; }
  Page &operator=(Page &&) = delete;
  Page(const Page &) = delete;
  Page &operator=(const Page &) = delete;
  ~Page();

  std::uint64_t read() const { return layout_->loop.load(std::memory_order_relaxed); }
  void write(std::uint64_t note) { layout_->loop.store(note, std::memory_order_relaxed); }
  // Writes only where `expected` is still what is noted.
  bool replace(std::uint64_t expected, std::uint64_t note) {
    return layout_->loop.compare_exchange_strong(expected, note, std::memory_order_relaxed);
  }

  void set_draining() { layout_->draining.store(1, std::memory_order_relaxed); }

private:
  explicit Page(Layout *layout) : layout_(layout) {}

  Layout *layout_;
};

// Memory of one page, all zero, behind a close-on-exec descriptor. Its size is sealed: who else holds it can
// write nonsense into it, but cannot take the page away (memfd_create(2), F_SEAL_SHRINK).
Result<UniqueFd> create();

} // namespace spillway::hints
