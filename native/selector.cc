// SPDX-License-Identifier: MIT
#include "selector.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>

#include "bpf_messages.h"
#include "selector.skel.h"
#include "selector_cast.skel.h"
#include "socket.h"

namespace spillway {
namespace {

template <typename Row> void sum_into(Row &total, const Row *per_cpu, int cpus) {
  static_assert(sizeof(Row) % sizeof(std::uint64_t) == 0, "counters are 64-bit words only");
  auto *to = reinterpret_cast<std::uint64_t *>(&total);
  for (int cpu = 0; cpu < cpus; cpu++) {
    auto *from = reinterpret_cast<const std::uint64_t *>(&per_cpu[cpu]);
    for (std::size_t word = 0; word < sizeof(Row) / sizeof(std::uint64_t); word++)
      to[word] += from[word];
  }
}

// Both objects come of one source and have the same maps and programs, so one skeleton fits either of them.
selector_bpf *open_skeleton(bool read_by_cast) {
  auto *skeleton = static_cast<selector_bpf *>(std::calloc(1, sizeof(selector_bpf)));
  if (!skeleton) {
    errno = ENOMEM;
    return nullptr;
  }
  int error = selector_bpf__create_skeleton(skeleton);
  if (error == 0) {
    if (read_by_cast)
      skeleton->skeleton->data =
          const_cast<void *>(selector_cast_bpf__elf_bytes(&skeleton->skeleton->data_sz));
    error = bpf_object__open_skeleton(skeleton->skeleton, nullptr);
  }
  if (error == 0)
    return skeleton;
  selector_bpf__destroy(skeleton);
  errno = -error;
  return nullptr;
}

Failure map_failure(int result, const char *what) { return Failure{-result, what, {}}; }

} // namespace

bool Selector::kernel_has_cast() {
  struct btf *kernel = btf__load_vmlinux_btf();
  if (!kernel)
    return false;
  bool found = btf__find_by_name_kind(kernel, "bpf_rdonly_cast", BTF_KIND_FUNC) > 0;
  btf__free(kernel);
  return found;
}

Result<UniqueFd> Selector::account_run_time() {
  UniqueFd fd(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!fd.valid())
    return Failure::last("bpf(BPF_ENABLE_STATS)");
  return fd;
}

namespace {

Result<UniqueFd> create_hints_page() {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
  UniqueFd fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "hints_page", sizeof(std::uint32_t), sizeof(spillway_hints),
                             1, &options));
  if (!fd.valid())
    return Failure::last("bpf(MAP_CREATE hints_page)");
  return fd;
}

} // namespace

Result<UniqueFd> Selector::create_hints(std::uint32_t rows) {
  auto example = create_hints_page();
  if (!example.ok())
    return example;
  LIBBPF_OPTS(bpf_map_create_opts, options,
              .inner_map_fd = static_cast<std::uint32_t>(example.value().get()));
  UniqueFd fd(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "hints", sizeof(std::uint32_t),
                             sizeof(std::uint32_t), rows, &options));
  if (!fd.valid())
    return Failure::last("bpf(MAP_CREATE hints)");
  return fd;
}

Result<UniqueFd> Selector::open_hints(int map, std::uint32_t row) {
  auto page = create_hints_page();
  if (!page.ok())
    return page;
  int fd = page.value().get();
  if (bpf_map_update_elem(map, &row, &fd, BPF_ANY) != 0)
    return Failure::last("bpf(MAP_UPDATE_ELEM hints)");
  return page;
}

void Selector::clear_hints(int map, std::uint32_t row) { bpf_map_delete_elem(map, &row); }

Result<std::unique_ptr<Selector>> Selector::load(const Options &options) {
  BpfMessages messages;
  std::unique_ptr<Selector> selector(new Selector(options.capacity));
  selector->skeleton_ = open_skeleton(options.read_by_cast);
  if (!selector->skeleton_)
    return Failure{errno, "bpf_object__open", messages.tail()};
  auto &maps = selector->skeleton_->maps;
  for (bpf_map *map : {maps.slots, maps.choices, maps.cpu_slots, maps.pulses, maps.slot_counters})
    bpf_map__set_max_entries(map, options.capacity);
  bpf_map__set_max_entries(maps.readings, options.capacity + 1);
  for (bpf_map *map : {maps.admissions, maps.limits, maps.origins})
    bpf_map__set_max_entries(map, selector->instances());
  bpf_map__set_max_entries(maps.sockets, options.capacity + SPILLWAY_EXTRA_SOCKETS);
  if (options.sockmap)
    bpf_map__set_type(maps.sockets, BPF_MAP_TYPE_SOCKMAP);
  bpf_program__set_autoload(selector->skeleton_->progs.explain, options.explain);
  int error = options.hints < 0 ? 0 : bpf_map__reuse_fd(maps.hints, options.hints);
  if (error != 0)
    return Failure{-error, "bpf_map__reuse_fd hints", messages.tail()};
  selector->adopted_ = options.parts;
  bpf_map *map;
  bpf_object__for_each_map(map, selector->skeleton_->obj) {
    auto part = options.parts.find(bpf_map__name(map));
    if (part == options.parts.end() || map == maps.hints)
      continue;
    std::uint32_t rows = bpf_map__max_entries(map);
    error = bpf_map__reuse_fd(map, part->second);
    if (error == 0 && bpf_map__max_entries(map) != rows)
      error = -EINVAL;
    if (error != 0)
      return Failure{-error, "bpf_map__reuse_fd", bpf_map__name(map)};
  }
  error = selector_bpf__load(selector->skeleton_);
  if (error != 0)
    return Failure{-error, "bpf_object__load", messages.tail()};
  LIBBPF_OPTS(bpf_test_run_opts, run);
  error = bpf_prog_test_run_opts(bpf_program__fd(selector->skeleton_->progs.prepare), &run);
  if (error != 0)
    return map_failure(error, "bpf(PROG_TEST_RUN prepare)");
  if (run.retval != 0)
    return Failure{EBUSY, "bpf_timer_init", {}};
  selector->end_all_claims();
  return selector;
}

// Whoever else holds the listeners goes on with the program, which keeps the maps: nothing is taken out of
// them here.
Selector::~Selector() { selector_bpf__destroy(skeleton_); }

// The kernel frees a map some time after its last descriptor is closed, and until then its sockets belong to
// it: they are taken out one by one, so that the next selector can have them at once.
void Selector::release_sockets() {
  for (std::uint32_t key = 0; key < capacity_ + SPILLWAY_EXTRA_SOCKETS; key++)
    bpf_map__delete_elem(skeleton_->maps.sockets, &key, sizeof(key), 0);
}

Result<> Selector::set_config(spillway_config config) {
  std::uint32_t key = 0;
  config.capacity = capacity_;
  config.waiting = waiting_;
  config.slots = std::min(config.slots, capacity_);
  int result =
      bpf_map__update_elem(skeleton_->maps.config, &key, sizeof(key), &config, sizeof(config), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM config)");
  LIBBPF_OPTS(bpf_test_run_opts, run);
  result = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.attend), &run);
  if (result != 0)
    return map_failure(result, "bpf(PROG_TEST_RUN attend)");
  return Done{};
}

Result<std::uint64_t> Selector::address_of(int fd) const {
  struct {
    std::uint32_t fd;
  } arguments{static_cast<std::uint32_t>(fd)};
  LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &arguments, .ctx_size_in = sizeof(arguments));
  auto expected = socket::cookie(fd);
  if (!expected.ok())
    return expected.failure();
  // Another thread may open a file while the table of descriptors is read: then the cookie differs and it is
  // read anew.
  for (int attempt = 0; attempt < 8; attempt++) {
    int result = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.resolve), &run);
    if (result != 0)
      return map_failure(result, "bpf(PROG_TEST_RUN resolve)");
    spillway_resolved answer{};
    std::uint32_t key = 0;
    result = bpf_map__lookup_elem(skeleton_->maps.resolved, &key, sizeof(key), &answer, sizeof(answer), 0);
    if (result != 0)
      return map_failure(result, "bpf(MAP_LOOKUP_ELEM resolved)");
    if (run.retval == 0 && answer.sock != 0 && answer.cookie == expected.value())
      return answer.sock;
  }
  return Failure{EAGAIN, "bpf(PROG_TEST_RUN resolve)", "the socket behind the descriptor could not be found"};
}

Result<> Selector::put_socket(std::uint32_t key, int fd) {
  std::uint64_t value = static_cast<std::uint64_t>(fd);
  int result =
      bpf_map__update_elem(skeleton_->maps.sockets, &key, sizeof(key), &value, sizeof(value), BPF_ANY);
  // It may be there already, since the selector before this one.
  if (result == -EBUSY && is_at(key, fd))
    return Done{};
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM sockets)");
  return Done{};
}

// The kernel tells the cookie of what is in there.
bool Selector::is_at(std::uint32_t key, int fd) const {
  auto cookie = socket::cookie(fd);
  std::uint64_t there = 0;
  return cookie.ok() &&
         bpf_map__lookup_elem(skeleton_->maps.sockets, &key, sizeof(key), &there, sizeof(there), 0) == 0 &&
         there == cookie.value();
}

Result<> Selector::set_slot(std::uint32_t slot, int fd, spillway_slot row) {
  if (slot >= capacity_)
    return Failure{ERANGE, "set_slot", {}};
  auto address = address_of(fd);
  if (!address.ok())
    return address.failure();
  // The tag comes first: whoever comes to the listener from then on counts.
  auto tagged = live_ && row.instance ? tag(fd, row.instance) : Result<>(Done{});
  if (!tagged.ok())
    return tagged;
  auto put = put_socket(slot, fd);
  if (!put.ok())
    return put;
  row.sock = address.value();
  auto forgotten = forget_worker(slot);
  if (!forgotten.ok())
    return forgotten;
  int result = bpf_map__update_elem(skeleton_->maps.slots, &slot, sizeof(slot), &row, sizeof(row), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM slots)");
  return Done{};
}

Result<> Selector::update_slot(std::uint32_t slot, spillway_slot row) {
  if (slot >= capacity_)
    return Failure{ERANGE, "update_slot", {}};
  spillway_slot current{};
  int result = bpf_map__lookup_elem(skeleton_->maps.slots, &slot, sizeof(slot), &current, sizeof(current), 0);
  if (result != 0)
    return map_failure(result, "bpf(MAP_LOOKUP_ELEM slots)");
  row.sock = current.sock;
  result = bpf_map__update_elem(skeleton_->maps.slots, &slot, sizeof(slot), &row, sizeof(row), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM slots)");
  return Done{};
}

Result<> Selector::forget_worker(std::uint32_t slot) {
  if (slot >= capacity_)
    return Failure{ERANGE, "forget_worker", {}};
  spillway_pulse unknown{};
  int result =
      bpf_map__update_elem(skeleton_->maps.pulses, &slot, sizeof(slot), &unknown, sizeof(unknown), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM pulses)");
  return Done{};
}

Result<> Selector::clear_slot(std::uint32_t slot) {
  if (slot >= capacity_)
    return Failure{ERANGE, "clear_slot", {}};
  spillway_slot nobody{};
  int result =
      bpf_map__update_elem(skeleton_->maps.slots, &slot, sizeof(slot), &nobody, sizeof(nobody), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM slots)");
  result = bpf_map__delete_elem(skeleton_->maps.sockets, &slot, sizeof(slot), 0);
  // ENOENT: the socket was closed or shut down, and the kernel took it out by itself; a SOCKMAP says EINVAL
  // then.
  if (result != 0 && result != -ENOENT && result != -EINVAL)
    return map_failure(result, "bpf(MAP_DELETE_ELEM sockets)");
  return Done{};
}

Result<> Selector::set_choices(const std::vector<spillway_choice> &choices) {
  auto rows = static_cast<std::uint32_t>(std::min<std::size_t>(choices.size(), capacity_));
  int map = bpf_map__fd(skeleton_->maps.choices);
  for (std::uint32_t row = 0; row < rows; row++) {
    int result = bpf_map_update_elem(map, &row, &choices[row], BPF_ANY);
    if (result != 0)
      return map_failure(result, "bpf(MAP_UPDATE_ELEM choices)");
  }
  return Done{};
}

Result<> Selector::set_cpus(const std::vector<spillway_cpu> &cpus, const std::vector<std::uint32_t> &slots) {
  int map = bpf_map__fd(skeleton_->maps.cpu_slots);
  auto places = static_cast<std::uint32_t>(std::min<std::size_t>(slots.size(), capacity_));
  for (std::uint32_t place = 0; place < places; place++) {
    int result = bpf_map_update_elem(map, &place, &slots[place], BPF_ANY);
    if (result != 0)
      return map_failure(result, "bpf(MAP_UPDATE_ELEM cpu_slots)");
  }
  map = bpf_map__fd(skeleton_->maps.cpus);
  auto rows = static_cast<std::uint32_t>(std::min<std::size_t>(cpus.size(), SPILLWAY_MAX_CPUS));
  for (std::uint32_t cpu = 0; cpu < rows; cpu++) {
    int result = bpf_map_update_elem(map, &cpu, &cpus[cpu], BPF_ANY);
    if (result != 0)
      return map_failure(result, "bpf(MAP_UPDATE_ELEM cpus)");
  }
  return Done{};
}

Result<> Selector::set_buckets(const spillway_buckets &buckets) {
  std::uint32_t key = 0;
  int result =
      bpf_map__update_elem(skeleton_->maps.buckets, &key, sizeof(key), &buckets, sizeof(buckets), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM buckets)");
  return Done{};
}

Result<> Selector::count_live() {
  if (live_)
    return Done{};
  auto &maps = skeleton_->maps;
  auto tags = adopted_.find("tags");
  auto live = Live::load({bpf_map__fd(maps.config), bpf_map__fd(maps.admissions), bpf_map__fd(maps.owners),
                          tags == adopted_.end() ? -1 : tags->second});
  if (!live.ok())
    return live.failure();
  live_ = std::move(live.value());
  return Done{};
}

Result<> Selector::tag(int fd, std::uint32_t instance) {
  if (!live_)
    return Failure{EINVAL, "tag", "connections are not counted"};
  auto cookie = socket::cookie(fd);
  if (!cookie.ok())
    return cookie.failure();
  std::uint64_t key = cookie.value();
  int result =
      bpf_map__update_elem(skeleton_->maps.origins, &key, sizeof(key), &instance, sizeof(instance), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM origins)");
  return live_->tag(fd, instance);
}

void Selector::untag(int fd) {
  auto cookie = socket::cookie(fd);
  if (!cookie.ok())
    return;
  std::uint64_t key = cookie.value();
  bpf_map__delete_elem(skeleton_->maps.origins, &key, sizeof(key), 0);
}

Result<> Selector::clear_admission(std::uint32_t instance, std::uint32_t limit) {
  spillway_admission nothing{};
  int result = bpf_map__update_elem(skeleton_->maps.admissions, &instance, sizeof(instance), &nothing,
                                    sizeof(nothing), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM admissions)");
  return set_limit(instance, limit);
}

Result<> Selector::set_limit(std::uint32_t instance, std::uint32_t limit) {
  int result = bpf_map__update_elem(skeleton_->maps.limits, &instance, sizeof(instance), &limit,
                                    sizeof(limit), BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM limits)");
  return Done{};
}

Result<Selector::Admission> Selector::admission(std::uint32_t instance) const {
  spillway_admission row{};
  int result =
      bpf_map__lookup_elem(skeleton_->maps.admissions, &instance, sizeof(instance), &row, sizeof(row), 0);
  if (result != 0)
    return map_failure(result, "bpf(MAP_LOOKUP_ELEM admissions)");
  return Admission{static_cast<std::uint32_t>(row.counts >> SPILLWAY_ADMISSION_OPEN_SHIFT),
                   static_cast<std::uint32_t>(row.counts)};
}

Result<Selector::Claims> Selector::open_claims(std::uint32_t instance) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return Failure::last("socketpair");
  Claims claims{UniqueFd(pair[0]), UniqueFd(pair[1])};
  auto cookie = socket::cookie(pair[1]);
  if (!cookie.ok())
    return cookie.failure();
  int program = bpf_program__fd(skeleton_->progs.claim);
  if (::setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)) != 0)
    return Failure::last("setsockopt(SO_ATTACH_BPF)");
  // The worker that holds it shall not put another one in its place.
  int locked = 1;
  if (::setsockopt(pair[1], SOL_SOCKET, SO_LOCK_FILTER, &locked, sizeof(locked)) != 0)
    return Failure::last("setsockopt(SO_LOCK_FILTER)");
  std::uint64_t key = cookie.value();
  int result = bpf_map__update_elem(skeleton_->maps.claimants, &key, sizeof(key), &instance, sizeof(instance),
                                    BPF_ANY);
  if (result != 0)
    return map_failure(result, "bpf(MAP_UPDATE_ELEM claimants)");
  claims.key = key;
  return claims;
}

void Selector::end_claims(std::uint64_t key) {
  bpf_map__delete_elem(skeleton_->maps.claimants, &key, sizeof(key), 0);
}

void Selector::end_all_claims() {
  int map = bpf_map__fd(skeleton_->maps.claimants);
  std::uint64_t key;
  while (bpf_map_get_next_key(map, nullptr, &key) == 0 && bpf_map_delete_elem(map, &key) == 0)
    ;
}

std::vector<std::pair<std::string, int>> Selector::parts() const {
  std::vector<std::pair<std::string, int>> parts;
  bpf_map *map;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (!bpf_map__is_internal(map) && map != skeleton_->maps.hints)
      parts.emplace_back(bpf_map__name(map), bpf_map__fd(map));
  }
  if (live_)
    for (const auto &part : live_->parts())
      parts.push_back(part);
  return parts;
}

int Selector::orders() const { return bpf_map__fd(skeleton_->maps.orders); }

Result<> Selector::discard_everything(int fd) {
  int program = bpf_program__fd(skeleton_->progs.discard);
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)) != 0)
    return Failure::last("setsockopt(SO_ATTACH_BPF)");
  return Done{};
}

Result<> Selector::set_sink(int fd) { return put_socket(capacity_ + SPILLWAY_SINK, fd); }

Result<> Selector::set_waiting(int fd) {
  auto address = address_of(fd);
  if (!address.ok())
    return address.failure();
  auto put = put_socket(capacity_ + SPILLWAY_WAITING, fd);
  if (!put.ok())
    return put;
  waiting_ = address.value();
  return live_ ? tag(fd, SPILLWAY_ADMISSION_WAITING) : Result<>(Done{});
}

void Selector::clear_waiting() { waiting_ = 0; }

Result<> Selector::attach(int fd) {
  int program = bpf_program__fd(skeleton_->progs.selector);
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &program, sizeof(program)) != 0)
    return Failure::last("setsockopt(SO_ATTACH_REUSEPORT_EBPF)");
  return Done{};
}

Result<spillway_counters> Selector::counters() const {
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0)
    return map_failure(cpus, "libbpf_num_possible_cpus");
  std::vector<spillway_counters> rows(static_cast<std::size_t>(cpus));
  std::uint32_t key = 0;
  int result = bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.counters), &key, rows.data());
  if (result != 0)
    return map_failure(result, "bpf(MAP_LOOKUP_ELEM counters)");
  spillway_counters total{};
  sum_into(total, rows.data(), cpus);
  return total;
}

Result<std::vector<spillway_slot_counters>> Selector::slot_counters(std::uint32_t slots) const {
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0)
    return map_failure(cpus, "libbpf_num_possible_cpus");
  int map = bpf_map__fd(skeleton_->maps.slot_counters);
  std::vector<spillway_slot_counters> totals(std::min(slots, capacity_));
  std::vector<spillway_slot_counters> rows(static_cast<std::size_t>(cpus));
  for (std::uint32_t slot = 0; slot < totals.size(); slot++) {
    int result = bpf_map_lookup_elem(map, &slot, rows.data());
    if (result != 0)
      return map_failure(result, "bpf(MAP_LOOKUP_ELEM slot_counters)");
    sum_into(totals[slot], rows.data(), cpus);
  }
  return totals;
}

Result<std::vector<spillway_reading>> Selector::readings(std::uint32_t slots) const {
  LIBBPF_OPTS(bpf_test_run_opts, run);
  int result = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.inspect), &run);
  if (result != 0)
    return map_failure(result, "bpf(PROG_TEST_RUN inspect)");
  int map = bpf_map__fd(skeleton_->maps.readings);
  std::vector<spillway_reading> rows(std::min(slots, capacity_) + 1);
  for (std::uint32_t row = 0; row < rows.size(); row++) {
    std::uint32_t key = row + 1 < rows.size() ? row : capacity_;
    result = bpf_map_lookup_elem(map, &key, &rows[row]);
    if (result != 0)
      return map_failure(result, "bpf(MAP_LOOKUP_ELEM readings)");
  }
  return rows;
}

Result<spillway_explained> Selector::explain(spillway_request request) const {
  LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &request, .ctx_size_in = sizeof(request));
  int result = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.explain), &run);
  if (result != 0)
    return map_failure(result, "bpf(PROG_TEST_RUN explain)");
  spillway_explained answer{};
  std::uint32_t key = 0;
  result = bpf_map__lookup_elem(skeleton_->maps.explained, &key, sizeof(key), &answer, sizeof(answer), 0);
  if (result != 0)
    return map_failure(result, "bpf(MAP_LOOKUP_ELEM explained)");
  return answer;
}

Result<Selector::RunTime> Selector::run_time() const {
  struct bpf_prog_info info {};
  std::uint32_t length = sizeof(info);
  int result = bpf_obj_get_info_by_fd(bpf_program__fd(skeleton_->progs.selector), &info, &length);
  if (result != 0)
    return map_failure(result, "bpf(OBJ_GET_INFO_BY_FD)");
  return RunTime{info.run_cnt, info.run_time_ns};
}

} // namespace spillway
