// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Chooses the listener of a reuseport group that gets a connection, from the real lengths of the accept
// queues.
//
// `selector` runs in the kernel where a packet without a connection meets the group: at the SYN, at an ACK
// that brings back a SYN cookie, and once for every connection of a listener that stops listening. `resolve`
// and `inspect` run when the owner of the group asks (BPF_PROG_TEST_RUN), in the owner's own context.
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

// Only the fields that are read are named; CO-RE finds their place in the running kernel's own types.
#define KERNEL_TYPE __attribute__((preserve_access_index))

typedef struct {
  int counter;
} KERNEL_TYPE atomic_t;

typedef struct {
  long counter;
} KERNEL_TYPE atomic64_t;

struct sock_common {
  atomic64_t skc_cookie;
} KERNEL_TYPE;

struct sock {
  struct sock_common __sk_common;
  __u32 sk_ack_backlog;
  __u32 sk_max_ack_backlog;
} KERNEL_TYPE;

struct inet_sock {
  struct sock sk;
} KERNEL_TYPE;

struct request_sock_queue {
  atomic_t qlen;
  atomic_t young;
} KERNEL_TYPE;

struct inet_connection_sock {
  struct inet_sock icsk_inet;
  struct request_sock_queue icsk_accept_queue;
} KERNEL_TYPE;

struct socket {
  struct sock *sk;
} KERNEL_TYPE;

struct file {
  void *private_data;
} KERNEL_TYPE;

struct fdtable {
  unsigned int max_fds;
  struct file **fd;
} KERNEL_TYPE;

struct files_struct {
  struct fdtable *fdt;
} KERNEL_TYPE;

struct task_struct {
  struct files_struct *files;
} KERNEL_TYPE;

// The cast reads a listener like any structure and needs Linux 6.2; otherwise it is copied field by field.
// They are two objects (selector_cast.bpf.c is the other one), because naming a kernel function that does not
// exist has a price even where it is never called: libbpf looks for it in the BTF of all modules, which takes
// CAP_SYS_ADMIN, and before its version 1.3 the load fails for want of it.
#ifdef SPILLWAY_READ_BY_CAST
extern void *bpf_rdonly_cast(const void *address, __u32 type_id) __ksym;
#endif

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct spillway_config);
} config SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct spillway_slot);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct spillway_choice);
} choices SEC(".maps");

// The loader may turn this into a SOCKMAP, which sk_lookup can use as well, but which needs CAP_NET_ADMIN.
struct {
  __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS + SPILLWAY_EXTRA_SOCKETS);
  __type(key, __u32);
  __type(value, __u64);
} sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct spillway_slot_counters);
} slot_counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct spillway_counters);
} counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct spillway_reading);
} readings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct spillway_resolved);
} resolved SEC(".maps");

static const __u32 zero = 0;

// --- what a slot looks like now ---

// How well a slot can take one more connection. Order matters: more is better.
enum standing {
  ABSENT,   // nobody there
  DISABLED, // new connections are not wanted there, but those that believe they are connected beat nobody at
            // all
  FULL,     // the accept queue is full
  ROOM,     // the queue has a place, but not if every half-open request should finish its handshake
  FREE,     // there is a place for this connection and for all that are half-open
};

struct candidate {
  __u32 slot;
  __u32 standing;
  __u32 load; // accept queue + half-open requests
  __u32 weight;
};

// The fallback's price is its number of calls: neighbours are copied together. Whether two fields are
// neighbours is known when the program is loaded, so one of the ways is gone before it runs.
#define COPY_TWO(pair, from, type, one, two)                                                                 \
  do {                                                                                                       \
    const char *base = (const void *)(from);                                                                 \
    if (bpf_core_field_offset(type, two) == bpf_core_field_offset(type, one) + sizeof(__u32)) {              \
      bpf_probe_read_kernel(pair, 2 * sizeof(__u32), base + bpf_core_field_offset(type, one));               \
    } else {                                                                                                 \
      bpf_probe_read_kernel(&(pair)[0], sizeof(__u32), base + bpf_core_field_offset(type, one));             \
      bpf_probe_read_kernel(&(pair)[1], sizeof(__u32), base + bpf_core_field_offset(type, two));             \
    }                                                                                                        \
  } while (0)

static __always_inline void read_listener(__u64 address, struct spillway_reading *reading) {
#ifdef SPILLWAY_READ_BY_CAST
  struct inet_connection_sock *listener =
      bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct inet_connection_sock));

  reading->queue = listener->icsk_inet.sk.sk_ack_backlog;
  reading->own_limit = listener->icsk_inet.sk.sk_max_ack_backlog;
  reading->half_open = listener->icsk_accept_queue.qlen.counter;
  reading->young = listener->icsk_accept_queue.young.counter;
#else
  struct inet_connection_sock *listener = (void *)address;
  __u32 accepted[2], requested[2];

  COPY_TWO(accepted, address, struct sock, sk_ack_backlog, sk_max_ack_backlog);
  COPY_TWO(requested, __builtin_preserve_access_index(&listener->icsk_accept_queue),
           struct request_sock_queue, qlen, young);
  reading->queue = accepted[0];
  reading->own_limit = accepted[1];
  reading->half_open = requested[0];
  reading->young = requested[1];
#endif
}

// A program may have lowered its listener's own backlog: the kernel would then refuse what the configured
// limit still allows. It may also have raised it: the configured limit stays in force.
static __always_inline __u32 limit_in_force(const struct spillway_slot *slot,
                                            const struct spillway_reading *reading) {
  return reading->own_limit < slot->limit ? reading->own_limit : slot->limit;
}

// 1 if a <= b, by arithmetic: a branch would double what the verifier has to follow.
static __always_inline __u32 at_most(__u32 a, __u32 b) { return ((__u64)a - (__u64)b - 1) >> 63; }

static __always_inline int look(const struct spillway_config *group, __u32 index, struct candidate *seen) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_reading reading;
  __u32 limit;

  seen->slot = index;
  seen->standing = ABSENT;
  seen->load = ~0u;
  seen->weight = 1;
  if (!slot || !slot->sock)
    return 0;
  read_listener(slot->sock, &reading);
  limit = limit_in_force(slot, &reading);
  seen->load = reading.queue + (group->rank_by_young ? reading.young : reading.half_open);
  seen->weight = slot->weight ? slot->weight : 1;
  seen->standing = FULL + at_most(reading.queue, limit) + at_most(seen->load, limit);
  if (!(slot->flags & SPILLWAY_SLOT_ENABLED))
    seen->standing = DISABLED;
  return 0;
}

// A global function: the verifier checks it once by itself and not again at every call.
__noinline int look_at(__u32 index, struct candidate *seen) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);

  if (!seen || !group)
    return 0;
  return look(group, index, seen);
}

// (load + 1) / weight, without the division. Half-open requests decide the rank but never close a slot: a
// flood of SYNs makes every slot ROOM, none FULL.
static __always_inline int is_better(const struct candidate *a, const struct candidate *b) {
  if (a->standing != b->standing)
    return a->standing > b->standing;
  return (__u64)(a->load + 1) * b->weight < (__u64)(b->load + 1) * a->weight;
}

// --- candidates ---

// Picks by weight in constant time; a slot that is disabled or empty has no share in the table.
static __always_inline __u32 weighted_pick(const struct spillway_config *group, __u32 random) {
  __u64 product = (__u64)random * group->slots;
  __u32 index = product >> 32;
  struct spillway_choice *choice = bpf_map_lookup_elem(&choices, &index);

  if (!choice || (__u32)product < choice->threshold)
    return index;
  return choice->alias;
}

static __always_inline void consider(__u32 index, struct candidate *best) {
  struct candidate seen = {};

  look_at(index, &seen);
  if (is_better(&seen, best))
    *best = seen;
}

static __always_inline int is_enough(const struct candidate *seen, __u32 enough) {
  return seen->standing == FREE && seen->load < enough;
}

struct walk {
  __u32 start;
  __u32 enough;
  struct candidate best;
};

// The row that is `step` rows behind `start` when rows follow each other in a ring. Both are below the number
// of slots.
static __always_inline __u32 ring_index(const struct spillway_config *group, __u32 start, __u32 step) {
  __u32 index = start + step;

  return index >= group->slots ? index - group->slots : index;
}

// Rows looked at in one step: a call and a return cost as much as a look.
#ifndef SCAN_ROWS
#define SCAN_ROWS 4
#endif

static long scan_step(__u32 step, struct walk *walk) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  __u32 row = step * SCAN_ROWS;

  if (!group)
    return 1;
#pragma unroll
  for (int count = 0; count < SCAN_ROWS; count++, row++) {
    struct candidate seen = {};

    if (row >= group->slots)
      return 1;
    look(group, ring_index(group, walk->start, row), &seen);
    if (is_better(&seen, &walk->best)) {
      walk->best = seen;
      if (is_enough(&seen, walk->enough))
        return 1;
    }
  }
  return 0;
}

// The best of all slots, unless a FREE one whose load is below `enough` comes before the end. The walk starts
// at `start`, so that equals are taken in turn.
static __always_inline void scan(const struct spillway_config *group, __u32 start, __u32 enough,
                                 struct candidate *best) {
  struct walk walk = {.start = start, .enough = enough, .best = *best};

  bpf_loop((group->slots + SCAN_ROWS - 1) / SCAN_ROWS, scan_step, &walk, 0);
  *best = walk.best;
}

// A second number that tells nothing about the first (the finalizer of MurmurHash3).
static __always_inline __u32 another(__u32 number) {
  number ^= number >> 16;
  number *= 0x85ebca6b;
  number ^= number >> 13;
  number *= 0xc2b2ae35;
  return number ^ number >> 16;
}

static __always_inline void first_choice(const struct spillway_config *group, __u32 hash,
                                         struct candidate *first) {
  __u32 index = weighted_pick(group, hash);

  look(group, index, first);
  if (group->policy == SPILLWAY_POLICY_TWO_CHOICES) {
    struct candidate second = {};

    look(group, weighted_pick(group, another(hash)), &second);
    if (is_better(&second, first))
      *first = second;
  }
}

// --- counting ---

static __always_inline void count(enum spillway_kind kind, enum spillway_outcome outcome) {
  struct spillway_counters *group = bpf_map_lookup_elem(&counters, &zero);

  if (group)
    group->decisions[kind][outcome]++;
}

static __always_inline void count_stale(void) {
  struct spillway_counters *group = bpf_map_lookup_elem(&counters, &zero);

  if (group)
    group->stale++;
}

static __always_inline void count_taken(enum spillway_kind kind, __u32 taken, __u32 first) {
  struct spillway_slot_counters *to = bpf_map_lookup_elem(&slot_counters, &taken);
  struct spillway_slot_counters *from;

  count(kind, taken == first ? SPILLWAY_OUTCOME_FIRST : SPILLWAY_OUTCOME_REDIRECTED);
  if (to) {
    if (kind == SPILLWAY_KIND_SYN)
      to->syn++;
    else if (kind == SPILLWAY_KIND_COOKIE_ACK)
      to->cookie_ack++;
    else
      to->migrated++;
    if (taken != first)
      to->redirected_in++;
  }
  if (taken == first)
    return;
  from = bpf_map_lookup_elem(&slot_counters, &first);
  if (from)
    from->redirected_out++;
}

// --- verdicts ---

static __always_inline int select_socket(struct sk_reuseport_md *ctx, __u32 key) {
  return bpf_sk_select_reuseport(ctx, &sockets, &key, 0);
}

static __always_inline int no_room(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                   enum spillway_kind kind) {
  if (group->overflow == SPILLWAY_OVERFLOW_DROP && !select_socket(ctx, group->capacity + SPILLWAY_SINK)) {
    count(kind, SPILLWAY_OUTCOME_DROPPED);
    return SK_PASS;
  }
  count(kind, group->overflow == SPILLWAY_OVERFLOW_RESET ? SPILLWAY_OUTCOME_RESET : SPILLWAY_OUTCOME_FAILED);
  return SK_DROP;
}

struct sweep {
  struct sk_reuseport_md *ctx;
  __u32 start;
  __u32 least;
  __u32 found;
};

static long sweep_step(__u32 step, struct sweep *sweep) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct candidate seen = {};

  if (!group)
    return 1;
  look_at(ring_index(group, sweep->start, step), &seen);
  if (seen.standing < sweep->least)
    return 0;
  if (select_socket(sweep->ctx, seen.slot))
    return 0;
  sweep->found = seen.slot;
  return 1;
}

// A slot whose socket left the group behind its owner's back still looks like a place, but cannot be
// selected. Whoever can be selected and stands well enough is taken instead: rare enough that the first one
// found will do.
static __always_inline int take_any(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                    enum spillway_kind kind, __u32 least, __u32 first) {
  struct sweep sweep = {.ctx = ctx, .start = first, .least = least, .found = ~0u};

  count_stale();
  bpf_loop(group->slots, sweep_step, &sweep, 0);
  if (sweep.found == ~0u)
    return 0;
  count_taken(kind, sweep.found, first);
  return 1;
}

// A new connection goes where there is room, or nowhere. The other kinds belong to clients that believe they
// are connected: they get the best place there is, however full.
static __always_inline int decide(struct sk_reuseport_md *ctx, const struct spillway_config *group,
                                  enum spillway_kind kind) {
  __u32 least = kind == SPILLWAY_KIND_SYN ? ROOM : DISABLED;
  struct candidate best = {};
  __u32 random = ctx->hash, enough = ~0u, first;

  first_choice(group, ctx->hash, &best);
  first = best.slot;
  if (group->policy == SPILLWAY_POLICY_LEAST_QUEUE) {
    enough = 1;
  } else if (best.standing != FREE) {
    random = another(another(ctx->hash));
    consider(weighted_pick(group, random), &best);
    random = another(random);
    consider(weighted_pick(group, random), &best);
  }
  if (!is_enough(&best, enough))
    scan(group, weighted_pick(group, another(random)), enough, &best);
  if (group->policy == SPILLWAY_POLICY_LEAST_QUEUE)
    first = best.slot;
  if (best.standing >= least) {
    if (!select_socket(ctx, best.slot)) {
      count_taken(kind, best.slot, first);
      return SK_PASS;
    }
    if (take_any(ctx, group, kind, least, first))
      return SK_PASS;
  }
  if (kind == SPILLWAY_KIND_SYN)
    return no_room(ctx, group, kind);
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

// --- run for the owner ---

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

static long inspect_step(__u32 index, void *unused) {
  struct spillway_reading *reading = bpf_map_lookup_elem(&readings, &index);
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);

  if (!reading || !slot)
    return 1;
  if (slot->sock)
    read_listener(slot->sock, reading);
  else
    __builtin_memset(reading, 0, sizeof(*reading));
  return 0;
}

SEC("syscall")
int inspect(void *unused) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);

  if (group)
    bpf_loop(group->slots, inspect_step, 0, 0);
  return 0;
}
