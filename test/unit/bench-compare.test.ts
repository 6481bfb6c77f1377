/** When the benchmark calls a difference a win or a loss: by pairs of rounds, with an interval that holds what it says. */
import { describe, expect, test } from 'vitest';
import { type Random, seededRandom } from '../../bench/load/random.js';
import { type Comparison, compare, type Direction, MINIMUM_ROUNDS } from '../../bench/method/compare.js';
import { studentQuantile } from '../../bench/method/student.js';

describe('the verdict', () => {
  const same = [100, 101, 99, 100, 102];
  const cases: {
    desc: string;
    ours: number[];
    theirs: number[];
    better: Direction;
    verdict: Comparison['verdict'];
    of: Comparison['of'];
  }[] = [
    {
      desc: 'twice as much in every round is a win where more is better',
      ours: [200, 204, 198, 199, 202],
      theirs: same,
      better: 'higher',
      verdict: 'win',
      of: 'ratio',
    },
    {
      desc: 'and a loss where less is better',
      ours: [200, 204, 198, 199, 202],
      theirs: same,
      better: 'lower',
      verdict: 'loss',
      of: 'ratio',
    },
    {
      desc: 'half as much is a win where less is better',
      ours: [50, 51, 49, 50, 50],
      theirs: same,
      better: 'lower',
      verdict: 'win',
      of: 'ratio',
    },
    {
      desc: 'one round that says the opposite makes a tie of four that agree',
      ours: [120, 121, 119, 120, 20],
      theirs: same,
      better: 'higher',
      verdict: 'tie',
      of: 'ratio',
    },
    {
      desc: 'the same values are a tie',
      ours: same,
      theirs: same,
      better: 'lower',
      verdict: 'tie',
      of: 'ratio',
    },
    {
      desc: 'no failure beside some is a win, by the difference',
      ours: [0, 0, 0, 0, 0],
      theirs: [31, 28, 35, 30, 29],
      better: 'lower',
      verdict: 'win',
      of: 'difference',
    },
    {
      desc: 'no failure on either side is a tie',
      ours: [0, 0, 0, 0, 0],
      theirs: [0, 0, 0, 0, 0],
      better: 'lower',
      verdict: 'tie',
      of: 'difference',
    },
    {
      desc: 'one zero in one round is enough for differences',
      ours: [10, 11, 9, 0, 10],
      theirs: [1, 2, 1, 1, 1],
      better: 'lower',
      verdict: 'loss',
      of: 'difference',
    },
    {
      desc: 'rounds that drift together are judged by what they differ in, not by their spread',
      ours: [11, 110, 1_100, 11_000, 110_000],
      theirs: [10, 100, 1_000, 10_000, 100_000],
      better: 'higher',
      verdict: 'win',
      of: 'ratio',
    },
    {
      desc: 'four rounds are too few, however clear they are',
      ours: [200, 200, 201, 199],
      theirs: [100, 100, 100, 100],
      better: 'higher',
      verdict: 'unknown',
      of: 'ratio',
    },
  ];

  test.each(cases)('$desc', ({ ours, theirs, better, verdict, of }) => {
    expect(compare(ours, theirs, better)).toMatchObject({ verdict, of, rounds: ours.length });
  });

  test('five rounds are the fewest', () => {
    expect(MINIMUM_ROUNDS).toBe(5);
  });

  test('one round has no interval, no round and pairs that do not match are refused', () => {
    expect(compare([2], [1], 'higher')).toEqual({
      of: 'ratio',
      rounds: 1,
      median: 2,
      interval: null,
      verdict: 'unknown',
    });
    expect(() => compare([], [], 'higher')).toThrow(RangeError);
    expect(() => compare([1, 2], [1], 'higher')).toThrow(RangeError);
  });
});

test('a ratio has a median and an interval of ratios', () => {
  // The logarithms are −d, 0, 0, 0 and d around ln 2: mean ln 2, standard error d / √10.
  const d = Math.log(1.1);
  const { median, interval } = compare([2 / 1.1, 2, 2, 2, 2 * 1.1], [1, 1, 1, 1, 1], 'higher');
  const half = (2.776445 * d) / Math.sqrt(10);
  expect(median).toBeCloseTo(2, 10);
  expect(interval?.[0]).toBeCloseTo(2 * Math.exp(-half), 5);
  expect(interval?.[1]).toBeCloseTo(2 * Math.exp(half), 5);
});

test('a difference has a median and an interval in the unit of the figure', () => {
  const { of, median, interval } = compare([8, 9, 10, 11, 12], [0, 0, 0, 0, 0], 'lower');
  const half = 2.776445 * Math.sqrt(2.5 / 5);
  expect({ of, median }).toEqual({ of: 'difference', median: 10 });
  expect(interval?.[0]).toBeCloseTo(10 - half, 5);
  expect(interval?.[1]).toBeCloseTo(10 + half, 5);
});

describe("quantiles of Student's t are those of the printed tables", () => {
  test.each([
    [0.975, 1, 12.7062],
    [0.975, 2, 4.30265],
    [0.975, 3, 3.18245],
    [0.975, 4, 2.77645],
    [0.975, 9, 2.26216],
    [0.975, 30, 2.04227],
    [0.975, 120, 1.97993],
    [0.95, 5, 2.01505],
    [0.995, 10, 3.16927],
    [0.5, 7, 0],
  ])('%d with %d degrees of freedom: %d', (probability, freedom, quantile) => {
    expect(studentQuantile(probability, freedom)).toBeCloseTo(quantile, 4);
  });

  test.each([
    [0.4, 4],
    [1, 4],
    [Number.NaN, 4],
    [0.975, 0],
    [0.975, 2.5],
  ])('%d with %d is refused', (probability, freedom) => {
    expect(() => studentQuantile(probability, freedom)).toThrow(RangeError);
  });
});

describe('of 4,000 made-up measurements, the interval holds the truth in 95 %', () => {
  const DRAWS = 4_000;

  test.each([5, 7, 12])('ratios, %d rounds', (rounds) => {
    const random = seededRandom(11 * rounds);
    const truth = 1.3;
    const share = shareOf(DRAWS, () => {
      const theirs = draw(rounds, () => 100 * Math.exp(0.2 * normal(random)));
      const ours = theirs.map((value) => value * truth * Math.exp(0.08 * normal(random)));
      return holds(compare(ours, theirs, 'higher').interval, truth);
    });
    expectWithin(share, 0.935, 0.965);
  });

  test.each([5, 9])('differences, %d rounds', (rounds) => {
    const random = seededRandom(13 * rounds);
    const share = shareOf(DRAWS, () => {
      const theirs = draw(rounds, () => 40 * normal(random) - 200);
      const ours = theirs.map((value) => value + 25 + 10 * normal(random));
      return holds(compare(ours, theirs, 'lower').interval, 25);
    });
    expectWithin(share, 0.935, 0.965);
  });

  test('so where there is no difference, one in 20 is called a win or a loss, as often the one as the other', () => {
    const random = seededRandom(5);
    const verdicts = draw(DRAWS, () => {
      const noisy = () => draw(5, () => 100 * Math.exp(0.1 * normal(random)));
      return compare(noisy(), noisy(), 'higher').verdict;
    });
    const share = (verdict: string) => verdicts.filter((each) => each === verdict).length / DRAWS;
    expectWithin(share('tie'), 0.935, 0.965);
    expectWithin(share('win'), 0.015, 0.035);
    expectWithin(share('loss'), 0.015, 0.035);
  });
});

function expectWithin(value: number, low: number, high: number): void {
  expect(value).toBeGreaterThanOrEqual(low);
  expect(value).toBeLessThanOrEqual(high);
}

function draw<T>(count: number, one: () => T): T[] {
  return Array.from({ length: count }, one);
}

function shareOf(draws: number, isSo: () => boolean): number {
  return draw(draws, isSo).filter(Boolean).length / draws;
}

function holds(interval: Comparison['interval'], truth: number): boolean {
  return interval !== null && interval[0] <= truth && truth <= interval[1];
}

/** A standard normal variable, by Box and Muller. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}
