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

// Keys of `sockets` behind the slots: capacity + SPILLWAY_SINK is the listener that discards what it gets,
// capacity + SPILLWAY_WAITING the one whose queue is the waiting list.
#define SPILLWAY_SINK 0
#define SPILLWAY_WAITING 1
#define SPILLWAY_EXTRA_SOCKETS 2

// Rows of `admissions` for every slot there is: a worker that ends keeps its own until its last connection is
// closed. There is one more, the first, of what is in the waiting list.
#define SPILLWAY_ADMISSIONS_PER_SLOT 4
#define SPILLWAY_ADMISSION_WAITING 0

// Sockets of claims that one group has at a time.
#define SPILLWAY_MAX_CLAIMANTS 8192

// `owners`: connections of which it is kept whose they are, by their cookie. A value has the row of
// `admissions` in its lower half, and in the upper one the lower half of the cookie: an entry may become
// another connection's while it is looked at.
#define SPILLWAY_MAX_OWNED 1048576
#define SPILLWAY_OWNER(cookie, row) ((cookie) << 32 | (row))
#define SPILLWAY_OWNER_GONE 0xffffffffu // it has been closed

// The largest number of CPUs that policies by CPU tell apart; those beyond it have nobody of their own.
#define SPILLWAY_MAX_CPUS 4096

// Parts that the addresses of clients fall into, for the policy that keeps a client with its worker.
#define SPILLWAY_BUCKETS 4096

// How a worker is chosen (spillway_config.policy).
enum spillway_policy {
  SPILLWAY_POLICY_HASH = 0,
  SPILLWAY_POLICY_TWO_CHOICES = 1,
  SPILLWAY_POLICY_LEAST_QUEUE = 2,
  SPILLWAY_POLICY_IDLE_FIRST = 3,
  SPILLWAY_POLICY_WEIGHTED = 4,
  SPILLWAY_POLICY_STICKY = 5,
  SPILLWAY_POLICY_LOCAL_CPU = 6,
  SPILLWAY_POLICY_LEAST_CONNECTIONS = 7,
};

// What happens to a SYN when nobody has room (group_config.overflow).
enum spillway_overflow {
  SPILLWAY_OVERFLOW_DROP = 0,
  SPILLWAY_OVERFLOW_RESET = 1,
  SPILLWAY_OVERFLOW_WAIT = 2,
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
  SPILLWAY_OUTCOME_WAITING = 5,    // put on the waiting list
  SPILLWAY_OUTCOMES = 6,
};

// slot.flags
#define SPILLWAY_SLOT_ENABLED 1u
#define SPILLWAY_SLOT_HELPS 2u // its worker can be asked to take connections that wait elsewhere

// `slots`: one row per slot, written by the owner of the group, read by the kernel.
struct spillway_slot {
  SPILLWAY_U64 sock;   // address of the listener's struct sock; 0 = nothing here
  SPILLWAY_U32 limit;  // configured backlog; the queue holds limit + 1, as the kernel's own test has it
  SPILLWAY_U32 weight; // 1 or more; a slot's load counts divided by it
  SPILLWAY_U32 flags;
  SPILLWAY_U32 address; // which of the group's addresses the listener is bound to
  SPILLWAY_U32 hints;   // row of `hints` that its worker writes, plus one; 0 = it writes none
  SPILLWAY_U32
  instance; // row of `admissions` of whoever is given what comes; 0 = connections are not counted
};
SPILLWAY_SIZE(struct spillway_slot, 32);

// `hints`: for every row a map of its own with this in its only row, written by one worker alone. What is in
// it is advice, and may be nonsense. It is not one map with many rows: whoever has mapped a part of it can
// get at the rest of it (remap_file_pages(2)).
struct spillway_hints {
  // Bits 0-1: what the event loop does, as below. Bits 2-15: the turn's number. Bits 16-63: since when, in
  // milliseconds of CLOCK_MONOTONIC.
  SPILLWAY_U64 loop;
  SPILLWAY_U32 draining; // not 0: nothing new is wanted
  SPILLWAY_U32 spare;
};
SPILLWAY_SIZE(struct spillway_hints, 16);

#define SPILLWAY_LOOP_SILENT 0
#define SPILLWAY_LOOP_WAITING 1
#define SPILLWAY_LOOP_RUNNING 2
#define SPILLWAY_LOOP_TURN_SHIFT 2
#define SPILLWAY_LOOP_SINCE_SHIFT 16

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
  SPILLWAY_U32
  equal; // 1: all enabled slots have one weight and there are no gaps, so turns are simply counted
  SPILLWAY_U32 rescue;        // 1: connections that wait at a stuck worker are offered to free ones
  SPILLWAY_U32 tick;          // microseconds between two looks at what waits
  SPILLWAY_U32 fresh;         // microseconds after which a worker that has not come back counts as late
  SPILLWAY_U32 reserve;       // 1: somebody has a limit of connections, so each is promised a place
  SPILLWAY_U32 exclusive;     // 1: nobody is given a connection before he has accepted the one before
  SPILLWAY_U64 waiting;       // address of the struct sock of the waiting list; 0 = there is none
  SPILLWAY_U32 waiting_limit; // connections that wait there at most
  SPILLWAY_U32 patience;      // milliseconds that a connection waits there at most; 0 = for ever
  SPILLWAY_U32 track;         // 1: every connection that is counted has a row in `owners`
  SPILLWAY_U32 spare;
};
SPILLWAY_SIZE(struct spillway_config, 72);

// `admissions`: what an instance of a worker has, and has been promised. Written by the kernel alone; the
// owner clears a row before somebody gets it. `limits` has its largest number of connections, 0 for none.
struct spillway_admission {
  // Bits 0-31: places that are promised to connections that are not open yet. Bits 32-63: connections that
  // are.
  SPILLWAY_U64 counts;
  SPILLWAY_U64
  since; // since when more is promised than is under way, nanoseconds of CLOCK_MONOTONIC; 0 = not
  SPILLWAY_U32 surplus; // the least of it since then
  SPILLWAY_U32 claimed; // 1: one place is promised to its worker, for what it takes from somebody else
};
SPILLWAY_SIZE(struct spillway_admission, 24);

#define SPILLWAY_ADMISSION_OPEN_SHIFT 32

// What a worker says into its socket of claims.
enum spillway_claim_what {
  SPILLWAY_CLAIM_TAKE = 1, // a place for what it is about to accept: it has one if it can read this again
  SPILLWAY_CLAIM_GIVE_BACK = 2, // it does not need the place any more, if it still has it
  SPILLWAY_CLAIM_OWN = 3,       // it has accepted the connection behind that descriptor
};
struct spillway_claim {
  SPILLWAY_U32 what;
  SPILLWAY_U32 fd;
};
SPILLWAY_SIZE(struct spillway_claim, 8);

// `pulse`: what the kernel has seen of the worker of a slot. Written by whoever decides, and by the look at
// what waits; a lost update costs one judgement, which is made anew a moment later.
struct spillway_pulse {
  SPILLWAY_U64 seen;    // when it was last known to come back, nanoseconds of CLOCK_MONOTONIC; 0 = never
  SPILLWAY_U64 used;    // what processor time its thread had used by then, nanoseconds
  SPILLWAY_U64 thread;  // the task_struct of who waited last for this listener
  SPILLWAY_U64 started; // its start time, by which another task in the same memory is told apart
  SPILLWAY_U64 head;    // the request at the head of the accept queue at the last look
  SPILLWAY_U64 turn;    // of its event loop, by its own note, at the last look
  SPILLWAY_U64 behind;  // since when it stands back (SPILLWAY_ORDER_STAND_BACK); 0 = it does not
  SPILLWAY_U32 running; // looks that have found its thread on a processor since it was seen
  SPILLWAY_U32 helped;  // 1: others have been asked to take from its queue since it was seen
};
SPILLWAY_SIZE(struct spillway_pulse, 64);

// `cpus`: for a CPU, where in `cpu_slots` the slots are whose workers are placed there.
struct spillway_cpu {
  SPILLWAY_U32 first;
  SPILLWAY_U32 count;
};
SPILLWAY_SIZE(struct spillway_cpu, 8);

// `buckets`: which slot the clients of a bucket belong to.
struct spillway_buckets {
  SPILLWAY_U32 slot[SPILLWAY_BUCKETS];
};

// What a listener has, and every connection that comes from it.
struct spillway_tag {
  SPILLWAY_U32 row;  // of `admissions`
  SPILLWAY_U32 open; // 1: it is counted
};
SPILLWAY_SIZE(struct spillway_tag, 8);

// `orders`: a ring, read by the owner of the group.
enum spillway_order_kind {
  SPILLWAY_ORDER_HELP = 0,       // the worker of `slot` shall take from the queue of `from`
  SPILLWAY_ORDER_STAND_BACK = 1, // the worker of `slot` shall let whoever wakes up go first
  SPILLWAY_ORDER_COME_BACK = 2,  // and no longer
  SPILLWAY_ORDER_WANTED = 3,     // there were more connections than anybody could be given
  SPILLWAY_ORDER_EXPIRED = 4,    // who is first in the waiting list has waited for too long
};
struct spillway_order {
  SPILLWAY_U32 kind;
  SPILLWAY_U32 slot;
  SPILLWAY_U32 from;    // the slot whose queue waits
  SPILLWAY_U32 waiting; // connections in that queue
};
SPILLWAY_SIZE(struct spillway_order, 16);
#define SPILLWAY_ORDERS_BYTES 4096

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
SPILLWAY_SIZE(struct spillway_counters, 200);

// `readings`: what the program `inspect` saw, one row per slot, and one more for the waiting list, whose
// `load` is the age of its first connection in milliseconds.
struct spillway_reading {
  SPILLWAY_U32 queue;     // connections in the accept queue
  SPILLWAY_U32 half_open; // requests whose handshake is not finished
  SPILLWAY_U32 young;     // of those, the ones whose SYN-ACK was sent only once
  SPILLWAY_U32 own_limit; // the listener's own backlog, which a program may have changed
  SPILLWAY_U32 standing;  // enum spillway_standing
  SPILLWAY_U32 readiness; // enum spillway_readiness
  SPILLWAY_U32 load;      // what policies compare: queue + half-open, or live connections
  SPILLWAY_U32 open;      // open connections, as far as they are counted
  SPILLWAY_U32 promised;  // places that are promised to connections to come
  SPILLWAY_U32 spare;
};
SPILLWAY_SIZE(struct spillway_reading, 40);

// How well a slot can take one more connection. Order matters: more is better.
enum spillway_standing {
  SPILLWAY_ABSENT = 0,  // nobody there
  SPILLWAY_LIMITED = 1, // it has all the connections it may have: it is given none, whatever happens
  // New connections are not wanted there, but those that believe they are connected beat nobody at all.
  SPILLWAY_DISABLED = 2,
  SPILLWAY_FULL = 3, // the accept queue is full
  SPILLWAY_ROOM = 4, // the queue has a place, but not if every half-open request should finish its handshake
  SPILLWAY_FREE = 5, // there is a place for this connection and for all that are half-open
};

// How soon its worker is likely to take it. Order matters: more is better.
enum spillway_readiness {
  SPILLWAY_LEAVING =
      0, // it has said that it wants nothing new; what it gets all the same is moved when it has gone
  SPILLWAY_LATE = 1, // it has been away from its listener for longer than a turn of an event loop should take
  SPILLWAY_RUNNING = 2, // it does something else and was here a moment ago; or nothing is known of it
  SPILLWAY_IDLE = 3,    // a thread waits for this listener, and nothing else comes before
};

// What a choice is made from, besides the slots.
struct spillway_request {
  SPILLWAY_U32 hash;   // of the connection: addresses and ports
  SPILLWAY_U32 source; // of the client's address alone
  SPILLWAY_U32 turn;   // counts decisions of the group
  SPILLWAY_U32 cpu;    // where the packet is handled
  SPILLWAY_U32 warm;   // who was chosen last on that CPU
};
SPILLWAY_SIZE(struct spillway_request, 20);

// `explained`: what the program `explain` would have chosen.
struct spillway_explained {
  SPILLWAY_U32 first;  // the policy's first choice
  SPILLWAY_U32 chosen; // the best that was found
};
SPILLWAY_SIZE(struct spillway_explained, 8);

// `resolved`: the answer of the program `resolve`.
struct spillway_resolved {
  SPILLWAY_U64 sock;   // address of the struct sock behind a descriptor
  SPILLWAY_U64 cookie; // its socket cookie, for the caller to compare with SO_COOKIE
};
SPILLWAY_SIZE(struct spillway_resolved, 16);
