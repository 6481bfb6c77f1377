// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The maps of one group. Their keys and values are in layout.h; who writes what is said there.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

#define ARRAY(name, entries, row)                                                                            \
  struct {                                                                                                   \
    __uint(type, BPF_MAP_TYPE_ARRAY);                                                                        \
    __uint(max_entries, entries);                                                                            \
    __type(key, __u32);                                                                                      \
    __type(value, row);                                                                                      \
  } name SEC(".maps")

#define PER_CPU_ARRAY(name, entries, row)                                                                    \
  struct {                                                                                                   \
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                                                 \
    __uint(max_entries, entries);                                                                            \
    __type(key, __u32);                                                                                      \
    __type(value, row);                                                                                      \
  } name SEC(".maps")

#define ADMISSIONS (SPILLWAY_MAX_SLOTS * SPILLWAY_ADMISSIONS_PER_SLOT + 1)

// How the sockets are to be chosen: written by the owner of the group.
ARRAY(config, 1, struct spillway_config);
ARRAY(slots, SPILLWAY_MAX_SLOTS, struct spillway_slot);
ARRAY(choices, SPILLWAY_MAX_SLOTS, struct spillway_choice);
ARRAY(cpus, SPILLWAY_MAX_CPUS, struct spillway_cpu);
ARRAY(cpu_slots, SPILLWAY_MAX_SLOTS, __u32);
ARRAY(buckets, 1, struct spillway_buckets);
ARRAY(limits, ADMISSIONS, __u32);

// Rows of `admissions`, by the cookie of the socket that claims for them, and of the listener they are for.
#define BY_COOKIE(name, entries, row)                                                                        \
  struct {                                                                                                   \
    __uint(type, BPF_MAP_TYPE_HASH);                                                                         \
    __uint(map_flags, BPF_F_NO_PREALLOC);                                                                    \
    __uint(max_entries, entries);                                                                            \
    __type(key, __u64);                                                                                      \
    __type(value, row);                                                                                      \
  } name SEC(".maps")
BY_COOKIE(claimants, SPILLWAY_MAX_CLAIMANTS, __u32);
BY_COOKIE(origins, ADMISSIONS, __u32);
// And of connections, as SPILLWAY_OWNER.
BY_COOKIE(owners, SPILLWAY_MAX_OWNED, __u64);

// The loader may turn this into a SOCKMAP, which sk_lookup can use as well, but which needs CAP_NET_ADMIN.
struct {
  __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS + SPILLWAY_EXTRA_SOCKETS);
  __type(key, __u32);
  __type(value, __u64);
} sockets SEC(".maps");

// What the workers say of themselves. The loader puts the map of the master in its place, which has a row for
// every worker and serves all of its groups.
struct hints_page {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct spillway_hints));
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct hints_page);
} hints SEC(".maps");

// What the kernel knows from one decision to the next.
ARRAY(pulses, SPILLWAY_MAX_SLOTS, struct spillway_pulse);
ARRAY(turns, 1, __u32);
// Connections that are open, by instance of a worker: counted by live.bpf.c, and only while that is attached.
ARRAY(admissions, ADMISSIONS, struct spillway_admission);

// What has been decided.
PER_CPU_ARRAY(slot_counters, SPILLWAY_MAX_SLOTS, struct spillway_slot_counters);
PER_CPU_ARRAY(counters, 1, struct spillway_counters);
// Who was chosen last on each CPU: its memory is in that CPU's caches.
PER_CPU_ARRAY(warm, 1, __u32);

// What the owner is told.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, SPILLWAY_ORDERS_BYTES);
} orders SEC(".maps");

// The answers of programs that the owner runs.
ARRAY(readings, SPILLWAY_MAX_SLOTS + 1, struct spillway_reading);
ARRAY(resolved, 1, struct spillway_resolved);
ARRAY(explained, 1, struct spillway_explained);

static const __u32 zero = 0;
