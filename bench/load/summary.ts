/**
 * Figures from samples. Histograms hold the requests that were answered; all others are counted by how they ended
 * ({@link outcomes}). Percentiles that rivals are judged by are over all requests, see {@link latencies}.
 */
import {
  build,
  decodeFromCompressedBase64,
  encodeIntoCompressedBase64,
  type Histogram,
} from 'hdr-histogram-js';
import type { Timeline } from '../report/schema.js';
import { OUTCOMES, type Outcome, type Samples } from './samples.js';

/** Whether the request with this index is one that a figure is about. */
type Judged = (index: number) => boolean;

const everyone: Judged = () => true;
const OK = OUTCOMES.indexOf('ok');
const NOBODY = 65_535;

const PER_MILLISECOND = 1000;
/** Microseconds. Requests are given up before that; what is above counts as this. */
const LONGEST = 60_000_000;

function emptyHistogram(): Histogram {
  return build({
    bitBucketSize: 32,
    lowestDiscernibleValue: 1,
    highestTrackableValue: LONGEST,
    numberOfSignificantValueDigits: 3,
  });
}

/**
 * Times from due to `column` of the requests that were answered, in microseconds, to three digits. A request on a
 * connection that was open already did not connect, so `connected` leaves it out.
 */
export function histogram(
  samples: Samples,
  column: 'firstByte' | 'connected' | 'ended',
  judged: Judged = everyone,
): Histogram {
  const result = emptyHistogram();
  samples[column].forEach((milliseconds, index) => {
    if (!isAnswered(samples, index) || !judged(index)) return;
    if (column === 'connected' && milliseconds === 0) return;
    result.recordValue(Math.min(Math.round(milliseconds * PER_MILLISECOND), LONGEST));
  });
  return result;
}

const PERCENTILES = { p50: 50, p90: 90, p99: 99, p999: 99.9 } as const;

/** Milliseconds; null when nothing was recorded. */
type Percentiles = Record<keyof typeof PERCENTILES | 'max', number | null>;

export function percentiles(histogram: Histogram): Percentiles {
  const at = (percentile: number) =>
    histogram.totalCount === 0 ? null : histogram.getValueAtPercentile(percentile) / PER_MILLISECOND;
  const { p50, p90, p99, p999 } = PERCENTILES;
  return { p50: at(p50), p90: at(p90), p99: at(p99), p999: at(p999), max: at(100) };
}

/**
 * What most scenarios tell: percentiles of the time from due to first byte over all judged requests, milliseconds. One
 * that failed, however soon, counts as long as clients are patient: nobody gets better by answering fewer.
 *
 * @param patience milliseconds after which requests are given up; null: failed requests are left out, for figures that
 *   are not compared.
 */
export function latencies(
  samples: Samples,
  patience: number | null,
  judged: Judged = everyone,
): Record<'p50' | 'p99' | 'p999' | 'max', number | null> {
  const times = histogram(samples, 'firstByte', judged);
  const failures = failed(outcomes(samples, judged));
  if (patience !== null && failures > 0) {
    times.recordValueWithCount(Math.min(patience * PER_MILLISECOND, LONGEST), failures);
  }
  const { p50, p99, p999, max } = percentiles(times);
  return { p50, p99, p999, max };
}

/** Compressed and in base64: hdr-histogram's own exchange format. */
export function encodeHistogram(histogram: Histogram): string {
  return encodeIntoCompressedBase64(histogram);
}

export function decodeHistogram(text: string): Histogram {
  return decodeFromCompressedBase64(text);
}

/** All of them in one, which is new. */
export function mergeHistograms(parts: Iterable<Histogram>): Histogram {
  const result = emptyHistogram();
  for (const part of parts) result.add(part);
  return result;
}

/** How many requests ended in each way; together they are all that are judged. */
export function outcomes(samples: Samples, judged: Judged = everyone): Record<Outcome, number> {
  const counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>;
  samples.outcome.forEach((outcome, index) => {
    if (judged(index)) counts[OUTCOMES[outcome] as Outcome]++;
  });
  return counts;
}

/** Those that were sent and not answered rightly. */
export function failed({ ok, 'not-sent': _, ...others }: Record<Outcome, number>): number {
  return Object.values(others).reduce((sum, count) => sum + count, 0);
}

/** Whether the request was answered rightly. */
export function isAnswered({ outcome }: Samples, index: number): boolean {
  return outcome[index] === OK;
}

/** How many requests each worker answered, by its name; most first. */
export function answersById(samples: Samples): Map<string, number> {
  const counts = new Array<number>(samples.workers.length).fill(0);
  for (const worker of samples.worker) if (worker !== NOBODY) counts[worker] = (counts[worker] as number) + 1;
  const named = samples.workers.map((name, worker) => [name, counts[worker] as number] as const);
  return new Map(named.sort(([, a], [, b]) => b - a));
}

/** Only the numbers, most first. */
export function answersPerWorker(samples: Samples): number[] {
  return [...answersById(samples).values()];
}

/** The course of a load in buckets of `step` milliseconds, by when requests were due. */
export function timeline(samples: Samples, step: number, marks: Timeline['marks'] = []): Timeline {
  const bucketOf = (index: number) => Math.floor((samples.due[index] as number) / step);
  // Requests are due in the order of their indices.
  const buckets = samples.count === 0 ? 0 : bucketOf(samples.count - 1) + 1;
  const answered = new Array<number>(buckets).fill(0);
  const others = new Array<number>(buckets).fill(0);
  const longest = new Array<number | null>(buckets).fill(null);
  for (let index = 0; index < samples.count; index++) {
    const bucket = bucketOf(index);
    if (isAnswered(samples, index)) {
      answered[bucket] = (answered[bucket] as number) + 1;
      longest[bucket] = Math.max(longest[bucket] ?? 0, samples.firstByte[index] as number);
    } else {
      others[bucket] = (others[bucket] as number) + 1;
    }
  }
  return { step, answered, failed: others, longest, marks };
}

/** How late the generator itself was, milliseconds; 0 of nothing. */
export function lateness(samples: Samples): { lateP99: number; lateMax: number } {
  const late = Float64Array.from(samples.begun).sort();
  const at = (share: number) => late[Math.max(0, Math.ceil(share * late.length) - 1)] ?? 0;
  return { lateP99: at(0.99), lateMax: at(1) };
}
