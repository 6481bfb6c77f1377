/**
 * The TypeScript view of native/bpf/layout.h. `test/unit/layout.test.ts` holds every number here against the header,
 * as the compiler saw it.
 */

export const MAX_SLOTS = 1024;

export const MAX_CPUS = 4096;
export const BUCKETS = 4096;

export const POLICIES = {
  hash: 0,
  'two-choices': 1,
  'least-queue': 2,
  'idle-first': 3,
  weighted: 4,
  sticky: 5,
  'local-cpu': 6,
  'least-connections': 7,
} as const;
export const OVERFLOWS = { drop: 0, reset: 1, wait: 2 } as const;

/** What a decision was about, in the order of `enum spillway_kind`. */
export const KINDS = ['syn', 'cookieAck', 'migration', 'stray'] as const;
/** How a decision ended, in the order of `enum spillway_outcome`. */
export const OUTCOMES = ['first', 'redirected', 'dropped', 'reset', 'failed', 'waiting'] as const;

export type Kind = (typeof KINDS)[number];
export type Outcome = (typeof OUTCOMES)[number];
/** Number of decisions by kind and outcome. Every decision is in exactly one cell. */
export type Decisions = Record<Kind, Record<Outcome, number>>;

/** `slot.flags` */
export const SLOT_ENABLED = 1;
export const SLOT_HELPS = 2;

/** struct spillway_slot_counters, in 64-bit words. */
export const SLOT_COUNTERS = {
  words: 5,
  syn: 0,
  cookieAck: 1,
  migrated: 2,
  redirectedIn: 3,
  redirectedOut: 4,
} as const;

/** struct spillway_counters, in 64-bit words. */
export const COUNTERS = { words: 25, decisions: 0, stale: 24 } as const;

/** struct spillway_reading, in 32-bit words. */
export const READING = {
  words: 10,
  queue: 0,
  halfOpen: 1,
  young: 2,
  ownLimit: 3,
  standing: 4,
  readiness: 5,
  load: 6,
  open: 7,
  promised: 8,
} as const;

/** How well a slot can take one more connection, worst first: `enum spillway_standing`. */
export const STANDINGS = ['absent', 'limited', 'disabled', 'full', 'room', 'free'] as const;

/** How soon the worker of a slot is likely to come, worst first: `enum spillway_readiness`. */
export const READINESS = ['leaving', 'late', 'running', 'idle'] as const;
export type Readiness = (typeof READINESS)[number];

/** The decisions in a row of group counters. */
export function decisionsOf(counters: Float64Array): Decisions {
  const decisions = {} as Decisions;
  KINDS.forEach((kind, row) => {
    const outcomes = {} as Record<Outcome, number>;
    OUTCOMES.forEach((outcome, column) => {
      outcomes[outcome] = counters[COUNTERS.decisions + row * OUTCOMES.length + column] ?? 0;
    });
    decisions[kind] = outcomes;
  });
  return decisions;
}
