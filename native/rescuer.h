// SPDX-License-Identifier: MIT
//
// Carries out what the selectors of a master's groups order: sends a free worker the listener at which
// connections wait, and lets a worker that computes for long stand back behind those that wake up. A thread
// of its own, so that it does not matter what the master's event loop does. No N-API.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "result.h"
#include "slice.h"
#include "unique_fd.h"

struct ring_buffer;
struct spillway_order;

namespace spillway {

class Rescuer {
public:
  // What is not for a worker, but for whoever decides: told from the thread, which must not be kept waiting.
  struct Notice {
    std::uint32_t port;
    std::uint32_t kind; // SPILLWAY_ORDER_WANTED, SPILLWAY_ORDER_EXPIRED
  };
  static Result<std::unique_ptr<Rescuer>> start(std::function<void(Notice)> tell);
  // Ends the thread.
  ~Rescuer();
  Rescuer(const Rescuer &) = delete;
  Rescuer &operator=(const Rescuer &) = delete;

  // From now on what is in this ring (bpf/layout.h, struct spillway_order) is an order for the port of that
  // number. The ring is the caller's, who must keep it until remove_port(). Negative: orders come by order()
  // only. A port of that number that is there already is replaced.
  Result<> add_port(std::uint32_t port, int ring);
  // The port's listeners are let go as well.
  void remove_port(std::uint32_t port);

  // As if it had come through the ring.
  void order(std::uint32_t port, std::uint32_t from, std::uint32_t to, std::uint32_t waiting);

  // The listener of a slot, of which a duplicate is kept until it is cleared, which must be before the group
  // closes it.
  Result<> set_listener(std::uint32_t port, std::uint32_t slot, int fd);
  void clear_listener(std::uint32_t port, std::uint32_t slot);

  // The worker of a slot: its process, and its channel (help.h), of which a duplicate is kept until it is
  // cleared; negative: it cannot be asked to help.
  Result<> set_worker(std::uint32_t slot, pid_t process, int channel);
  void clear_worker(std::uint32_t slot);

  // Orders of a port that have reached a worker, since the start: also from rings it had before.
  std::uint64_t sent(std::uint32_t port) const;

private:
  struct Port {
    Rescuer *rescuer;
    std::uint32_t number;
    ring_buffer *orders = nullptr; // none for a port without a ring
    std::map<std::uint32_t, UniqueFd> listeners;
    ~Port();
  };

  struct Worker {
    pid_t process;
    UniqueFd channel;
    std::optional<slice::Slice> own_slice; // while it stands back: what it had before
  };

  Rescuer() = default;
  void run();
  void carry_out(const Port &port, const spillway_order &order);
  void help(const Port &port, const Worker &worker, const spillway_order &order);
  void forget_worker(std::uint32_t slot);
  static void stand_back(Worker &worker);
  static void come_back(Worker &worker);

  std::function<void(Notice)> tell_;
  UniqueFd epoll_;
  UniqueFd stop_;
  pthread_t thread_{};
  bool running_ = false;
  mutable std::mutex mutex_; // guards what is below; never held over anything that waits
  std::map<std::uint32_t, std::unique_ptr<Port>> ports_;
  std::map<std::uint32_t, Worker> workers_;
  std::map<std::uint32_t, std::uint64_t> sent_;
};

} // namespace spillway
