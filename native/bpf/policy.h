// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The policies: whom a connection is offered first, and when another one is better.
#pragma once

#include "look.h"

// A second number that tells nothing about the first (the finalizer of MurmurHash3).
static __always_inline __u32 another(__u32 number) {
  number ^= number >> 16;
  number *= 0x85ebca6b;
  number ^= number >> 13;
  number *= 0xc2b2ae35;
  return number ^ number >> 16;
}

// --- first choices, each in constant time ---

// By weight; a slot that is disabled or empty has no share in the table.
static __always_inline __u32 weighted_pick(const struct spillway_config *group, __u32 number) {
  __u64 product = (__u64)number * group->slots;
  __u32 index = product >> 32;
  struct spillway_choice *choice = bpf_map_lookup_elem(&choices, &index);

  if (!choice || (__u32)product < choice->threshold)
    return index;
  return choice->alias;
}

// One after another. With weights, the multiples of the golden ratio: of all sequences the one whose every
// stretch is spread most evenly (Knuth, "The Art of Computer Programming", volume 3, 6.4), so that each slot
// gets its share of any few decisions, and not only in the long run.
#define GOLDEN_RATIO 0x9e3779b9u

static __always_inline __u32 pick_in_turn(const struct spillway_config *group,
                                          const struct spillway_request *request) {
  if (group->equal && group->slots)
    return request->turn % group->slots;
  return weighted_pick(group, request->turn * GOLDEN_RATIO);
}

static __always_inline __u32 pick_by_source(const struct spillway_config *group,
                                            const struct spillway_request *request) {
  struct spillway_buckets *table = bpf_map_lookup_elem(&buckets, &zero);

  return table ? table->slot[request->source % SPILLWAY_BUCKETS] : 0;
}

// In turn among those that are placed on this CPU; where nobody is, among all.
static __always_inline __u32 pick_by_cpu(const struct spillway_config *group,
                                         const struct spillway_request *request) {
  struct spillway_cpu *here = bpf_map_lookup_elem(&cpus, &request->cpu);
  __u32 *slot, place;

  if (!here || !here->count)
    return pick_in_turn(group, request);
  place = here->first + request->turn % here->count;
  slot = bpf_map_lookup_elem(&cpu_slots, &place);
  return slot ? *slot : pick_in_turn(group, request);
}

static __always_inline __u32 pick_first(const struct spillway_config *group,
                                        const struct spillway_request *request) {
  switch (group->policy) {
  case SPILLWAY_POLICY_IDLE_FIRST:
  case SPILLWAY_POLICY_WEIGHTED:
  case SPILLWAY_POLICY_LEAST_CONNECTIONS:
    return pick_in_turn(group, request);
  case SPILLWAY_POLICY_STICKY:
    return pick_by_source(group, request);
  case SPILLWAY_POLICY_LOCAL_CPU:
    return pick_by_cpu(group, request);
  default:
    return weighted_pick(group, request->hash);
  }
}

// --- looking around ---

struct walk {
  __u64 now;
  __u32 start;
  __u32 shift;
  __u32 enough;
  struct candidate best;
};

// The row that is `step` rows behind `start` when rows follow each other in a ring. Both are below the number
// of slots.
static __always_inline __u32 ring_index(const struct spillway_config *group, __u32 start, __u32 step) {
  __u32 index = start + step;

  return index >= group->slots ? index - group->slots : index;
}

// Not somebody who is late or leaving, as far as that was asked.
static __always_inline int is_enough(const struct candidate *seen, __u32 enough) {
  return seen->standing == FREE && seen->readiness >= RUNNING && seen->load < enough;
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
    if (walk->now)
      look_at(ring_index(group, walk->start, row), walk->now, &seen);
    else
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
// at `start`, so that equals are taken in turn. Without a time, it is not asked who is there: that nearly
// doubles the price of a row, and where queues are full there is nobody waiting.
static __always_inline void scan(const struct spillway_config *group, __u32 start, __u32 enough, __u64 now,
                                 struct candidate *best) {
  struct walk walk = {.now = now, .start = start, .enough = enough, .best = *best};

  bpf_loop((group->slots + SCAN_ROWS - 1) / SCAN_ROWS, scan_step, &walk, 0);
  *best = walk.best;
}

// As is_better(), but of two that nothing waits for neither is: the turns have given each its share by weight
// already.
static __always_inline int is_worth_leaving_for(const struct candidate *a, const struct candidate *b) {
  if (a->standing != b->standing)
    return a->standing > b->standing;
  if (a->readiness != b->readiness)
    return a->readiness > b->readiness;
  return (__u64)a->load * b->weight < (__u64)b->load * a->weight;
}

// The others in a ring behind `start`: every number below twice as many as there are is one of them.
static __always_inline __u32 neighbour(const struct spillway_config *group, __u32 start, __u32 number) {
  __u32 others = group->slots - 1;

  return ring_index(group, start, 1 + (number >= others ? number - others : number));
}

static long neighbour_step(__u32 step, struct walk *walk) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct candidate seen = {};

  if (!group)
    return 1;
  look_at(neighbour(group, walk->start, walk->shift + step), walk->now, &seen);
  if (seen.standing == FREE && seen.readiness == IDLE) {
    walk->best = seen;
    return 1;
  }
  if (!step && is_worth_leaving_for(&seen, &walk->best))
    walk->best = seen;
  return 0;
}

#define NEIGHBOURS 16

// Where the best is not as ready as that, the first of its neighbours that is idle; if nobody is, the better
// one of it and one of them. Which neighbour is asked first is up to the hash: the turns have been up to now.
static __always_inline void prefer_idle(const struct spillway_config *group, __u64 now, __u32 least,
                                        __u32 hash, struct candidate *best) {
  struct walk walk = {.now = now, .start = best->slot, .best = *best};
  __u32 others = group->slots - 1;

  if (best->standing == FREE && best->readiness >= least)
    return;
  if (best->slot >= group->slots || !others)
    return;
  walk.shift = another(hash) % others;
  bpf_loop(others < NEIGHBOURS ? others : NEIGHBOURS, neighbour_step, &walk, 0);
  *best = walk.best;
}

static __always_inline void consider(__u32 index, __u64 now, struct candidate *best) {
  struct candidate seen = {};

  look_at(index, now, &seen);
  if (is_better(&seen, best))
    *best = seen;
}

// --- choosing ---

// Whether it matters under this policy who is there, and not only how much room there is.
static __always_inline int asks_who_is_there(const struct spillway_config *group) {
  return group->policy == SPILLWAY_POLICY_IDLE_FIRST || group->policy == SPILLWAY_POLICY_LOCAL_CPU ||
         group->policy == SPILLWAY_POLICY_TWO_CHOICES || group->policy == SPILLWAY_POLICY_LEAST_QUEUE;
}

static __always_inline int looks_around(const struct spillway_config *group) {
  return group->policy == SPILLWAY_POLICY_IDLE_FIRST || group->policy == SPILLWAY_POLICY_LOCAL_CPU;
}

// Whether the first choice is the best of all, which takes a look at all.
static __always_inline int compares_all(const struct spillway_config *group) {
  return group->policy == SPILLWAY_POLICY_LEAST_QUEUE || compares_connections(group);
}

// A load below which nobody can be better. With weights there is none: one of more weight may have something
// to do and be the better one all the same.
static __always_inline __u32 least_load(const struct spillway_config *group) {
  return group->policy != SPILLWAY_POLICY_WEIGHTED || group->equal;
}

// Rather than the first choice the one that was chosen last, if it is idle and has no more connections for
// its weight: what it needs is in the caches.
static __always_inline int stays_warm(const struct spillway_config *group, __u32 warm, __u64 now,
                                      struct candidate *best) {
  struct candidate seen = {};

  if (warm >= group->slots)
    return 0;
  look_at(warm, now, &seen);
  if (seen.standing != FREE || seen.readiness != IDLE ||
      (__u64)connections(seen.slot) * best->weight > (__u64)connections(best->slot) * seen.weight)
    return 0;
  *best = seen;
  return 1;
}

// Chooses a slot at that time, and tells which one was the policy's first choice: equal requests and equal
// slots give equal choices. The best there is may be nobody who has room.
//
// A global function, or the verifier would follow it once for every way that leads there and on.
__noinline int choose(struct spillway_request *request, __u64 time, struct candidate *best) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  __u32 first, number;
  __u64 now;

  if (!request || !best || !group)
    return 0;
  now = asks_who_is_there(group) ? time : 0;
  number = request->hash;

  look_at(pick_first(group, request), now, best);
  if (group->policy == SPILLWAY_POLICY_TWO_CHOICES)
    consider(weighted_pick(group, another(number)), now, best);
  if (group->policy == SPILLWAY_POLICY_IDLE_FIRST && stays_warm(group, request->warm, now, best))
    return best->slot;
  first = best->slot;
  if (compares_all(group)) {
    if (!is_enough(best, least_load(group)))
      scan(group, first, least_load(group), now, best);
    return best->slot;
  }
  if (looks_around(group))
    prefer_idle(group, now, group->policy == SPILLWAY_POLICY_LOCAL_CPU ? RUNNING : IDLE, request->hash, best);
  if (best->standing == FREE)
    return first;
  number = another(another(number));
  consider(weighted_pick(group, number), 0, best);
  number = another(number);
  consider(weighted_pick(group, number), 0, best);
  if (best->standing != FREE)
    scan(group, weighted_pick(group, another(number)), ~0u, 0, best);
  return first;
}
