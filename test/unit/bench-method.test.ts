import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listOf, oneOf, wholeNumber } from '../../bench/arguments.js';
import { DRIVERS } from '../../bench/drivers/index.js';
import type { Samples } from '../../bench/load/samples.js';
import { parseWrk } from '../../bench/load/wrk.js';
import { Collected } from '../../bench/method/collected.js';
import { shareProcessors } from '../../bench/method/network.js';
import { turnsOf } from '../../bench/method/order.js';
import { besideReference, isOurs, verdictsOn } from '../../bench/method/verdicts.js';
import type { DriverResult, FigureSpec } from '../../bench/report/schema.js';
import { SCENARIOS } from '../../bench/scenarios/index.js';
import { NotOffered } from '../../bench/scenarios/scenario.js';
import { packageRoot } from '../../lib/native.js';
// @ts-expect-error: a plain script without types
import { benchPage } from '../../scripts/docs.mjs';
import { P99 } from '../support/bench-report.js';

describe('turns', () => {
  const sizes = Array.from({ length: 11 }, (_, index) => index + 2);

  test.each(sizes)(
    'of %i rivals: everybody has every place, and every predecessor, equally often',
    (size) => {
      const rivals = Array.from({ length: size }, (_, index) => index);
      const rounds = size % 2 === 0 ? size : 2 * size;
      const places = new Map<string, number>();
      const predecessors = new Map<string, number>();
      for (let round = 0; round < rounds; round++) {
        const turns = turnsOf(rivals, round);
        expect([...turns].sort((a, b) => a - b)).toEqual(rivals);
        for (const [place, rival] of turns.entries()) {
          const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
          count(places, `${rival} at ${place}`);
          if (place > 0) count(predecessors, `${rival} after ${turns[place - 1]}`);
        }
      }
      expect(places.size).toBe(size * size);
      expect(new Set(places.values())).toEqual(new Set([rounds / size]));
      expect(predecessors.size).toBe(size * (size - 1));
      expect(new Set(predecessors.values())).toEqual(new Set([rounds / size]));
    },
  );

  test('of one and of none', () => {
    expect(turnsOf(['a'], 3)).toEqual(['a']);
    expect(turnsOf([], 3)).toEqual([]);
  });
});

const SPECS: FigureSpec[] = [
  { name: 'rate', title: 'rate', unit: '1/s', better: 'higher', leading: true },
  { name: 'failed', title: 'failed', unit: 'requests', better: 'lower' },
  { name: 'what', title: 'what happened', unit: '', better: null },
];

/** A driver that had these values of `rate` in its rounds; null: it could not be had. */
function resultOf(driver: string, rates: (number | null)[], failed = 0): DriverResult {
  const collected = new Collected(driver, SPECS, null);
  for (const [round, rate] of rates.entries()) {
    collected.add({ round, position: 0, seed: 0 }, { figures: { rate, failed, what: 1 }, samples: null });
  }
  return collected.result();
}

describe('verdicts', () => {
  const ours = resultOf('spillway', [110, 111, 112, 113, 114]);
  const slower = resultOf('reuseport', [100, 101, 102, 103, 104], 2);

  test('are between Spillway and rivals, not its own variants, where there is a better', () => {
    const verdicts = verdictsOn(SPECS, [ours, slower, resultOf('spillway:hash', [1, 1, 1, 1, 1])]);
    expect(verdicts.map(({ rival, figure }) => [rival, figure])).toEqual([
      ['reuseport', 'rate'],
      ['reuseport', 'failed'],
    ]);
    expect(verdicts.map(({ comparison }) => comparison.verdict)).toEqual(['win', 'win']);
    expect(isOurs('spillway')).toBe(true);
    expect(isOurs('spillway:hash')).toBe(true);
    expect(isOurs('spillways')).toBe(false);
  });

  test('set only those rounds beside each other that both have', () => {
    const some = resultOf('single', [null, 101, 102, null, 104]);
    const [verdict] = verdictsOn(SPECS, [ours, some]);
    expect(verdict?.comparison.rounds).toBe(3);
    expect(verdict?.comparison.median).toBeCloseTo(112 / 102);
    expect(verdictsOn(SPECS, [ours, resultOf('single', [null])]).map(({ figure }) => figure)).toEqual([
      'failed',
    ]);
  });

  test('are not given where one of them lacks rounds: those that are left went well', () => {
    const often = resultOf('spillway', [110, 111, 112, 113, 114, 115, null]);
    const always = resultOf('reuseport', [100, 101, 102, 103, 104, 105, 106]);
    const verdictOf = (...results: DriverResult[]) => verdictsOn(SPECS, results)[0]?.comparison.verdict;
    expect(verdictOf(often, always)).toBe('unknown');
    const complete = resultOf('spillway', [110, 111, 112, 113, 114, 115, 116]);
    expect(verdictOf(complete, always)).toBe('win');
    expect(verdictOf(complete, resultOf('reuseport', [null, 101, 102, 103, 104, 105, 106]))).toBe('unknown');
    // Neither has it: a round in which nothing could be said of either.
    expect(verdictOf(often, resultOf('reuseport', [100, 101, 102, 103, 104, 105, null]))).toBe('win');
  });

  test('the reference is not compared with itself', () => {
    expect(besideReference(slower, SPECS, slower).comparisons).toEqual({});
    expect(Object.keys(besideReference(ours, SPECS, slower).comparisons)).toEqual(['rate', 'failed']);
    expect(besideReference(ours, SPECS, slower).comparisons.rate?.median).toBeCloseTo(112 / 102);
  });

  test('there are none without Spillway', () => {
    expect(verdictsOn(SPECS, [slower, resultOf('single', [1])])).toEqual([]);
  });
});

/** Requests of which the third fails, answered by two workers after 1, 2, 4, … ms. */
const SAMPLES: Samples = {
  count: 4,
  due: Float64Array.of(0, 10, 20, 30),
  begun: Float64Array.of(0, 0.5, 0, 0),
  connected: Float64Array.of(0.2, 0.2, Number.NaN, 0.2),
  firstByte: Float64Array.of(1, 2, Number.NaN, 4),
  ended: Float64Array.of(1, 2, 3, 4),
  outcome: Uint8Array.of(0, 0, 2, 0),
  kind: Uint8Array.of(0, 0, 0, 1),
  worker: Uint16Array.of(0, 1, 65535, 0),
  workers: ['17', '18'],
  generatorBusy: 0.25,
};

describe('what is collected of a driver', () => {
  const figures = { rate: 1, failed: 1, what: 0 };

  test('counts add up, failures apart', () => {
    const collected = new Collected('spillway', SPECS, null);
    collected.add({ round: 0, position: 3, seed: 1 }, { figures, samples: SAMPLES });
    const { rounds, firstByte, connect, timeline } = collected.result();
    expect(rounds).toHaveLength(1);
    const [round] = rounds;
    expect(round).toMatchObject({ position: 3, workers: [2, 1], outcomes: { ok: 3, reset: 1 } });
    expect(Object.values(round?.outcomes ?? {}).reduce((sum, count) => sum + count, 0)).toBe(4);
    expect(round?.generator).toMatchObject({ lateMax: 0.5, busy: 0.25 });
    expect(firstByte).not.toBeNull();
    expect(connect).not.toBeNull();
    expect(timeline?.answered.reduce((sum, count) => sum + count, 0)).toBe(3);
    expect(timeline?.failed.reduce((sum, count) => sum + count, 0)).toBe(1);
  });

  test('the timeline is that of the round in the middle', () => {
    const collected = new Collected('spillway', SPECS, null);
    for (const [round, rate] of [30, 10, 20].entries()) {
      const marks = [{ at: 0, what: `rate ${rate}` }];
      collected.add(
        { round, position: 0, seed: 0 },
        { figures: { ...figures, rate }, samples: SAMPLES, marks },
      );
    }
    expect(collected.result().timeline?.marks).toEqual([{ at: 0, what: 'rate 20' }]);
  });

  test.each([
    ['higher', [null, 30, null, 20, 10], 10],
    ['lower', [null, 30, null, 20, 10], 30],
    ['higher', [10, 20, 30, 40], 30],
    ['lower', [10, 20, 30, 40], 20],
  ] as const)('of which %s is better, %j: a round without it is the worst', (better, values, middle) => {
    const collected = new Collected('spillway', [{ ...P99, better }], null);
    for (const [round, p99] of values.entries()) {
      const marks = [{ at: 0, what: String(p99) }];
      collected.add({ round, position: 0, seed: 0 }, { figures: { p99 }, samples: SAMPLES, marks });
    }
    expect(collected.result().timeline?.marks).toEqual([{ at: 0, what: String(middle) }]);
  });

  test('what was not recorded is null, not zeros', () => {
    const collected = new Collected('spillway', SPECS, null);
    collected.add({ round: 0, position: 0, seed: 0 }, { figures, samples: null });
    expect(collected.result().rounds[0]).toMatchObject({ outcomes: null, generator: null, workers: [] });
    expect(collected.result().timeline).toBeNull();
  });

  test('a failure in any round voids the others, and says what it was', () => {
    const collected = new Collected('pm2', SPECS, null);
    collected.add({ round: 0, position: 0, seed: 0 }, { figures, samples: SAMPLES });
    collected.fail(new Error('it went away'));
    expect(collected.isAbsent).toBe(true);
    expect(collected.result()).toMatchObject({
      rounds: [],
      absent: { why: 'failed', text: 'it went away' },
      figures: { rate: null },
      firstByte: null,
    });
  });

  test('what a driver does not offer is not called a failure', () => {
    const collected = new Collected('wattpm', SPECS, null);
    collected.fail(new NotOffered('it has no reload'));
    expect(collected.result().absent).toEqual({ why: 'does-not-apply', text: 'it has no reload' });
  });

  test('a scenario that forgets a figure, or invents one, is found out', () => {
    const collected = new Collected('spillway', SPECS, null);
    const turn = { round: 0, position: 0, seed: 0 };
    expect(() => collected.add(turn, { figures: { rate: 1, failed: 1 }, samples: null })).toThrow(
      /announced/,
    );
    expect(() => collected.add(turn, { figures: { ...figures, more: 1 }, samples: null })).toThrow(
      /announced/,
    );
  });
});

describe('scenarios and drivers', () => {
  test('names are unique, and every figure has a title and one that leads', () => {
    const unique = (names: string[]) => expect(new Set(names).size).toBe(names.length);
    unique(SCENARIOS.map(({ name }) => name));
    unique(DRIVERS.map(({ name }) => name));
    for (const { variants } of SCENARIOS) {
      for (const scale of ['quick', 'full'] as const) {
        const all = variants(scale);
        expect(all.length).toBeGreaterThan(0);
        unique(all.map(({ id }) => id));
        for (const { figures } of all) {
          unique(figures.map(({ name }) => name));
          expect(figures.some(({ leading }) => leading)).toBe(true);
        }
      }
    }
  });

  test('bench/README.md says of them what they say themselves', () => {
    const page = readFileSync(join(packageRoot, 'bench', 'README.md'), 'utf8');
    expect(page, 'run `npm run docs`').toBe(benchPage(page, SCENARIOS, DRIVERS));
  });

  test('the generator shares its processor only where there is one', () => {
    const { generator, apart, over } = shareProcessors();
    expect(over).toContain(generator);
    if (over.length > 1) expect(apart).not.toContain(generator);
    expect(apart.length).toBeGreaterThan(0);
  });
});

describe('what wrk prints', () => {
  const TEXT = `Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.50ms    1.04ms  33.47ms   93.05%
    Req/Sec    25.80k     1.36k   28.19k    75.00%
  Latency Distribution
     50%    2.30ms
     75%    2.61ms
     90%    3.33ms
     99%  850.00us
  51339 requests in 2.01s, 7.78MB read
`;

  test('is read with its units', () => {
    expect(parseWrk(TEXT)).toEqual({ answered: 51_339, failed: 0, took: 2.01, p50: 2.3, p99: 0.85 });
  });

  test('errors of every kind are counted', () => {
    const errors =
      '  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 39\n';
    expect(parseWrk(TEXT + errors)).toMatchObject({ answered: 51_300, failed: 4_360 });
  });

  test('anything else is an error, not a zero', () => {
    expect(() => parseWrk('unable to connect')).toThrow(/how many requests/);
    expect(() => parseWrk(TEXT.replace('99%', '98%'))).toThrow(/99th percentile/);
  });
});

describe('values of options', () => {
  test('lists and names', () => {
    expect(listOf(wholeNumber(1, 9))('1, 2,9')).toEqual([1, 2, 9]);
    expect(() => listOf(wholeNumber(1, 9))('1,10')).toThrow(/1 to 9/);
    expect(oneOf(SCENARIOS)('stall').name).toBe('stall');
    expect(() => oneOf(SCENARIOS)('stal')).toThrow(/There are: rate, /);
  });
});
