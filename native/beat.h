// SPDX-License-Identifier: MIT
//
// Notes in the shared page what an event loop does, turn by turn. libuv, no N-API.
//
// A loop announces itself before it waits for events (uv_prepare_t) and after it has called back for those
// that came (uv_check_t), but not in between, when the wait ends: most of a program runs in there, and one
// that gets stuck in such a callback would look like one that waits. libuv accounts for its time in the
// kernel, however (uv_metrics_idle_time()), also for another thread to read. So a thread looks a few times a
// second whether a loop that has announced a wait still waits, and corrects the note if not. It sleeps in
// between and takes no part in anything else.
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>

#include "hints.h"
#include "result.h"

namespace spillway {

class Beat {
public:
  // Starts noting, for the loop of the calling thread. The loop can end as if nothing were there, and the
  // result must be given back by close() before the loop is closed.
  static Result<Beat *> start(uv_loop_t *loop, std::shared_ptr<hints::Page> page);

  // Stops noting. The object deletes itself when the loop has closed its handles, and calls `closed` just
  // before.
  void close(void (*closed)(void *), void *data);

  Beat(const Beat &) = delete;
  Beat &operator=(const Beat &) = delete;

private:
  Beat(uv_loop_t *loop, std::shared_ptr<hints::Page> page);
  ~Beat();

  void before_waiting();
  void after_waiting();
  void watch();
  void handle_closed();

  uv_loop_t *loop_;
  std::shared_ptr<hints::Page> page_;
  std::uint64_t turn_ = 0; // the loop's thread alone
  uv_prepare_t prepare_{};
  uv_check_t check_{};
  int open_handles_ = 2;

  uv_thread_t watcher_{};
  uv_mutex_t mutex_{};
  uv_cond_t wake_{};
  bool stopping_ = false; // under the mutex

  void (*closed_)(void *) = nullptr;
  void *closed_data_ = nullptr;
};

} // namespace spillway
