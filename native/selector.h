// SPDX-License-Identifier: MIT
//
// The selector of one group: opens and loads the BPF objects, keeps their maps, attaches the program. No
// N-API.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bpf/layout.h"
#include "live.h"
#include "result.h"
#include "unique_fd.h"

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
    // What another selector has left (parts()), by name: this one goes on with it. EINVAL when it is not of
    // the same layout.
    std::map<std::string, int> parts;
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
  // The listener whose queue is the waiting list; in force with the next set_config(), as is its end.
  Result<> set_waiting(int fd);
  void clear_waiting();

  // Rows there are for instances of workers, the first of which is the waiting list's (bpf/layout.h).
  std::uint32_t instances() const { return capacity_ * SPILLWAY_ADMISSIONS_PER_SLOT + 1; }
  // From now on connections are counted that come to listeners whose slot has an instance when they are put
  // into it, or that are tagged; those that are open already are not. Called again it does nothing.
  Result<> count_live();
  // What comes to this listener from now on is that instance's. untag() is for one that is about to be
  // closed.
  Result<> tag(int fd, std::uint32_t instance);
  void untag(int fd);
  // Somebody else's from now on, with that limit; 0 for none.
  Result<> clear_admission(std::uint32_t instance, std::uint32_t limit);
  Result<> set_limit(std::uint32_t instance, std::uint32_t limit);
  struct Admission {
    std::uint32_t open;     // connections
    std::uint32_t promised; // places of connections to come
  };
  Result<Admission> admission(std::uint32_t instance) const;
  // The two ends of a socket of claims (SPILLWAY_CLAIM in bpf/layout.h), both for the worker of that
  // instance. They do not wait, and are close-on-exec.
  struct Claims {
    UniqueFd sender, receiver;
    std::uint64_t key = 0; // for end_claims(), when the worker is gone
  };
  Result<Claims> open_claims(std::uint32_t instance);
  void end_claims(std::uint64_t key);
  // Those that another selector has opened: workers are given others.
  void end_all_claims();

  // What has to be kept for another selector to go on with: maps, and what counts connections. The
  // descriptors stay this one's.
  std::vector<std::pair<std::string, int>> parts() const;

  // The ring of struct spillway_rescue; it stays the selector's.
  int orders() const;

  // From here on the program decides for the whole reuseport group of `fd`.
  Result<> attach(int fd);

  Result<spillway_counters> counters() const;
  Result<std::vector<spillway_slot_counters>> slot_counters(std::uint32_t slots) const;
  // Of so many slots, and one more of the waiting list.
  Result<std::vector<spillway_reading>> readings(std::uint32_t slots) const;
  // What would be chosen at this moment, of such a connection. Needs Options::explain.
  Result<spillway_explained> explain(spillway_request request) const;
  Result<RunTime> run_time() const;

private:
  explicit Selector(std::uint32_t capacity) : capacity_(capacity) {}
  Result<std::uint64_t> address_of(int fd) const;
  Result<> put_socket(std::uint32_t key, int fd);
  bool is_at(std::uint32_t key, int fd) const;

  std::uint32_t capacity_;
  selector_bpf *skeleton_ = nullptr;
  std::unique_ptr<Live> live_;         // while open connections are counted
  std::map<std::string, int> adopted_; // parts of live_, until it is loaded
  std::uint64_t waiting_ = 0;          // address of the struct sock
};

} // namespace spillway
