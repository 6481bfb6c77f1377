/**
 * How many workers there are to be is decided by a pure function. Scenarios: somebody finds no room, or waits; all have their
 * hands full; fewer would do, for long enough or not; the bounds; and a day with a load that rises and falls, in which
 * nobody is started and retired again and again.
 */
import { describe, expect, test } from 'vitest';
import { type DemandRules, decide, type Look, type Memory } from '../../lib/serve/demand.js';
import { named } from '../support/named.js';

const RULES: DemandRules = { min: 1, max: 8, idleTimeout: 30_000 };

interface Given {
  now?: number;
  workers?: number;
  /** Share of its places that each has taken. */
  fill?: number;
  limit?: number;
  busy?: number;
  starting?: number;
  turnedAway?: boolean;
  waiting?: number;
}

function look({ now = 0, workers = 2, fill = 0.7, limit = 10, busy = 0, ...rest }: Given): Look {
  return {
    now,
    workers: Array.from({ length: workers }, () => ({ connections: fill * limit, limit, busy })),
    starting: rest.starting ?? 0,
    turnedAway: rest.turnedAway ?? false,
    waiting: { length: rest.waiting ?? 0, age: rest.waiting ? 12 : 0 },
  };
}

const change = (given: Given, memory: Memory = {}, rules: Partial<DemandRules> = {}) =>
  decide({ ...RULES, ...rules }, look(given), memory).change;

describe('more', () => {
  const CASES: { what: string; given: Given; workers: number; why: string }[] = [
    { what: 'when somebody found no room', given: { turnedAway: true }, workers: 3, why: 'nobody had room' },
    { what: 'when one waits', given: { waiting: 1 }, workers: 3, why: 'one waits, for 12 ms' },
    {
      what: 'as many as it takes for all who wait',
      given: { waiting: 25 },
      workers: 5,
      why: '25 wait, the first for 12 ms',
    },
    { what: 'but no more than there may be', given: { waiting: 500 }, workers: 8, why: '500 wait' },
    { what: 'less those that are starting', given: { waiting: 25, starting: 1 }, workers: 5, why: '25 wait' },
    { what: 'one, where there is no limit', given: { waiting: 25, limit: 0 }, workers: 3, why: '25 wait' },
    { what: 'when there are fewer than there are to be', given: { workers: 0 }, workers: 1, why: 'to be 1' },
  ];
  test.each(named(CASES, ({ what }) => what))('%s', (_, { given, workers, why }) => {
    expect(change(given)).toEqual({ workers, why: expect.stringContaining(why) });
  });

  const NOT: { what: string; given: Given }[] = [
    { what: 'nobody is wanted', given: {} },
    { what: 'enough are starting', given: { waiting: 25, starting: 3 } },
    { what: 'one is starting and somebody found no room', given: { turnedAway: true, starting: 1 } },
    { what: 'there are as many as there may be', given: { workers: 8, waiting: 25 } },
  ];
  test.each(named(NOT, ({ what }) => `none while ${what}`))('%s', (_, { given }) => {
    expect(change(given)).toBeUndefined();
  });

  const FULL: { what: string; given: Given }[] = [
    { what: 'places', given: { fill: 0.95 } },
    { what: 'processors', given: { fill: 0, busy: 0.97 } },
    { what: 'processors, where connections are not limited', given: { limit: 0, busy: 0.97 } },
  ];
  test.each(named(FULL, ({ what }) => `when all have had their hands full for two seconds: ${what}`))(
    '%s',
    (_, { given }) => {
      const first = decide(RULES, look({ ...given, now: 1000 }), {});
      expect(first.change).toBeUndefined();
      expect(change({ ...given, now: 2900 }, first.memory)).toBeUndefined();
      expect(change({ ...given, now: 3000 }, first.memory)).toMatchObject({ workers: 3 });
      // One that has a moment to spare begins it anew.
      const between = decide(RULES, look({ ...given, fill: 0.5, busy: 0.5, now: 2000 }), first.memory);
      expect(change({ ...given, now: 3000 }, between.memory)).toBeUndefined();
    },
  );
});

describe('fewer', () => {
  test('when one fewer would have done for the whole time', () => {
    const first = decide(RULES, look({ fill: 0.2, now: 0 }), {});
    expect(change({ fill: 0.2, now: 29_999 }, first.memory)).toBeUndefined();
    const last = decide(RULES, look({ fill: 0.2, now: 30_000 }), first.memory);
    expect(last.change).toMatchObject({ workers: 1 });
    // The next one is another 30 seconds away.
    const next = decide(RULES, look({ workers: 3, fill: 0.1, now: 31_000 }), last.memory);
    expect(next.change).toBeUndefined();
    expect(change({ workers: 3, fill: 0.1, now: 60_000 }, next.memory)).toBeUndefined();
    expect(change({ workers: 3, fill: 0.1, now: 61_000 }, next.memory)).toMatchObject({ workers: 2 });
  });

  const NOT: { what: string; given: Given; rules?: Partial<DemandRules> }[] = [
    { what: 'the others would have their hands full', given: { fill: 0.35 } },
    { what: 'a processor would', given: { fill: 0, busy: 0.35 } },
    { what: 'somebody was turned away meanwhile', given: { fill: 0.1, turnedAway: true }, rules: { max: 2 } },
    { what: 'somebody waits', given: { fill: 0.1, waiting: 1 }, rules: { max: 2 } },
    { what: 'one is starting', given: { fill: 0.1, starting: 1 } },
    { what: 'there are to be so many', given: { fill: 0 }, rules: { min: 2 } },
  ];
  test.each(named(NOT, ({ what }) => `none where ${what}`))('%s', (_, { given, rules }) => {
    const first = decide({ ...RULES, ...rules }, look({ ...given, now: 0 }), {});
    expect(change({ ...given, now: 100_000 }, first.memory, rules)).toBeUndefined();
  });

  test('none where nothing is known of what they do', () => {
    const unknown = {
      ...look({ now: 0 }),
      workers: [1, 2].map(() => ({ connections: undefined, limit: 0, busy: undefined })),
    };
    const first = decide(RULES, unknown, {});
    expect(decide(RULES, { ...unknown, now: 100_000 }, first.memory).change).toBeUndefined();
  });
});

test('a load that rises and falls is followed without flapping', () => {
  const LIMIT = 10;
  let workers = 1;
  let memory: Memory = {};
  const changes: { now: number; from: number; to: number }[] = [];
  let longest = 0;
  let waitedSince: number | undefined;
  // Up to 60 connections and back within ten minutes, twice, with a little noise; a worker takes 2 s to start.
  let ready: { at: number; workers: number } | undefined;
  for (let now = 0; now <= 1_200_000; now += 1000) {
    const wave = 30 - 30 * Math.cos((now / 600_000) * 2 * Math.PI);
    const demand = Math.round(wave + (now % 7000 === 0 ? 2 : 0));
    if (ready && now >= ready.at) {
      workers = ready.workers;
      ready = undefined;
    }
    const places = workers * LIMIT;
    const waiting = Math.max(0, demand - places);
    waitedSince = waiting > 0 ? (waitedSince ?? now) : undefined;
    if (waitedSince !== undefined) longest = Math.max(longest, now - waitedSince);
    const each = Math.min(demand, places) / workers;
    const decision = decide(
      RULES,
      {
        now,
        workers: Array.from({ length: workers }, () => ({ connections: each, limit: LIMIT, busy: 0.1 })),
        starting: ready ? ready.workers - workers : 0,
        turnedAway: waiting > 0,
        waiting: { length: waiting, age: waitedSince === undefined ? 0 : now - waitedSince },
      },
      memory,
    );
    memory = decision.memory;
    const to = decision.change?.workers;
    if (to === undefined) continue;
    changes.push({ now, from: ready?.workers ?? workers, to });
    if (to > workers) ready = { at: now + 2000, workers: to };
    else workers = to;
  }
  // Somebody may wait for as long as a worker takes to start, and the look before.
  expect(longest).toBeLessThanOrEqual(3000);
  expect(workers).toBeLessThanOrEqual(2);
  const up = changes.filter(({ from, to }) => to > from);
  const down = changes.filter(({ from, to }) => to < from);
  // Two waves: up to the largest number and back, once each.
  expect(up.length).toBeLessThanOrEqual(2 * RULES.max);
  expect(down.length).toBeLessThanOrEqual(2 * RULES.max);
  for (const { now, from } of down) {
    const next = up.find((each) => each.now > now);
    // Nobody who was retired is wanted again at once.
    if (next && next.from < from) expect(next.now - now).toBeGreaterThan(10_000);
  }
});
