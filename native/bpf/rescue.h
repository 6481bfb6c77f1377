// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Sees connections that wait at a worker that is stuck, and offers them to free ones; and what else is only
// seen by somebody who looks from time to time: places that were promised to nobody, and a waiting list that
// is too long or too old.
//
// A timer looks at all listeners of the group for as long as anything is queued or half-open at one of them,
// and rests otherwise: a decision starts it. Its orders go to the owner of the group through a ring; the
// owner lets the free worker take from the other's queue. A connection is in the queue or accepted at any
// moment, and never in between.
#pragma once

#include "look.h"

// How many of either are paired in one look; a power of two.
#define MOST_PAIRS 8

// For the verifier, which does not see what a comparison elsewhere has to do with an index.
static __always_inline __u32 within(__u32 place) {
  barrier_var(place);
  return place & (MOST_PAIRS - 1);
}

struct watch {
  struct bpf_timer timer;
  __u32 armed;  // the timer runs
  __u32 asked;  // a decision was made since the last look
  __u32 quiet;  // looks in a row that have found nothing
  __u32 wanted; // somebody has been turned away, or put on the waiting list, since that was told last
  __u32 spare;
  __u64 told;        // when that was, nanoseconds
  __u64 first;       // the request at the head of the waiting list at the last look
  __u64 first_since; // when it was seen there first, nanoseconds
  __u32 stuck_count;
  __u32 free_count;
  __u32 next;  // of the stuck ones, to be helped
  __u32 start; // so that it is not always the same ones that are paired when there are many
  __u32 stuck[MOST_PAIRS];
  __u32 waiting[MOST_PAIRS]; // connections in the queue of each of those
  __u32 free[MOST_PAIRS];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct watch);
} watches SEC(".maps");

// Looks without anything waiting before the timer rests. A request is counted as half-open some microseconds
// after its decision, so the one look after a decision may come too early.
#define QUIET_LOOKS 2

static __always_inline void start_timer(struct watch *watch, const struct spillway_config *group) {
  bpf_timer_start(&watch->timer, group->tick * NS_PER_US, 0);
}

// To be called with every decision. The flag is read first, because writing it takes it from other
// processors.
static __always_inline void watch_over(const struct spillway_config *group) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);

  if (!watch || !group->tick)
    return;
  if (!watch->asked)
    __sync_lock_test_and_set(&watch->asked, 1);
  if (!watch->armed && !__sync_lock_test_and_set(&watch->armed, 1))
    start_timer(watch, group);
}

// Somebody could not be given what he wanted.
static __always_inline void note_want(const struct spillway_config *group) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);

  if (watch && !watch->wanted)
    __sync_lock_test_and_set(&watch->wanted, 1);
  watch_over(group);
}

static __always_inline void watch_from_now(const struct spillway_config *group) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);

  if (!watch || !group->tick)
    return;
  __sync_lock_test_and_set(&watch->asked, 1);
  __sync_lock_test_and_set(&watch->armed, 1);
  start_timer(watch, group);
}

static __always_inline __u64 time_used(const struct spillway_pulse *pulse) {
  return pulse->thread ? READ(struct task_struct, pulse->thread, se.sum_exec_runtime) : 0;
}

static __always_inline void mark_seen(struct spillway_pulse *pulse, __u64 thread, __u64 now) {
  if (thread > SOMEBODY && pulse->thread != thread) {
    pulse->started = READ(struct task_struct, thread, start_time);
    pulse->thread = thread;
  }
  pulse->seen = now;
  pulse->used = time_used(pulse);
  pulse->running = 0;
  pulse->helped = 0;
}

// The worker is known to be there at this moment.
static __always_inline void note_seen(__u32 index, __u64 thread, __u64 now) {
  struct spillway_pulse *pulse = bpf_map_lookup_elem(&pulses, &index);

  if (pulse)
    mark_seen(pulse, thread, now);
}

// Whether the connection at the head of the queue is the one of the last look. Its memory may have been given
// to another one in between; then that one is offered a look earlier.
static __always_inline int head_stays(struct spillway_pulse *pulse, __u64 head, __u64 now) {
  if (head == pulse->head)
    return 1;
  // The one before has been taken: by its owner, unless others help.
  if (pulse->head && !pulse->helped)
    mark_seen(pulse, 0, now);
  pulse->head = head;
  return 0;
}

static __always_inline __u64 turn_of(__u64 loop) {
  return loop << (64 - SPILLWAY_LOOP_SINCE_SHIFT) >>
         (64 - SPILLWAY_LOOP_SINCE_SHIFT + SPILLWAY_LOOP_TURN_SHIFT);
}

struct tour {
  __u64 now;
  __u32 pending;
};

static __always_inline void add_free(struct watch *watch, __u32 index) {
  __u32 place = watch->free_count;

  if (place >= MOST_PAIRS)
    return;
  watch->free[within(place)] = index;
  watch->free_count = place + 1;
}

static __always_inline void add_stuck(struct watch *watch, __u32 index, __u32 waiting) {
  __u32 place = watch->stuck_count;

  if (place >= MOST_PAIRS)
    return;
  watch->stuck[within(place)] = index;
  watch->waiting[within(place)] = waiting;
  watch->stuck_count = place + 1;
}

// 0 if it has been given.
static __always_inline int order(enum spillway_order_kind kind, __u32 slot, __u32 from, __u32 waiting) {
  struct spillway_order what = {.kind = kind, .slot = slot, .from = from, .waiting = waiting};

  return bpf_ringbuf_output(&orders, &what, sizeof(what), 0);
}

// Microseconds that a worker computes before it stands back.
#define STAND_BACK_AFTER 3000

// A worker that computes for long stands back: others that share its processor have something short to do
// when they wake up, and the scheduler would let them wait for its next tick. Whether it is to be looked at
// again for that.
static __always_inline int stand_back(const struct spillway_config *group, struct spillway_pulse *pulse,
                                      __u32 index, __u64 thread) {
  int computes = group->rescue && !thread && is_known(pulse) && !is_elsewhere(pulse);

  if (pulse->behind) {
    if ((!computes || pulse->seen > pulse->behind) && !order(SPILLWAY_ORDER_COME_BACK, index, 0, 0))
      pulse->behind = 0;
    return pulse->behind != 0;
  }
  if (!computes)
    return 0;
  if (READ(struct task_struct, pulse->thread, on_cpu))
    pulse->running++;
  if (pulse->running >= 2 && pulse->running * group->tick >= STAND_BACK_AFTER &&
      !order(SPILLWAY_ORDER_STAND_BACK, index, 0, 0))
    pulse->behind = bpf_ktime_get_ns();
  return 1;
}

// Nanoseconds after which a promise is taken back that nobody can be seen to be on his way for. The request
// may have died, or the SYN was answered with a cookie.
#define PROMISED_FOR 1000000000ull

// What was promised, less the requests and the queue, is what nobody is on his way for. A request is between
// the two for a moment, so only what is there at every look of a whole second counts. Whether it is to be
// looked at again.
static __always_inline int take_back_promises(const struct spillway_slot *slot,
                                              const struct spillway_reading *reading, __u64 now) {
  struct spillway_admission *row = bpf_map_lookup_elem(&admissions, &slot->instance);
  __u32 known, more;

  if (!row)
    return 0;
  known = reading->queue + reading->half_open + row->claimed;
  more = promised(counts_of(row));
  if (more <= known) {
    row->since = 0;
    return 0;
  }
  more -= known;
  if (!row->since) {
    row->since = now;
    row->surplus = more;
  }
  if (more < row->surplus)
    row->surplus = more;
  if (now - row->since >= PROMISED_FOR) {
    let_go(row, row->surplus);
    row->since = 0;
  }
  return 1;
}

// Milliseconds that the first in the waiting list has been there; 0 for nobody.
static __always_inline __u32 age_of_first(const struct spillway_config *group, __u64 now) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);
  __u64 first = (__u64)READ(struct inet_connection_sock, group->waiting, icsk_accept_queue.rskq_accept_head);
  __u64 since, sent;

  if (!watch || !first)
    return 0;
  if (watch->first != first) {
    watch->first = first;
    watch->first_since = now;
  }
  // When its SYN was answered, in microseconds of the same clock; 0 for a client with a cookie, of whom it is
  // only known since when he is the first. Another one may have come to the same memory.
  sent = READ(struct tcp_request_sock, first, snt_synack) * NS_PER_US;
  since = sent ? sent : watch->first_since;
  return since < now ? (now - since) / NS_PER_MS : 0;
}

// Nanoseconds between two orders that more is wanted.
#define WANTED_EVERY 10000000ull

// Looks at the waiting list, and tells what there is to tell. Whether it is to be looked at again.
static __always_inline int watch_list(struct watch *watch, const struct spillway_config *group, __u64 now) {
  struct spillway_reading reading = {};

  if (group->waiting)
    read_listener(group->waiting, &reading);
  if (!reading.queue)
    watch->first = 0;
  if (reading.queue && group->patience && age_of_first(group, now) >= group->patience)
    order(SPILLWAY_ORDER_EXPIRED, 0, 0, reading.queue);
  if ((watch->wanted || reading.queue) && now - watch->told >= WANTED_EVERY) {
    __sync_lock_test_and_set(&watch->wanted, 0);
    watch->told = now;
    order(SPILLWAY_ORDER_WANTED, 0, 0, reading.queue);
  }
  return watch->wanted || reading.queue || reading.half_open;
}

static long tour_step(__u32 step, struct tour *tour) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);
  struct spillway_reading reading;
  struct spillway_pulse *pulse;
  struct spillway_slot *slot;
  struct spillway_hints *said;
  __u64 thread = 0;
  __u32 index;

  if (!group || !watch)
    return 1;
  index = watch->start + step;
  if (index >= group->slots)
    index -= group->slots;
  slot = bpf_map_lookup_elem(&slots, &index);
  pulse = bpf_map_lookup_elem(&pulses, &index);
  if (!slot || !pulse || !slot->sock)
    return 0;
  read_listener(slot->sock, &reading);
  tour->pending += reading.queue + reading.half_open;
  find_waiting(slot->sock, &thread);
  if (thread)
    mark_seen(pulse, thread, tour->now);
  said = hints_of(slot);
  // A note of the same turn is no news: the worker's own watcher corrects it while its loop is stuck.
  if (said && turn_of(said->loop) != pulse->turn) {
    pulse->turn = turn_of(said->loop);
    mark_seen(pulse, 0, tour->now);
  }
  tour->pending += stand_back(group, pulse, index, thread);
  if (group->reserve && slot->instance)
    tour->pending += take_back_promises(slot, &reading, tour->now);
  if (!reading.queue) {
    pulse->head = 0;
    if (thread && (slot->flags & SPILLWAY_SLOT_HELPS) && !(said && said->draining) &&
        !(group->reserve && is_at_limit(slot)))
      add_free(watch, index);
    return 0;
  }
  if (head_stays(pulse,
                 (__u64)READ(struct inet_connection_sock, slot->sock, icsk_accept_queue.rskq_accept_head),
                 tour->now) &&
      !thread)
    add_stuck(watch, index, reading.queue);
  return 0;
}

static __always_inline void offer(__u32 stuck, __u32 waiting, __u32 free) {
  struct spillway_pulse *pulse = bpf_map_lookup_elem(&pulses, &stuck);

  if (!order(SPILLWAY_ORDER_HELP, free, stuck, waiting) && pulse)
    pulse->helped = 1;
}

// Every free worker helps one that is stuck. When there are more of them than stuck ones, several help one as
// long as more connections wait there than come to help.
static long pair_step(__u32 step, void *unused) {
  struct watch *watch = bpf_map_lookup_elem(&watches, &zero);
  __u32 place, helpers;

  if (!watch || !watch->stuck_count)
    return 1;
  place = watch->next < watch->stuck_count ? watch->next : 0;
  watch->next = place + 1;
  helpers = step / watch->stuck_count;
  place = within(place);
  if (helpers == 0 || watch->waiting[place] > helpers)
    offer(watch->stuck[place], watch->waiting[place], watch->free[within(step)]);
  return 0;
}

static __always_inline void pair(struct watch *watch) {
  watch->next = 0;
  if (watch->stuck_count)
    bpf_loop(watch->free_count, pair_step, 0, 0);
}

// Until the next decision.
static __always_inline void rest(struct watch *watch, const struct spillway_config *group) {
  __sync_lock_test_and_set(&watch->armed, 0);
  // A decision that has found the timer armed meanwhile has left its mark.
  if (group->tick && watch->asked && !__sync_lock_test_and_set(&watch->armed, 1))
    start_timer(watch, group);
}

static int tick(void *map, __u32 *key, struct watch *watch) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct tour tour = {.now = bpf_ktime_get_ns()};
  __u32 asked;

  if (!group)
    return 0;
  asked = __sync_lock_test_and_set(&watch->asked, 0);
  watch->stuck_count = 0;
  watch->free_count = 0;
  watch->start = watch->start + 1 < group->slots ? watch->start + 1 : 0;
  bpf_loop(group->slots, tour_step, &tour, 0);
  tour.pending += watch_list(watch, group, tour.now);
  if (group->rescue)
    pair(watch);
  watch->quiet = tour.pending || asked ? 0 : watch->quiet + 1;
  // Switched off, this was the last look: whoever stood back has come back.
  if (group->tick && (watch->quiet < QUIET_LOOKS || watch->asked))
    start_timer(watch, group);
  else
    rest(watch, group);
  return 0;
}
