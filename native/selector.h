// SPDX-License-Identifier: MIT
//
// The selector of one group: opens and loads the BPF objects, keeps their maps, attaches the program. No
// N-API.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bpf/layout.h"
#include "result.h"
#include "unique_fd.h"

struct live_bpf;
struct selector_bpf;

namespace spillway {

class Selector {
public:
  struct Options {
    std::uint32_t capacity = SPILLWAY_MAX_SLOTS; // slots the maps have, 1 to SPILLWAY_MAX_SLOTS
    bool sockmap = false;                        // a SOCKMAP for sk_lookup as well; needs CAP_NET_ADMIN
    bool read_by_cast = true;                    // false: the fallback for kernels before 6.2
    bool explain = false;                        // for explain()
    int hints = -1; // a map made by create_hints(), which the kernel then reads; stays the caller's
  };

  struct RunTime {
    std::uint64_t runs;
    std::uint64_t nanoseconds;
  };

  // Whether the running kernel has bpf_rdonly_cast. Only then may Options::read_by_cast be set.
  static bool kernel_has_cast();
  // Makes the kernel account run times of all programs for as long as the descriptor lives. Needs
  // CAP_SYS_ADMIN.
  static Result<UniqueFd> account_run_time();

  // What workers say of themselves (struct spillway_hints): a map with so many rows, empty ones at first.
  static Result<UniqueFd> create_hints(std::uint32_t rows);
  // A new page in that row, in the place of the one before, which those who have mapped it keep. The
  // descriptor is the caller's, and of this page alone: it can be mapped, from 0 on (mmap(2)).
  static Result<UniqueFd> open_hints(int map, std::uint32_t row);
  static void clear_hints(int map, std::uint32_t row);

  static Result<std::unique_ptr<Selector>> load(const Options &options);
  ~Selector();
  // To be called when the program is no longer attached: as long as it is, it could select nobody any more.
  void release_sockets();
  Selector(const Selector &) = delete;
  Selector &operator=(const Selector &) = delete;

  std::uint32_t capacity() const { return capacity_; }

  // `slots`, `policy` and so on as the layout has them; the capacity is filled in.
  Result<> set_config(spillway_config config);
  // Puts a listener into a slot, in the place of the one before. `row.sock` is found by `fd`.
  Result<> set_slot(std::uint32_t slot, int fd, spillway_slot row);
  // Changes limit, weight and flags of a slot and leaves its listener alone.
  Result<> update_slot(std::uint32_t slot, spillway_slot row);
  // Another worker has the slot's listener: what was known of the one before is not known of this one.
  Result<> forget_worker(std::uint32_t slot);
  // The row is emptied before the socket leaves the map, so that nobody reads an address that is about to go.
  Result<> clear_slot(std::uint32_t slot);
  Result<> set_choices(const std::vector<spillway_choice> &choices);
  // Which slots are placed on which CPU: `slots` one CPU after another, `cpus` saying which part is whose. At
  // most SPILLWAY_MAX_CPUS and as many slots as there is capacity.
  Result<> set_cpus(const std::vector<spillway_cpu> &cpus, const std::vector<std::uint32_t> &slots);
  // Which slot the clients of each bucket belong to.
  Result<> set_buckets(const spillway_buckets &buckets);
  // Makes a socket discard every segment that reaches it, without an answer: what a sink does before it
  // listens.
  Result<> discard_everything(int fd);
  Result<> set_sink(int fd);

  // From now on live connections are counted, of these listeners by slot (negative: none) and of those that
  // come into a slot later; those that are open already are not. Called again it does nothing.
  Result<> count_live(const std::vector<int> &listeners);

  // The ring of struct spillway_rescue; it stays the selector's.
  int orders() const;

  // From here on the program decides for the whole reuseport group of `fd`.
  Result<> attach(int fd);

  Result<spillway_counters> counters() const;
  Result<std::vector<spillway_slot_counters>> slot_counters(std::uint32_t slots) const;
  Result<std::vector<spillway_reading>> readings(std::uint32_t slots) const;
  // What would be chosen at this moment, of such a connection. Needs Options::explain.
  Result<spillway_explained> explain(spillway_request request) const;
  Result<RunTime> run_time() const;

private:
  explicit Selector(std::uint32_t capacity) : capacity_(capacity) {}
  Result<std::uint64_t> address_of(int fd) const;
  Result<> put_socket(std::uint32_t key, int fd);
  Result<> tag(std::uint32_t slot, int fd);

  std::uint32_t capacity_;
  selector_bpf *skeleton_ = nullptr;
  live_bpf *live_ = nullptr; // while live connections are counted
};

} // namespace spillway
