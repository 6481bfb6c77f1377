// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What a slot looks like now: whether it has room, and whether somebody is there to take from it.
#pragma once

#include "admission.h"
#include "kernel.h"
#include "maps.h"

// The short names are used in here.
enum {
  ABSENT = SPILLWAY_ABSENT,
  LIMITED = SPILLWAY_LIMITED,
  DISABLED = SPILLWAY_DISABLED,
  FULL = SPILLWAY_FULL,
  ROOM = SPILLWAY_ROOM,
  FREE = SPILLWAY_FREE,
  LEAVING = SPILLWAY_LEAVING,
  LATE = SPILLWAY_LATE,
  RUNNING = SPILLWAY_RUNNING,
  IDLE = SPILLWAY_IDLE,
};

struct candidate {
  __u32 slot;
  __u32 standing;
  __u32 readiness;
  __u32 ahead; // accept queue + half-open requests
  __u32 load;  // what is compared: the same, or live connections
  __u32 weight;
  __u64 thread; // who waits, if anybody
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

// Who is asked about a listener at most: an epoll set of the worker before this one may still watch it, and
// other processes may do what they like with a duplicate.
#define WATCHERS 3

// Global functions: the verifier checks each once by itself and not again at every call.

// As the thread that waits: it is not known which one it is.
#define SOMEBODY 1

// Finds the thread that waits for connections of this listener: in an epoll set that watches it, or SOMEBODY
// in accept(2), poll(2) and the like. 0: nobody waits.
//
// A thread that has been woken leaves the queue of its epoll set at once, before it runs: a worker with
// something to do never looks idle, whatever it does with its time.
__noinline int find_waiting(__u64 listener, __u64 *thread) {
  __u64 wait = (__u64)READ(struct sock, listener, sk_wq);
  __u64 head, entry;

  if (!thread)
    return 0;
  *thread = 0;
  if (!wait)
    return 0;
  head = WITHIN(struct wait_queue_head, WITHIN(struct socket_wq, wait, wait), head);
  entry = (__u64)READ(struct list_head, head, next);
#pragma unroll
  for (int count = 0; count < WATCHERS; count++) {
    __u64 waiter, epoll, sleepers, first;

    if (!entry || entry == head)
      return 0;
    waiter = AROUND(struct wait_queue_entry, entry, entry);
    epoll = (__u64)READ(struct wait_queue_entry, waiter, private);
    // An epoll set leaves this empty; of others it is the thread, or what they have instead.
    if (epoll) {
      *thread = SOMEBODY;
      return 0;
    }
    epoll = (__u64)READ(struct eppoll_entry, AROUND(struct eppoll_entry, waiter, wait), base);
    epoll = (__u64)READ(struct epitem, epoll, ep);
    sleepers = WITHIN(struct wait_queue_head, WITHIN(struct eventpoll, epoll, wq), head);
    first = (__u64)READ(struct list_head, sleepers, next);
    if (first && first != sleepers) {
      *thread = (__u64)READ(struct wait_queue_entry, AROUND(struct wait_queue_entry, first, entry), private);
      return 0;
    }
    entry = (__u64)READ(struct list_head, entry, next);
  }
  return 0;
}

static __always_inline struct spillway_hints *hints_of(const struct spillway_slot *slot) {
  __u32 row = slot->hints - 1;
  void *page = slot->hints ? bpf_map_lookup_elem(&hints, &row) : 0;

  return page ? bpf_map_lookup_elem(page, &zero) : 0;
}

#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

// When a worker was here last, as far as is known; 0 for one of whom nothing is known.
static __always_inline __u64 last_seen(const struct spillway_pulse *pulse,
                                       const struct spillway_hints *said) {
  __u64 seen = pulse->seen, turned;

  if (!said)
    return seen;
  turned = (said->loop >> SPILLWAY_LOOP_SINCE_SHIFT) * NS_PER_MS;
  return turned > seen ? turned : seen;
}

// Whether what is known of a thread is still about that one.
static __always_inline int is_known(const struct spillway_pulse *pulse) {
  return pulse->thread && READ(struct task_struct, pulse->thread, start_time) == pulse->started;
}

// Whether a thread has been waiting for a processor, and got less of it than `least` nanoseconds beyond
// `used`: it is not stuck, and whoever else is woken has to wait as well.
static __always_inline int is_starved(const struct spillway_pulse *pulse, __u64 used, __u64 least) {
  __u64 thread = pulse->thread;

  if (!is_known(pulse) || READ(struct task_struct, thread, __state) ||
      READ(struct task_struct, thread, on_cpu))
    return 0;
  return READ(struct task_struct, thread, se.sum_exec_runtime) - used < least;
}

// Whether the thread that should come sleeps, and not for this listener: it waits for something else, or was
// stopped.
static __always_inline int is_elsewhere(const struct spillway_pulse *pulse) {
  return is_known(pulse) && READ(struct task_struct, pulse->thread, __state);
}

// A worker that has never been seen to wait, and says nothing, may wait in a way that cannot be seen.
static __always_inline __u32 readiness_of(const struct spillway_config *group, __u32 index,
                                          const struct spillway_hints *said, __u64 now) {
  struct spillway_pulse *pulse = bpf_map_lookup_elem(&pulses, &index);
  __u64 seen, fresh = group->fresh * NS_PER_US;

  if (!pulse)
    return RUNNING;
  if (is_elsewhere(pulse))
    return LATE;
  seen = last_seen(pulse, said);
  // A time to come is nonsense, and is taken for now.
  if (!seen || seen >= now || now - seen <= fresh)
    return RUNNING;
  return is_starved(pulse, pulse->used, fresh) ? RUNNING : LATE;
}

// A program may have lowered its listener's own backlog: the kernel would then refuse what the configured
// limit still allows. It may also have raised it: the configured limit stays in force.
static __always_inline __u32 limit_in_force(const struct spillway_slot *slot,
                                            const struct spillway_reading *reading) {
  return reading->own_limit < slot->limit ? reading->own_limit : slot->limit;
}

// 1 if a <= b, by arithmetic: a branch would double what the verifier has to follow.
static __always_inline __u32 at_most(__u32 a, __u32 b) { return ((__u64)a - (__u64)b - 1) >> 63; }

// Connections that are queued are open.
static __always_inline __u32 connections(__u32 index) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_admission *row = slot ? bpf_map_lookup_elem(&admissions, &slot->instance) : 0;

  return row && slot->instance ? opened(row->counts) : 0;
}

static __always_inline __u32 limit_of(__u32 instance) {
  __u32 *limit = bpf_map_lookup_elem(&limits, &instance);

  return limit ? *limit : 0;
}

// Whether it has all the connections it may have. This is only a view: a place is taken by hold().
static __always_inline int is_at_limit(const struct spillway_slot *slot) {
  struct spillway_admission *row = bpf_map_lookup_elem(&admissions, &slot->instance);
  __u32 limit = limit_of(slot->instance);

  return row && limit && committed(row->counts) >= limit;
}

static __always_inline int compares_connections(const struct spillway_config *group) {
  return group->policy == SPILLWAY_POLICY_LEAST_CONNECTIONS || group->policy == SPILLWAY_POLICY_WEIGHTED;
}

// How much room there is. A global function would cost a call for every row of a scan.
static __always_inline struct spillway_slot *look(const struct spillway_config *group, __u32 index,
                                                  struct candidate *seen) {
  struct spillway_slot *slot = bpf_map_lookup_elem(&slots, &index);
  struct spillway_reading reading;
  __u32 limit, requested;

  seen->slot = index;
  seen->standing = ABSENT;
  seen->readiness = RUNNING;
  seen->ahead = ~0u;
  seen->load = ~0u;
  seen->weight = 1;
  seen->thread = 0;
  if (!slot || !slot->sock)
    return 0;
  read_listener(slot->sock, &reading);
  limit = limit_in_force(slot, &reading);
  requested = group->rank_by_young ? reading.young : reading.half_open;
  seen->ahead = reading.queue + requested;
  seen->load = seen->ahead;
  seen->weight = slot->weight ? slot->weight : 1;
  seen->standing = FULL + at_most(reading.queue, limit) + at_most(seen->ahead, limit);
  if (compares_connections(group))
    seen->load = requested + connections(index);
  if (group->policy == SPILLWAY_POLICY_LEAST_CONNECTIONS)
    seen->weight = 1;
  if (group->exclusive && seen->ahead)
    seen->standing = FULL;
  if (!(slot->flags & SPILLWAY_SLOT_ENABLED))
    seen->standing = DISABLED;
  if (group->reserve && is_at_limit(slot))
    seen->standing = LIMITED;
  return slot;
}

// How much room there is and, with a time, who is there.
__noinline int look_at(__u32 index, __u64 now, struct candidate *seen) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct spillway_slot *slot;
  struct spillway_hints *said;

  if (!seen || !group)
    return 0;
  slot = look(group, index, seen);
  if (!slot || !now)
    return 0;
  said = hints_of(slot);
  if (said && said->draining) {
    seen->readiness = LEAVING;
    return 0;
  }
  // Who waits is asked only where it matters: it is most of the price of a look.
  if (!seen->ahead)
    find_waiting(slot->sock, &seen->thread);
  seen->readiness = seen->thread ? IDLE : readiness_of(group, index, said, now);
  if (seen->ahead && seen->readiness == LATE) {
    // It sleeps, for these clients.
    find_waiting(slot->sock, &seen->thread);
    if (seen->thread)
      seen->readiness = RUNNING;
  }
  return 0;
}

// Who has room comes first, then who is likely to come soon, then (load + 1) / weight, without the division.
// Half-open requests decide the rank but never close a slot: a flood of SYNs makes every slot ROOM, none
// FULL.
static __always_inline int is_better(const struct candidate *a, const struct candidate *b) {
  if (a->standing != b->standing)
    return a->standing > b->standing;
  if (a->readiness != b->readiness)
    return a->readiness > b->readiness;
  return ((__u64)a->load + 1) * b->weight < ((__u64)b->load + 1) * a->weight;
}
