// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// How many connections a worker has, and how many it has been promised: a row of struct spillway_admission
// for every instance of a worker. Both are in one word, so that no two connections can be given one place.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

#define ONE_PROMISED 1ull
#define ONE_OPEN (1ull << SPILLWAY_ADMISSION_OPEN_SHIFT)

// Tries until others have let go of the word. Who gives up errs on the side of too few connections.
#define ATTEMPTS 8

static __always_inline __u32 promised(__u64 counts) { return counts; }
static __always_inline __u32 opened(__u64 counts) { return counts >> SPILLWAY_ADMISSION_OPEN_SHIFT; }
static __always_inline __u64 committed(__u64 counts) { return (__u64)promised(counts) + opened(counts); }

static __always_inline __u64 counts_of(const struct spillway_admission *row) {
  return *(const volatile __u64 *)&row->counts;
}

static __always_inline int replace_counts(struct spillway_admission *row, __u64 before, __u64 after) {
  return __sync_val_compare_and_swap(&row->counts, before, after) == before;
}

// Promises a place, if there is one. `most`: 0 for no limit. `alone`: only if nothing else is promised.
static __always_inline int hold(struct spillway_admission *row, __u32 most, int alone) {
#pragma unroll
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    __u64 counts = counts_of(row);

    if ((most && committed(counts) >= most) || (alone && promised(counts)))
      return 0;
    if (replace_counts(row, counts, counts + ONE_PROMISED))
      return 1;
  }
  return 0;
}

// So many promises are taken back, or as many as there are.
static __always_inline void let_go(struct spillway_admission *row, __u32 number) {
#pragma unroll
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    __u64 counts = counts_of(row);
    __u32 less = promised(counts) < number ? promised(counts) : number;

    if (!less || replace_counts(row, counts, counts - less))
      return;
  }
}

// Of include/net/tcp_states.h.
#define TCP_ESTABLISHED 1
#define TCP_CLOSE_WAIT 8

// The client may have closed its side and wait for the rest of an answer.
static __always_inline int is_open(int state) { return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT; }

// A connection is open from now on; the place was promised to it, unless promises are not kept count of.
static __always_inline void open_promised(struct spillway_admission *row) {
#pragma unroll
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    __u64 counts = counts_of(row);

    if (replace_counts(row, counts, counts + ONE_OPEN - (promised(counts) ? ONE_PROMISED : 0)))
      return;
  }
  // The promise is taken back some time later.
  __sync_fetch_and_add(&row->counts, ONE_OPEN);
}

static __always_inline void open_unpromised(struct spillway_admission *row) {
  __sync_fetch_and_add(&row->counts, ONE_OPEN);
}

static __always_inline void closed(struct spillway_admission *row) {
  __sync_fetch_and_add(&row->counts, -ONE_OPEN);
}
