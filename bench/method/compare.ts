/** Whether one series of rounds is better than another: by pairs, with a confidence interval, or not at all. */
import { mean, median } from './statistics.js';
import { studentQuantile } from './student.js';

export type Direction = 'higher' | 'lower';

/** One driver beside another, over the rounds that both have. */
export interface Comparison {
  /**
   * `ratio`: this / other in every round, where all values are above 0; `difference`: this − other, in the figure's
   * unit, where a value is 0 or below (counts of failures mostly are).
   */
  of: 'ratio' | 'difference';
  /** Rounds that were compared. */
  rounds: number;
  median: number;
  /**
   * 95 % confidence interval of the mean difference, by Student's t over the rounds; of ratios, of the geometric mean.
   * Null with fewer than two rounds.
   */
  interval: [low: number, high: number] | null;
  /**
   * `win` and `loss` only if the whole interval lies on one side of equality; `tie`: no difference was shown;
   * `unknown`: too few rounds (below MINIMUM_ROUNDS) to say anything.
   */
  verdict: 'win' | 'loss' | 'tie' | 'unknown';
}

/** Below five rounds the interval is so wide, and so easily spoiled by one odd round, that no verdict is given. */
export const MINIMUM_ROUNDS = 5;

const CONFIDENCE = 0.95;

/** `ours` and `theirs`: one value per round, of the same rounds in the same order. */
export function compare(ours: readonly number[], theirs: readonly number[], better: Direction): Comparison {
  if (ours.length !== theirs.length || ours.length === 0) {
    throw new RangeError(`pairs are needed: ${ours.length} rounds beside ${theirs.length}`);
  }
  const isRatio = [...ours, ...theirs].every((value) => value > 0);
  const pairs = ours.map((value, round) => {
    const other = theirs[round] as number;
    return isRatio ? Math.log(value / other) : value - other;
  });
  const back = isRatio ? Math.exp : (value: number) => value;
  const interval = intervalOfMean(pairs);
  return {
    of: isRatio ? 'ratio' : 'difference',
    rounds: pairs.length,
    median: back(median(pairs)),
    interval: interval && [back(interval[0]), back(interval[1])],
    verdict: judge(pairs.length, interval, better),
  };
}

/** Of values whose mean would be 0 if there were no difference. */
function intervalOfMean(values: readonly number[]): [number, number] | null {
  const count = values.length;
  if (count < 2) return null;
  const middle = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (count - 1);
  const half = studentQuantile(1 - (1 - CONFIDENCE) / 2, count - 1) * Math.sqrt(variance / count);
  return [middle - half, middle + half];
}

function judge(
  rounds: number,
  interval: readonly [number, number] | null,
  better: Direction,
): Comparison['verdict'] {
  if (rounds < MINIMUM_ROUNDS || interval === null) return 'unknown';
  const [low, high] = interval;
  if (low <= 0 && high >= 0) return 'tie';
  return low > 0 === (better === 'higher') ? 'win' : 'loss';
}
