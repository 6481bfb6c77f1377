// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Chooses the listener of a reuseport group that gets a connection, from the real lengths of the accept
// queues.
//
// `selector` runs in the kernel where a packet without a connection meets the group: at the SYN, at an ACK
// that brings back a SYN cookie, and once for every connection of a listener that stops listening. `resolve`
// and `inspect` run when the owner of the group asks (BPF_PROG_TEST_RUN), in the owner's own context.
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <linux/time.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "claims.h"
#include "count.h"
#include "kernel.h"
#include "look.h"
#include "maps.h"
#include "policy.h"
#include "rescue.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

// --- places ---

// Promises the connection a place among those the worker may have. Whoever is not counted has room for all.
// `alone`: only where nothing is on its way to be accepted.
static __always_inline int take_place(const struct spillway_config *group, __u32 index, int alone) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_admission *row;

  if (!group->reserve || !slot || !slot->instance)
    return 1;
  row = bpf_map_lookup_elem(&admissions, &slot->instance);
  return !row || hold(row, limit_of(slot->instance), alone);
}

static __always_inline void give_place_back(const struct spillway_config *group, __u32 index) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_admission *row;

  if (!group->reserve || !slot || !slot->instance)
    return;
  row = bpf_map_lookup_elem(&admissions, &slot->instance);
  if (row)
    let_go(row, 1);
}

// A queued connection is the instance's from now on to whose listener it is moved; a half-open one becomes
// its when its handshake ends. The kernel holds the connection's lock meanwhile (inet_csk_listen_stop()): its
// state does not change.
static __always_inline void move(struct sk_reuseport_md *ctx, __u32 to) {
  struct bpf_sock *connection = ctx->migrating_sk;
  struct spillway_admission *left, *reached = bpf_map_lookup_elem(&admissions, &to);
  __u64 cookie, listener, owner, *entry;
  __u32 *origin, from;

  if (!connection || !reached || !is_open(connection->state))
    return;
  cookie = bpf_get_socket_cookie(connection);
  entry = bpf_map_lookup_elem(&owners, &cookie);
  listener = bpf_get_socket_cookie(ctx->sk);
  origin = entry ? 0 : bpf_map_lookup_elem(&origins, &listener);
  if (!entry && !origin)
    return;
  from = entry ? *entry : *origin;
  left = bpf_map_lookup_elem(&admissions, &from);
  if (!left)
    return;
  owner = SPILLWAY_OWNER(cookie, to);
  // Without the entry it stays the other one's until it is closed.
  if (bpf_map_update_elem(&owners, &cookie, &owner, BPF_ANY))
    return;
  closed(left);
  open_promised(reached);
}

static __always_inline void move_to_slot(struct sk_reuseport_md *ctx, __u32 index) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);

  if (slot && slot->instance)
    move(ctx, slot->instance);
}

// --- verdicts ---

static __always_inline int select_socket(struct sk_reuseport_md *ctx, __u32 key) {
  return bpf_sk_select_reuseport(ctx, &sockets, &key, 0);
}

// The list is full when it holds as many as its limit says and one more, as any accept queue.
static __always_inline int list_is_full(const struct spillway_config *group) {
  struct spillway_reading reading;

  read_listener(group->waiting, &reading);
  return reading.queue > group->waiting_limit;
}

// Puts it on the waiting list. A client that believes it is connected finds a place there however long the
// list is.
static __always_inline int let_wait(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                    enum spillway_kind kind) {
  if (!group->waiting || (kind == SPILLWAY_KIND_SYN && list_is_full(group)))
    return 0;
  if (select_socket(ctx, group->capacity + SPILLWAY_WAITING))
    return 0;
  if (kind == SPILLWAY_KIND_MIGRATION)
    move(ctx, SPILLWAY_ADMISSION_WAITING);
  count(kind, SPILLWAY_OUTCOME_WAITING);
  watch_over(group);
  return 1;
}

// Whether somebody waits already: nobody overtakes him then.
static __always_inline int somebody_waits(const struct spillway_config *group) {
  struct spillway_reading reading;

  if (!group->waiting || group->overflow != SPILLWAY_OVERFLOW_WAIT)
    return 0;
  read_listener(group->waiting, &reading);
  return reading.queue || reading.half_open;
}

static __always_inline int no_room(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                   enum spillway_kind kind) {
  note_want(group);
  if (group->overflow == SPILLWAY_OVERFLOW_WAIT && let_wait(ctx, group, kind))
    return SK_PASS;
  if (group->overflow == SPILLWAY_OVERFLOW_DROP && !select_socket(ctx, group->capacity + SPILLWAY_SINK)) {
    count(kind, SPILLWAY_OUTCOME_DROPPED);
    return SK_PASS;
  }
  count(kind, group->overflow == SPILLWAY_OVERFLOW_DROP ? SPILLWAY_OUTCOME_FAILED : SPILLWAY_OUTCOME_RESET);
  return SK_DROP;
}

struct sweep {
  struct sk_reuseport_md *ctx;
  __u32 start;
  __u32 least;
  __u32 alone;
  __u32 found;
};

static long sweep_step(__u32 step, struct sweep *sweep) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct candidate seen = {};

  if (!group)
    return 1;
  look_at(ring_index(group, sweep->start, step), 0, &seen);
  if (seen.standing < sweep->least || !take_place(group, seen.slot, sweep->alone))
    return 0;
  if (select_socket(sweep->ctx, seen.slot)) {
    give_place_back(group, seen.slot);
    return 0;
  }
  sweep->found = seen.slot;
  return 1;
}

// A slot whose socket left the group behind its owner's back still looks like a place, but cannot be
// selected; and a place may be another's when it is to be taken. Whoever can be selected and stands well
// enough is taken instead: rare enough that the first one found will do.
static __always_inline int take_any(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                    enum spillway_kind kind, __u32 least, __u32 alone, __u32 first) {
  struct sweep sweep = {.ctx = ctx, .start = first, .least = least, .alone = alone, .found = ~0u};

  bpf_loop(group->slots, sweep_step, &sweep, 0);
  if (sweep.found == ~0u)
    return 0;
  if (kind == SPILLWAY_KIND_MIGRATION)
    move_to_slot(ctx, sweep.found);
  count_taken(kind, sweep.found, first);
  return 1;
}

static __always_inline __u32 next_turn(void) {
  __u32 *turn = bpf_map_lookup_elem(&turns, &zero);

  return turn ? __sync_fetch_and_add(turn, 1) : 0;
}

// Where the source address is in the header of the network layer.
#define IPV4_SOURCE 12
#define IPV6_SOURCE 8

// The client's address, of either family, as one number that tells nothing about it.
static __always_inline __u32 source_of(struct sk_reuseport_md *ctx) {
  __u32 address[4] = {};
  __u32 number = 0;

  if (ctx->eth_protocol == bpf_htons(ETH_P_IPV6)) {
    if (bpf_skb_load_bytes_relative(ctx, IPV6_SOURCE, address, 16, BPF_HDR_START_NET))
      return ctx->hash;
#pragma unroll
    for (int word = 0; word < 4; word++)
      number = another(number ^ address[word]);
    return number;
  }
  if (bpf_skb_load_bytes_relative(ctx, IPV4_SOURCE, address, 4, BPF_HDR_START_NET))
    return ctx->hash;
  return another(address[0]);
}

// A new connection goes where there is room, or nowhere. The other kinds belong to clients that believe they
// are connected: they get the best place there is, however full.
static __always_inline int decide(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                  enum spillway_kind kind) {
  __u32 least = kind == SPILLWAY_KIND_SYN ? ROOM : DISABLED;
  __u32 *last = bpf_map_lookup_elem(&warm, &zero);
  __u64 now = bpf_ktime_get_ns();
  struct spillway_request request = {
      .hash = ctx->hash,
      .source = group->policy == SPILLWAY_POLICY_STICKY ? source_of(ctx) : 0,
      .turn = next_turn(),
      .cpu = bpf_get_smp_processor_id(),
      .warm = last ? *last : 0,
  };
  __u32 alone = group->exclusive && kind == SPILLWAY_KIND_SYN;
  struct candidate best = {};
  __u32 first;

  if (kind == SPILLWAY_KIND_SYN && somebody_waits(group))
    return no_room(ctx, group, kind);
  first = choose(&request, now, &best);
  if (best.standing >= least) {
    if (take_place(group, best.slot, alone)) {
      if (!select_socket(ctx, best.slot)) {
        if (kind == SPILLWAY_KIND_MIGRATION)
          move_to_slot(ctx, best.slot);
        count_taken(kind, best.slot, first);
        if (best.thread)
          note_seen(best.slot, best.thread, now);
        if (last)
          *last = best.slot;
        watch_over(group);
        return SK_PASS;
      }
      give_place_back(group, best.slot);
      count_stale();
    }
    if (take_any(ctx, group, kind, least, alone, first)) {
      watch_over(group);
      return SK_PASS;
    }
  }
  if (kind == SPILLWAY_KIND_SYN)
    return no_room(ctx, group, kind);
  // All who may be given it have all they may have.
  if (let_wait(ctx, group, kind))
    return SK_PASS;
  count(kind, SPILLWAY_OUTCOME_FAILED);
  return SK_DROP;
}

// --- what arrived ---

#define TCP_FLAGS_OFFSET 13
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static __always_inline enum spillway_kind kind_of(struct sk_reuseport_md *ctx) {
  __u8 *header = (void *)(long)ctx->data;
  __u8 flags;

  if (header + TCP_FLAGS_OFFSET + 1 > (__u8 *)(long)ctx->data_end)
    return SPILLWAY_KIND_STRAY;
  flags = header[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_RST | TCP_ACK);
  if (flags == TCP_SYN)
    return SPILLWAY_KIND_SYN;
  return flags == TCP_ACK ? SPILLWAY_KIND_COOKIE_ACK : SPILLWAY_KIND_STRAY;
}

SEC("sk_reuseport/migrate")
int selector(struct sk_reuseport_md *ctx) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  enum spillway_kind kind;

  if (!group)
    return SK_DROP;
  kind = ctx->migrating_sk ? SPILLWAY_KIND_MIGRATION : kind_of(ctx);
  // No listener has any use for a stray segment: without one the kernel answers as for a closed port.
  if (kind == SPILLWAY_KIND_STRAY || (kind == SPILLWAY_KIND_MIGRATION && !group->migrate)) {
    count(kind, SPILLWAY_OUTCOME_RESET);
    return SK_DROP;
  }
  return decide(ctx, group, kind);
}

// --- the sink ---

// The sink's socket filter: keeps nothing of what reaches it, so that nobody is answered. A classic filter
// would do the same, but attaching one to a TCP socket takes CAP_NET_ADMIN.
SEC("socket")
int discard(struct __sk_buff *ctx) { return 0; }

// --- claims ---

// The socket filter of a worker's socket of claims, both ends of which are the worker's.
SEC("socket")
int claim(struct __sk_buff *message) { return answer_claim(message); }

// --- run for the owner ---

// Once, before the selector is attached.
SEC("syscall")
int prepare(void *unused) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);

  long error;

  if (!watch)
    return 1;
  // Another selector may have left it, with its own callback.
  error = bpf_timer_init(&watch->timer, &watches, CLOCK_MONOTONIC);
  if (error && error != -EBUSY)
    return 1;
  return bpf_timer_set_callback(&watch->timer, tick) ? 2 : 0;
}

struct resolve_arguments {
  __u32 fd;
};

// Finds the struct sock behind a socket descriptor of the calling process. The table of descriptors may be
// replaced while it is read, so the caller compares the cookie before it believes the address.
SEC("syscall")
int resolve(struct resolve_arguments *arguments) {
  struct spillway_resolved *answer = bpf_map_lookup_elem(&resolved, &zero);
  struct task_struct *task = (void *)bpf_get_current_task();
  struct fdtable *table = BPF_CORE_READ(task, files, fdt);
  struct file **entries = BPF_CORE_READ(table, fd);
  struct file *file = 0;
  struct socket *socket;
  struct sock *sock;

  if (!answer)
    return 1;
  answer->sock = 0;
  answer->cookie = 0;
  if (arguments->fd >= BPF_CORE_READ(table, max_fds))
    return 2;
  bpf_probe_read_kernel(&file, sizeof(file), &entries[arguments->fd]);
  if (!file)
    return 3;
  socket = BPF_CORE_READ(file, private_data);
  sock = BPF_CORE_READ(socket, sk);
  answer->sock = (__u64)sock;
  answer->cookie = BPF_CORE_READ(sock, __sk_common.skc_cookie.counter);
  return 0;
}

// To be run when rescues have been switched on: what waits already was decided before. Or when looks are to
// follow each other faster: the timer may be set for long.
SEC("syscall")
int attend(void *unused) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);

  if (group)
    watch_from_now(group);
  return 0;
}

static long inspect_step(__u32 index, __u64 *now) {
  struct spillway_reading *reading = bpf_map_lookup_elem(&readings, &index);
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_admission *row;
  struct candidate seen = {};

  if (!reading || !slot)
    return 1;
  __builtin_memset(reading, 0, sizeof(*reading));
  if (!slot->sock)
    return 0;
  read_listener(slot->sock, reading);
  look_at(index, *now, &seen);
  reading->standing = seen.standing;
  reading->readiness = seen.readiness;
  reading->load = seen.load;
  row = slot->instance ? bpf_map_lookup_elem(&admissions, &slot->instance) : 0;
  if (row) {
    reading->open = opened(row->counts);
    reading->promised = promised(row->counts);
  }
  return 0;
}

static __always_inline void inspect_list(const struct spillway_config *group, __u64 now) {
  struct spillway_reading *reading = bpf_map_lookup_elem(&readings, &group->capacity);

  if (!reading)
    return;
  __builtin_memset(reading, 0, sizeof(*reading));
  if (!group->waiting)
    return;
  read_listener(group->waiting, reading);
  reading->load = age_of_first(group, now);
}

SEC("syscall")
int inspect(void *unused) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  __u64 now = bpf_ktime_get_ns();

  if (!group)
    return 0;
  bpf_loop(group->slots, inspect_step, &now, 0);
  inspect_list(group, now);
  return 0;
}

// Chooses as the selector does, and gives the connection that there is none to nobody. For tests, which hold
// it against a model: it is not loaded otherwise.
SEC("syscall")
int explain(struct spillway_request *request) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct spillway_explained *answer = bpf_map_lookup_elem(&explained, &zero);
  struct spillway_request asked = *request;
  struct candidate best = {};

  if (!group || !answer)
    return 1;
  answer->first = choose(&asked, bpf_ktime_get_ns(), &best);
  answer->chosen = best.slot;
  return 0;
}
