/** Which slot the clients of a bucket belong to: shares by weight, and nobody moves who does not have to. */
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { buildBuckets } from '../../lib/group/buckets.js';
import { BUCKETS } from '../../lib/group/layout.js';

/** Distances from the expected share, in standard deviations of a fair draw, that no slot here may have. */
const SIGMAS = 5;

const range = (length: number) => Array.from({ length }, (_, index) => index);
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

/** How many of these buckets belong to each slot. */
function count(buckets: Iterable<number>, slots: number): number[] {
  const counts = new Array<number>(slots).fill(0);
  for (const slot of buckets) counts[slot]!++;
  return counts;
}

/** Every slot has a share of the buckets that its weight entitles it to, as far as chance allows. */
function expectShares(counts: readonly number[], weights: readonly number[], note = ''): void {
  const draws = sum(counts);
  for (const [slot, weight] of weights.entries()) {
    const share = weight / sum(weights);
    const deviation = Math.sqrt(draws * share * (1 - share));
    expect(Math.abs(counts[slot]! - draws * share), `slot ${slot} ${note}`).toBeLessThanOrEqual(
      SIGMAS * deviation,
    );
  }
}

/** Buckets that belong to another slot after than before. */
function moves(before: Uint32Array, after: Uint32Array): { from: number; to: number }[] {
  return range(BUCKETS)
    .filter((bucket) => before[bucket] !== after[bucket])
    .map((bucket) => ({ from: before[bucket]!, to: after[bucket]! }));
}

const without = (weights: readonly number[], slot: number) =>
  weights.map((weight, other) => (other === slot ? 0 : weight));

const SHAPES: { title: string; weights: number[] }[] = [
  { title: 'one slot', weights: [7] },
  { title: 'two equal ones', weights: [1, 1] },
  { title: 'equal ones', weights: [5, 5, 5, 5, 5, 5, 5] },
  { title: 'weights that divide nothing evenly', weights: [1, 2, 4, 6] },
  { title: 'one heavy among light ones', weights: [1, 1, 1000, 1] },
  { title: 'gaps at both ends and between', weights: [0, 0, 3, 0, 1, 2, 0] },
  { title: 'one left of many', weights: [0, 0, 0, 1, 0, 0, 0, 0] },
  { title: 'many', weights: range(128).map((slot) => 1 + (slot % 10)) },
];

describe.each(SHAPES)('$title', ({ weights }) => {
  const buckets = buildBuckets(weights);

  test('have every bucket among them, each in proportion to its weight', () => {
    expect(buckets).toHaveLength(BUCKETS);
    expect(Math.max(...buckets)).toBeLessThan(weights.length);
    const counts = count(buckets, weights.length);
    for (const [slot, weight] of weights.entries()) if (weight === 0) expect(counts[slot]).toBe(0);
    expectShares(counts, weights);
  });

  test('have the same buckets whenever it is asked, in a table of its own', () => {
    const again = buildBuckets([...weights]);
    expect(again).toEqual(buckets);
    expect(again).not.toBe(buckets);
  });

  test('have the same buckets when all weights are multiplied', () => {
    expect(buildBuckets(weights.map((weight) => 8 * weight))).toEqual(buckets);
  });
});

describe('the buckets of who leaves', () => {
  const takers = (weights: readonly number[]) => range(weights.length).filter((slot) => weights[slot]! > 0);

  test.each(SHAPES.filter(({ weights }) => takers(weights).length > 1))(
    'are all that move, and are found again by who returns: $title',
    ({ weights }) => {
      const before = buildBuckets(weights);
      for (const leaver of takers(weights).slice(0, 8)) {
        const moved = moves(before, buildBuckets(without(weights, leaver)));
        expect(new Set(moved.map(({ from }) => from))).toEqual(new Set([leaver]));
        expect(moved).toHaveLength(count(before, weights.length)[leaver]!);
      }
      expect(buildBuckets(weights)).toEqual(before);
    },
  );

  test('are shared among all others by their weights', () => {
    const weights = [12, 1, 2, 3, 0, 4];
    const moved = moves(buildBuckets(weights), buildBuckets(without(weights, 0)));
    expect(moved.length).toBeGreaterThan(BUCKETS / 3);
    expectShares(
      count(
        moved.map(({ to }) => to),
        weights.length,
      ),
      without(weights, 0),
    );
  });

  test('are the same whether the last slot is empty or gone', () => {
    expect(buildBuckets([2, 3, 1, 0])).toEqual(buildBuckets([2, 3, 1]));
  });
});

describe('the buckets of who comes', () => {
  test('are taken from all others by their weights, and no others move', () => {
    const before = [1, 2, 3, 0, 4];
    const after = [1, 2, 3, 10, 4];
    const moved = moves(buildBuckets(before), buildBuckets(after));
    expect(new Set(moved.map(({ to }) => to))).toEqual(new Set([3]));
    expectShares([moved.length, BUCKETS - moved.length], [10, 10]);
    expectShares(
      count(
        moved.map(({ from }) => from),
        before.length,
      ),
      before,
    );
  });

  test('are its share only, also behind all others', () => {
    const four = buildBuckets([1, 1, 1, 1]);
    const five = buildBuckets([1, 1, 1, 1, 1]);
    const moved = moves(four, five);
    expect(new Set(moved.map(({ to }) => to))).toEqual(new Set([4]));
    expectShares([moved.length, BUCKETS - moved.length], [1, 4]);
  });
});

describe('another weight', () => {
  test.each([
    {
      title: 'more for one moves buckets to it only',
      before: [3, 3, 3],
      after: [3, 6, 3],
      to: [1],
      from: [0, 2],
    },
    {
      title: 'less for one moves buckets away from it only',
      before: [3, 6, 3],
      after: [3, 3, 3],
      to: [0, 2],
      from: [1],
    },
  ])('$title', ({ before, after, to, from }) => {
    const moved = moves(buildBuckets(before), buildBuckets(after));
    expect([...new Set(moved.map((move) => move.to))].sort()).toEqual(to);
    expect([...new Set(moved.map((move) => move.from))].sort()).toEqual(from);
  });
});

test('any weights give every slot its share', () => {
  const random = seededRandom(1);
  for (let round = 0; round < 20; round++) {
    const weights = range(random.between(2, 40)).map(() => Math.max(0, random.between(-3, 10)));
    weights[0] = 1;
    expectShares(count(buildBuckets(weights), weights.length), weights, `in round ${round}`);
  }
});

test.each([
  ['no slots', []],
  ['a slot without weight', [0]],
  ['slots without weight', [0, 0, 0]],
])('%s leave every bucket to slot 0', (_, weights) => {
  expect(buildBuckets(weights)).toEqual(new Uint32Array(BUCKETS));
});

test('neighbouring buckets are not neighbours at a slot: who is where tells nothing about the next', () => {
  const buckets = buildBuckets([1, 1, 1, 1]);
  const equal = range(BUCKETS - 1).filter((bucket) => buckets[bucket] === buckets[bucket + 1]).length;
  expectShares([equal, BUCKETS - 1 - equal], [1, 3]);
});
