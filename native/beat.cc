// SPDX-License-Identifier: MIT
#include "beat.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace spillway {
namespace {

using hints::State;

// Nanoseconds between two looks of the watching thread: a loop that is stuck in a callback of an event is
// noted as running after one to two of them. While the loop rests, the looks become rarer.
constexpr std::uint64_t look_every = 50'000'000;
constexpr std::uint64_t look_at_rest = 800'000'000;

constexpr std::uint64_t ns_per_ms = 1'000'000;

// The thread needs hardly any; the default would reserve eight megabytes of addresses.
constexpr std::size_t stack_size = 128 * 1024;

} // namespace

Beat::Beat(uv_loop_t *loop, std::shared_ptr<hints::Page> page) : loop_(loop), page_(std::move(page)) {
  uv_mutex_init(&mutex_);
  uv_cond_init(&wake_);
}

Beat::~Beat() {
  uv_cond_destroy(&wake_);
  uv_mutex_destroy(&mutex_);
}

Result<Beat *> Beat::start(uv_loop_t *loop, std::shared_ptr<hints::Page> page) {
  // Node has it on already, for performance.eventLoopUtilization(). Without it every wait would look like
  // none.
  int result = uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
  if (result != 0)
    return Failure{-result, "uv_loop_configure", {}};
  auto *beat = new Beat(loop, std::move(page));
  uv_thread_options_t options{};
  options.flags = UV_THREAD_HAS_STACK_SIZE;
  options.stack_size = stack_size;
  // A signal of the process must not end up here, where it interrupts nothing.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  result = uv_thread_create_ex(
      &beat->watcher_, &options, [](void *data) { static_cast<Beat *>(data)->watch(); }, beat);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result != 0) {
    delete beat;
    return Failure{-result, "pthread_create", {}};
  }
  // None of these four can fail (libuv's loop-watcher.c).
  uv_prepare_init(loop, &beat->prepare_);
  uv_check_init(loop, &beat->check_);
  beat->prepare_.data = beat->check_.data = beat;
  uv_prepare_start(&beat->prepare_,
                   [](uv_prepare_t *handle) { static_cast<Beat *>(handle->data)->before_waiting(); });
  uv_check_start(&beat->check_,
                 [](uv_check_t *handle) { static_cast<Beat *>(handle->data)->after_waiting(); });
  uv_unref(reinterpret_cast<uv_handle_t *>(&beat->prepare_));
  uv_unref(reinterpret_cast<uv_handle_t *>(&beat->check_));
  return beat;
}

void Beat::close(void (*closed)(void *), void *data) {
  closed_ = closed;
  closed_data_ = data;
  uv_mutex_lock(&mutex_);
  stopping_ = true;
  uv_cond_signal(&wake_);
  uv_mutex_unlock(&mutex_);
  uv_thread_join(&watcher_);
  auto on_close = [](uv_handle_t *handle) { static_cast<Beat *>(handle->data)->handle_closed(); };
  uv_close(reinterpret_cast<uv_handle_t *>(&prepare_), on_close);
  uv_close(reinterpret_cast<uv_handle_t *>(&check_), on_close);
}

void Beat::handle_closed() {
  if (--open_handles_ > 0)
    return;
  if (closed_)
    closed_(closed_data_);
  delete this;
}

// The loop's own time is that of the last turn's end or older.
void Beat::before_waiting() { page_->write(hints::note(State::waiting, ++turn_, hints::now())); }

// The loop took its time when the wait was over, before any callback: that is when this turn began to run.
void Beat::after_waiting() { page_->write(hints::note(State::running, turn_, uv_now(loop_))); }

void Beat::watch() {
  std::uint64_t note = 0;      // what was noted at the last look,
  std::uint64_t idle = 0;      // the nanoseconds spent waiting by then,
  std::uint64_t looked_at = 0; // and when that was
  std::uint64_t pause = look_every;
  uv_mutex_lock(&mutex_);
  while (!stopping_) {
    auto note_now = page_->read();
    auto idle_now = uv_metrics_idle_time(loop_);
    // Within one turn, and not waiting at any moment between the two looks. Should the turn end right now,
    // its own note stands.
    if (note_now == note && idle_now == idle && hints::state_of(note) == State::waiting)
      page_->replace(note, hints::note(State::running, hints::turn_of(note), looked_at));
    // It rests as long as it has done nothing but wait since the last look.
    auto now = hints::now();
    bool rests = note_now == note && idle_now - idle + ns_per_ms >= (now - looked_at) * ns_per_ms;
    pause = rests ? std::min(2 * pause, look_at_rest) : look_every;
    note = note_now;
    idle = idle_now;
    looked_at = now;
    uv_cond_timedwait(&wake_, &mutex_, pause);
  }
  uv_mutex_unlock(&mutex_);
}

} // namespace spillway
