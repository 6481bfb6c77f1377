/** Histograms as the few points that a drawn curve needs. */
import { decodeFromCompressedBase64 } from 'hdr-histogram-js';

/** Points per factor of ten of those that are slower: one per 1.8-fold. */
const PER_NINE = 4;
/** Up to 99.9999 %. */
const NINES = 6;

/**
 * Where on the scale the points lie: by "nines", −log₁₀(1 − p). 0 is the fastest of all, 1 is the 90th percentile,
 * 2 the 99th, and so on; HDR histograms are drawn on this scale because it gives the slowest ones the most room.
 */
export const GRID: readonly number[] = Array.from({ length: NINES * PER_NINE + 1 }, (_, i) => i / PER_NINE);

/**
 * Milliseconds at the points of the grid, as far as the number of samples reaches: the slowest of a thousand are not
 * shown by fewer than a thousand. Null without a histogram or a sample.
 */
export function curveOf(histogram: string | null): number[] | null {
  if (histogram === null) return null;
  const decoded = decodeFromCompressedBase64(histogram);
  const count = decoded.totalCount;
  if (count === 0) return null;
  const reached = GRID.filter((nines) => nines <= Math.log10(count) + 1e-9);
  return reached.map((nines) => {
    const microseconds = decoded.getValueAtPercentile(100 * (1 - 10 ** -nines));
    return threeDigits(microseconds / 1000);
  });
}

/** What can be seen in a drawing, and no more: the page would be several times as large. */
export function threeDigits(value: number): number {
  return significant(value, 3);
}

export function significant(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}
