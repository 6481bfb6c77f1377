// SPDX-License-Identifier: MIT
//
// The one truth about every map the selector uses: keys, values, limits and the numbers that stand for names.
// The BPF program, the C++ core and (through a test) lib/group/layout.ts agree on this file.
//
// All fields have a fixed width, are in host byte order and are padded explicitly. A field that is written
// while the kernel reads it is at most eight bytes wide and naturally aligned: the kernel copies array
// elements word by word, so a reader may see an old field beside a new one, but never half a field.
#pragma once

#ifndef __bpf__
#include <cstdint>
#define SPILLWAY_U32 std::uint32_t
#define SPILLWAY_U64 std::uint64_t
#define SPILLWAY_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type " must be " #bytes " bytes")
#else
#define SPILLWAY_U32 __u32
#define SPILLWAY_U64 __u64
#define SPILLWAY_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " must be " #bytes " bytes")
#endif

// The largest number of slots in one group.
#define SPILLWAY_MAX_SLOTS 1024

// Keys of `sockets` behind the slots: capacity + SPILLWAY_SINK is the listener that discards what it gets.
#define SPILLWAY_SINK 0
#define SPILLWAY_EXTRA_SOCKETS 1

// How the first choice is made (group_config.policy).
enum spillway_policy {
  SPILLWAY_POLICY_HASH = 0,
  SPILLWAY_POLICY_TWO_CHOICES = 1,
  SPILLWAY_POLICY_LEAST_QUEUE = 2,
};

// What happens to a SYN when nobody has room (group_config.overflow).
enum spillway_overflow {
  SPILLWAY_OVERFLOW_DROP = 0,
  SPILLWAY_OVERFLOW_RESET = 1,
};

// What a decision was about.
enum spillway_kind {
  SPILLWAY_KIND_SYN = 0,        // a new connection is asked for; the same SYN again is another decision
  SPILLWAY_KIND_COOKIE_ACK = 1, // an ACK without a half-open request: a SYN cookie coming back, or a stray
  SPILLWAY_KIND_MIGRATION = 2,  // a queued or half-open connection of a listener that stopped listening
  SPILLWAY_KIND_STRAY = 3,      // anything else that reached a listener, such as a late RST
  SPILLWAY_KINDS = 4,
};

// How a decision ended. Every decision adds to exactly one of kind x outcome.
enum spillway_outcome {
  SPILLWAY_OUTCOME_FIRST = 0,      // the policy's first choice took it
  SPILLWAY_OUTCOME_REDIRECTED = 1, // another slot took it
  SPILLWAY_OUTCOME_DROPPED = 2,    // handed to the sink: the client hears nothing
  SPILLWAY_OUTCOME_RESET = 3,      // refused: the client gets an RST
  SPILLWAY_OUTCOME_FAILED = 4,     // no socket could be selected; the client gets an RST
  SPILLWAY_OUTCOMES = 5,
};

// slot.flags
#define SPILLWAY_SLOT_ENABLED 1u

// `slots`: one row per slot, written by the owner of the group, read by the kernel.
struct spillway_slot {
  SPILLWAY_U64 sock;   // address of the listener's struct sock; 0 = nothing here
  SPILLWAY_U32 limit;  // configured backlog; the queue holds limit + 1, as the kernel's own test has it
  SPILLWAY_U32 weight; // 1 or more; a slot's load counts divided by it
  SPILLWAY_U32 flags;
  SPILLWAY_U32 address; // which of the group's addresses the listener is bound to
};
SPILLWAY_SIZE(struct spillway_slot, 24);

// `choices`: the alias table behind a weighted first choice in constant time (Vose 1991). A number r in [0,
// 2^32) picks row i = r * slots >> 32; what is left of the product, below `threshold`, stays with i,
// otherwise goes to `alias`.
struct spillway_choice {
  SPILLWAY_U32 threshold;
  SPILLWAY_U32 alias;
};
SPILLWAY_SIZE(struct spillway_choice, 8);

// `config`: one row for the group.
struct spillway_config {
  SPILLWAY_U32 slots; // rows of `slots` and `choices` in use, from 0
  SPILLWAY_U32 policy;
  SPILLWAY_U32 overflow;
  SPILLWAY_U32 migrate; // 0: the queue of a leaving listener is not moved
  SPILLWAY_U32
  rank_by_young; // 1: half-open requests that were already answered twice do not count (TCP_DEFER_ACCEPT)
  SPILLWAY_U32 capacity; // rows there are; `sockets` has SPILLWAY_EXTRA_SOCKETS more
};
SPILLWAY_SIZE(struct spillway_config, 24);

// `slot_counters`: per CPU, one row per slot; a slot keeps its counts when its socket is replaced.
struct spillway_slot_counters {
  SPILLWAY_U64 syn;            // SYNs given to this slot
  SPILLWAY_U64 cookie_ack;     // cookie ACKs given to this slot
  SPILLWAY_U64 migrated;       // connections of leaving listeners given to this slot
  SPILLWAY_U64 redirected_in;  // of those three, the ones another slot was the first choice for
  SPILLWAY_U64 redirected_out; // decisions whose first choice was this slot and that went elsewhere
};
SPILLWAY_SIZE(struct spillway_slot_counters, 40);

// `counters`: per CPU, one row for the group.
struct spillway_counters {
  SPILLWAY_U64 decisions[SPILLWAY_KINDS][SPILLWAY_OUTCOMES];
  SPILLWAY_U64 stale; // times a slot's socket had left the group without the owner saying so
};
SPILLWAY_SIZE(struct spillway_counters, 168);

// `readings`: what the program `inspect` saw, one row per slot.
struct spillway_reading {
  SPILLWAY_U32 queue;     // connections in the accept queue
  SPILLWAY_U32 half_open; // requests whose handshake is not finished
  SPILLWAY_U32 young;     // of those, the ones whose SYN-ACK was sent only once
  SPILLWAY_U32 own_limit; // the listener's own backlog, which a program may have changed
};
SPILLWAY_SIZE(struct spillway_reading, 16);

// `resolved`: the answer of the program `resolve`.
struct spillway_resolved {
  SPILLWAY_U64 sock;   // address of the struct sock behind a descriptor
  SPILLWAY_U64 cookie; // its socket cookie, for the caller to compare with SO_COOKIE
};
SPILLWAY_SIZE(struct spillway_resolved, 16);
