// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What has been decided, by kind and outcome, and for which slot.
#pragma once

#include "maps.h"

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
