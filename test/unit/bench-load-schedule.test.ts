import { describe, expect, test } from 'vitest';
import { steady, steps, withKind } from '../../bench/load/schedule.js';

const SECOND = 1000;

function between(at: Float64Array, from: number, to: number): number {
  return at.filter((time) => time >= from && time < to).length;
}

function gaps(at: Float64Array): number[] {
  return [...at.subarray(1)].map((time, index) => time - (at[index] as number));
}

describe('steady arrivals', () => {
  test('are as many as the rate says, in order, within the time', () => {
    for (const spacing of ['even', 'poisson'] as const) {
      const { at, kind } = steady({ rate: 333, milliseconds: 3000, seed: 1, spacing });
      expect(at).toHaveLength(999);
      expect(kind).toEqual(new Uint8Array(999));
      expect(at[0]).toBeGreaterThanOrEqual(0);
      expect(at.at(-1)).toBeLessThan(3000);
      expect(gaps(at).every((gap) => gap >= 0)).toBe(true);
    }
  });

  test('are the same for one seed and others for another', () => {
    const order = { rate: 100, milliseconds: SECOND };
    expect(steady({ ...order, seed: 7 })).toEqual(steady({ ...order, seed: 7 }));
    expect(steady({ ...order, seed: 7 })).not.toEqual(steady({ ...order, seed: 8 }));
  });

  test('come like those of independent clients: 1/e of the gaps are longer than the mean, and e⁻³ than three of it', () => {
    const long = (at: Float64Array, gap: number) => gaps(at).filter((each) => each > gap).length / at.length;
    const { at } = steady({ rate: 1000, milliseconds: 100 * SECOND, seed: 3 });
    expect(long(at, 1)).toBeCloseTo(Math.exp(-1), 2);
    expect(long(at, 3)).toBeCloseTo(Math.exp(-3), 2);
  });

  test('are all equally far apart when evenly spaced', () => {
    const { at } = steady({ rate: 250, milliseconds: SECOND, seed: 1, spacing: 'even' });
    for (const gap of gaps(at)) expect(gap).toBeCloseTo(4, 6);
  });

  test('are none at rate 0, and a load without an end is refused', () => {
    expect(steady({ rate: 0, milliseconds: SECOND, seed: 1 }).at).toHaveLength(0);
    expect(() => steady({ rate: 1, milliseconds: Number.POSITIVE_INFINITY, seed: 1 })).toThrow(RangeError);
    expect(() => steady({ rate: -1, milliseconds: SECOND, seed: 1 })).toThrow(RangeError);
  });
});

test('every step has the number of arrivals that it has by itself', () => {
  const list = [
    { rate: 100, milliseconds: SECOND },
    { rate: 1000, milliseconds: 100 },
    { rate: 0, milliseconds: 50 },
    { rate: 40, milliseconds: 500 },
  ];
  const { at } = steps(list, 5);
  expect(at).toHaveLength(220);
  expect(between(at, 0, 1000)).toBe(100);
  expect(between(at, 1000, 1100)).toBe(100);
  expect(between(at, 1100, 1150)).toBe(0);
  expect(between(at, 1150, 1650)).toBe(20);
  expect(gaps(at).every((gap) => gap >= 0)).toBe(true);
});

describe('requests of another kind', () => {
  const arrivals = steady({ rate: 1000, milliseconds: 10 * SECOND, seed: 1 });
  const places = (kind: Uint8Array) =>
    [...kind.entries()].filter(([, each]) => each === 2).map(([index]) => index);

  test('are exactly one in so many, at irregular places that the seed decides', () => {
    const { at, kind } = withKind(arrivals, { kind: 2, oneIn: 100, seed: 1 });
    expect(at).toBe(arrivals.at);
    expect(places(kind)).toHaveLength(100);
    expect(new Set(places(kind).map((index) => index % 4)).size).toBe(4);
    expect(withKind(arrivals, { kind: 2, oneIn: 100, seed: 1 }).kind).toEqual(kind);
    expect(withKind(arrivals, { kind: 2, oneIn: 100, seed: 2 }).kind).not.toEqual(kind);
    expect(arrivals.kind.every((each) => each === 0)).toBe(true);
  });

  test('are spread over the whole load', () => {
    const { kind } = withKind(arrivals, { kind: 2, oneIn: 10, seed: 4 });
    for (const quarter of [0, 1, 2, 3]) {
      const count = places(kind).filter((index) => Math.floor(index / 2500) === quarter).length;
      // 250 expected; five standard deviations of a hypergeometric draw are 65.
      expect(Math.abs(count - 250)).toBeLessThan(65);
    }
  });

  test('are none before `from`, and the share is of those after it', () => {
    const { at, kind } = withKind(arrivals, { kind: 2, oneIn: 50, seed: 1, from: 5000 });
    const after = between(at, 5000, 10_000);
    expect(places(kind)).toHaveLength(Math.round(after / 50));
    expect(at[places(kind)[0] as number]).toBeGreaterThanOrEqual(5000);
  });

  test('may be all of them', () => {
    expect(withKind(arrivals, { kind: 2, oneIn: 1, seed: 1 }).kind.every((each) => each === 2)).toBe(true);
    expect(() => withKind(arrivals, { kind: 2, oneIn: 0.5, seed: 1 })).toThrow(RangeError);
  });
});
