import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { buildChoices, pick } from '../../lib/group/choices.js';

const NUMBERS = 2 ** 32;
const TOLERANCE = 2 ** -20;
const KEEP_ALL = 0xffff_ffff;

/** The first random number that leads to `row` with at least `low` left of the product. */
function firstNumber(rows: number, row: number, low: number): number {
  return Math.ceil((row * NUMBERS + low) / rows);
}

/** How many of all 2³² random numbers lead to each slot: counted from the thresholds, so nothing is sampled. */
function hitsPerSlot(choices: Uint32Array): number[] {
  const rows = choices.length / 2;
  const hits = new Array<number>(rows).fill(0);
  for (let row = 0; row < rows; row++) {
    const alias = choices[2 * row + 1]!;
    const start = firstNumber(rows, row, 0);
    const middle = firstNumber(rows, row, choices[2 * row]!);
    const end = firstNumber(rows, row + 1, 0);
    hits[row]! += middle - start;
    hits[alias]! += end - middle;
  }
  return hits;
}

/** The largest distance of a slot's share from weight/sum. */
function worstError(weights: readonly number[]): number {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const hits = hitsPerSlot(buildChoices(weights));
  return Math.max(...weights.map((weight, slot) => Math.abs(hits[slot]! / NUMBERS - weight / sum)));
}

function slotsWithoutWeightButHits(weights: readonly number[]): number[] {
  const hits = hitsPerSlot(buildChoices(weights));
  return [...weights.keys()].filter((slot) => weights[slot] === 0 && hits[slot]! > 0);
}

const range = (length: number) => Array.from({ length }, (_, index) => index);

const SHAPES: readonly { title: string; weights: readonly number[] }[] = [
  { title: 'one slot', weights: [7] },
  { title: 'equal weights', weights: [5, 5, 5] },
  { title: 'weights that divide nothing evenly', weights: [1, 2, 4, 6] },
  { title: 'one heavy slot among light ones', weights: [1, 1, 1000, 1] },
  { title: 'holes at both ends', weights: [0, 0, 3, 1, 0] },
  { title: 'one slot left of many', weights: [0, 0, 0, 1, 0, 0, 0, 0] },
  { title: 'the largest group, equal weights', weights: range(1024).map(() => 1) },
  {
    title: 'the largest group, one slot has nearly everything',
    weights: range(1024).map((i) => (i ? 1 : 1000)),
  },
  {
    title: 'the largest group, one slot has everything',
    weights: range(1024).map((i) => (i === 511 ? 1 : 0)),
  },
  { title: 'the largest group, all weights differ', weights: range(1024).map((i) => i + 1) },
  {
    title: 'the largest group but one, every second slot disabled',
    weights: range(1023).map((i) => (i % 2) * i),
  },
];

describe('buildChoices', () => {
  it.each(SHAPES)('gives every slot its share: $title', ({ weights }) => {
    expect(worstError(weights)).toBeLessThan(TOLERANCE);
    expect(slotsWithoutWeightButHits(weights)).toEqual([]);
  });

  it('gives every slot its share for any weights', () => {
    const random = seededRandom(1);
    for (let round = 0; round < 500; round++) {
      const heaviest = random.between(1, 1000);
      const weights = range(random.between(1, 1024)).map(() =>
        Math.max(0, random.between(-heaviest, heaviest)),
      );
      weights[random.between(0, weights.length - 1)] = heaviest;
      expect(worstError(weights), `round ${round}`).toBeLessThan(TOLERANCE);
      expect(slotsWithoutWeightButHits(weights), `round ${round}`).toEqual([]);
    }
  });

  it('gives equal slots equal rows that keep everything', () => {
    expect([...buildChoices([3, 3, 3])]).toEqual([KEEP_ALL, 0, KEEP_ALL, 1, KEEP_ALL, 2]);
  });

  it('lets a row that keeps everything lead to itself only', () => {
    const random = seededRandom(2);
    for (let round = 0; round < 200; round++) {
      const choices = buildChoices(range(random.between(1, 64)).map(() => random.between(1, 4)));
      const full = range(choices.length / 2).filter((row) => choices[2 * row] === KEEP_ALL);
      expect(full.map((row) => choices[2 * row + 1])).toEqual(full);
      expect(full.length, 'whoever gave to the others keeps a row at last').toBeGreaterThan(0);
    }
  });

  it('leads the rows of slots without weight to a slot with weight, whatever is left of the product', () => {
    expect([...buildChoices([0, 9])]).toEqual([0, 1, KEEP_ALL, 1]);
  });

  it('leads every row to itself when nobody has a weight', () => {
    expect([...buildChoices([0, 0, 0])]).toEqual([KEEP_ALL, 0, KEEP_ALL, 1, KEEP_ALL, 2]);
  });

  it('makes no rows out of no weights', () => {
    expect(buildChoices([])).toHaveLength(0);
  });

  it.each([
    { title: 'negative', weights: [2, -1] },
    { title: 'not whole', weights: [1, 0.5] },
    { title: 'not a number', weights: [Number.NaN] },
    { title: 'infinite', weights: [Number.POSITIVE_INFINITY] },
    { title: 'too large together', weights: [2 ** 52, 2 ** 52] },
  ])('refuses weights that are $title', ({ weights }) => {
    expect(() => buildChoices(weights)).toThrow(RangeError);
  });
});

describe('pick', () => {
  it('changes the slot exactly where the threshold says', () => {
    // Two rows: row 0 keeps half of itself for slot 0, so that the shares are 1/4 and 3/4.
    const choices = buildChoices([1, 3]);
    expect([...choices]).toEqual([0x8000_0000, 1, KEEP_ALL, 1]);
    expect(pick(choices, 0)).toBe(0);
    expect(pick(choices, 0x3fff_ffff)).toBe(0);
    expect(pick(choices, 0x4000_0000)).toBe(1);
    expect(pick(choices, 0xffff_ffff)).toBe(1);
  });

  it('calculates as the kernel does, in 64 bits and 32 bits', () => {
    const random = seededRandom(3);
    for (let round = 0; round < 2000; round++) {
      const choices = buildChoices(range(random.between(1, 1024)).map(() => random.between(0, 1000)));
      for (const r of [0, KEEP_ALL, random.word()]) {
        const product = BigInt(r) * BigInt(choices.length / 2);
        const row = Number(product >> 32n);
        const low = Number(product & 0xffff_ffffn);
        expect(pick(choices, r)).toBe(low < choices[2 * row]! ? row : choices[2 * row + 1]);
      }
    }
  });

  it('finds each slot as often as the count over the thresholds says', () => {
    const choices = buildChoices([1, 0, 5, 2, 2]);
    const expected = hitsPerSlot(choices).map((hits) => hits / NUMBERS);
    const found = [0, 0, 0, 0, 0];
    const step = 2 ** 12;
    for (let r = 0; r < NUMBERS; r += step) found[pick(choices, r)]!++;
    for (const [slot, hits] of found.entries())
      expect((hits * step) / NUMBERS).toBeCloseTo(expected[slot]!, 5);
  });
});
