import { describe, expect, test } from 'vitest';
import { OUTCOMES, type Outcome, type Samples } from '../../bench/load/samples.js';
import {
  answersById,
  answersPerWorker,
  decodeHistogram,
  encodeHistogram,
  histogram,
  latencies,
  lateness,
  mergeHistograms,
  outcomes,
  percentiles,
  timeline,
} from '../../bench/load/summary.js';

interface Sample {
  due?: number;
  begun?: number;
  connected?: number;
  firstByte?: number;
  outcome?: Outcome;
  worker?: number;
}

function samplesOf(list: readonly Sample[], workers: string[] = ['a']): Samples {
  const column = (of: (sample: Sample) => number) => Float64Array.from(list.map(of));
  return {
    count: list.length,
    due: column(({ due = 0 }) => due),
    begun: column(({ begun = 0 }) => begun),
    connected: column(({ connected = Number.NaN }) => connected),
    firstByte: column(({ firstByte = Number.NaN }) => firstByte),
    ended: column(({ firstByte = 1000 }) => firstByte),
    outcome: Uint8Array.from(list.map(({ outcome = 'ok' }) => OUTCOMES.indexOf(outcome))),
    kind: new Uint8Array(list.length),
    worker: Uint16Array.from(
      list.map(({ outcome = 'ok', worker = 0 }) => (outcome === 'ok' ? worker : 65_535)),
    ),
    workers,
    generatorBusy: 0.1,
  };
}

describe('latencies', () => {
  const hundred = samplesOf(Array.from({ length: 100 }, (_, index) => ({ firstByte: (index + 1) / 10 })));

  test('are percentiles of the times to the first byte, in milliseconds, to three digits', () => {
    expect(percentiles(histogram(hundred, 'firstByte'))).toEqual({
      p50: 5.003,
      p90: 9.007,
      p99: 9.903,
      p999: 10.007,
      max: 10.007,
    });
    const { p50, p99, p999, max } = latencies(hundred, null);
    for (const [got, exact] of [
      [p50, 5],
      [p99, 9.9],
      [p999, 10],
      [max, 10],
    ])
      expect(Math.abs((got as number) / (exact as number) - 1)).toBeLessThan(0.001);
  });

  test('are those of answered requests that are judged, nothing else', () => {
    const mixed = samplesOf([
      { firstByte: 1 },
      { firstByte: 500, outcome: 'unanswered' },
      { firstByte: 400, outcome: 'bad-answer' },
      { outcome: 'refused' },
      { firstByte: 2 },
      { firstByte: 300 },
    ]);
    expect(histogram(mixed, 'firstByte').totalCount).toBe(3);
    expect(histogram(mixed, 'firstByte', (index) => index !== 5).totalCount).toBe(2);
    expect(latencies(mixed, null, (index) => index === 0).max).toBeCloseTo(1, 2);
  });

  test('count a failed request as long as clients are patient, however soon it failed', () => {
    const some = samplesOf([
      { firstByte: 1 },
      { firstByte: 2 },
      { outcome: 'refused' },
      { outcome: 'reset', connected: 1 },
      // Not the service's fault, so nobody's.
      { outcome: 'not-sent' },
    ]);
    expect(latencies(some, 5_000).p50).toBeCloseTo(2, 2);
    expect((latencies(some, 5_000).max as number) / 5_000).toBeCloseTo(1, 3);
    expect(latencies(some, 5_000, (index) => index < 2).max).toBeCloseTo(2, 2);
    expect(latencies(some, null).max).toBeCloseTo(2, 2);
  });

  test('are null where nobody answered', () => {
    const none = samplesOf([{ outcome: 'refused' }, { outcome: 'reset', connected: 1 }]);
    expect(latencies(none, null)).toEqual({ p50: null, p99: null, p999: null, max: null });
  });

  test('of connecting leave out the requests that found their connection open', () => {
    const kept = samplesOf([
      { connected: 0.2, firstByte: 1 },
      { connected: 0, firstByte: 1 },
      { connected: 0, firstByte: 1 },
    ]);
    expect(histogram(kept, 'connected').totalCount).toBe(1);
  });

  test('of more than a minute count as a minute', () => {
    const { max } = latencies(samplesOf([{ firstByte: 100_000 }]), null);
    expect(Math.abs((max as number) / 60_000 - 1)).toBeLessThan(0.001);
  });
});

describe('histograms', () => {
  const low = histogram(samplesOf([{ firstByte: 1 }, { firstByte: 2 }]), 'firstByte');
  const high = histogram(samplesOf([{ firstByte: 50_000 }]), 'firstByte');

  test('survive being written and read', () => {
    const read = decodeHistogram(encodeHistogram(high));
    expect(percentiles(read)).toEqual(percentiles(high));
    expect(read.totalCount).toBe(1);
  });

  test('are merged without being changed, also those that were read', () => {
    const both = mergeHistograms([low, decodeHistogram(encodeHistogram(high))]);
    expect(both.totalCount).toBe(3);
    expect(percentiles(both).max).toBe(percentiles(high).max);
    expect(percentiles(both).p50).toBeCloseTo(2, 2);
    expect([low.totalCount, high.totalCount]).toEqual([2, 1]);
    expect(mergeHistograms([]).totalCount).toBe(0);
  });
});

test('every request is in exactly one of the outcomes', () => {
  const all = samplesOf(
    [...OUTCOMES, ...OUTCOMES, 'ok' as const].map((outcome) => ({ outcome, firstByte: 1 })),
  );
  const counts = outcomes(all);
  expect(counts).toEqual({
    ok: 3,
    refused: 2,
    reset: 2,
    'connect-timeout': 2,
    unanswered: 2,
    'bad-answer': 2,
    'not-sent': 2,
  });
  expect(Object.values(counts).reduce((sum, count) => sum + count)).toBe(all.count);
  expect(outcomes(all, (index) => index === 0)).toMatchObject({ ok: 1, refused: 0 });
});

test('answers are counted by the worker that gave them, most first', () => {
  const given = samplesOf(
    [
      { worker: 1 },
      { worker: 0 },
      { worker: 1 },
      { outcome: 'refused' },
      { worker: 2 },
      { worker: 1 },
      { worker: 2 },
    ],
    ['a', 'b', 'c'],
  );
  expect([...answersById(given)]).toEqual([
    ['b', 3],
    ['c', 2],
    ['a', 1],
  ]);
  expect(answersPerWorker(given)).toEqual([3, 2, 1]);
});

test('a timeline has every request in the bucket in which it was due', () => {
  const marks = [{ at: 12, what: 'something' }];
  const course = samplesOf([
    { due: 0, firstByte: 30 },
    { due: 9.99, firstByte: 1 },
    { due: 10, outcome: 'reset' },
    { due: 35, firstByte: 2 },
    { due: 36, outcome: 'unanswered', firstByte: 9 },
  ]);
  expect(timeline(course, 10, marks)).toEqual({
    step: 10,
    answered: [2, 0, 0, 1],
    failed: [0, 1, 0, 1],
    longest: [30, null, null, 2],
    marks,
  });
  expect(timeline(samplesOf([]), 10)).toEqual({ step: 10, answered: [], failed: [], longest: [], marks: [] });
});

test("the generator's lateness is that of all requests, whatever became of them", () => {
  const late = samplesOf(
    Array.from({ length: 200 }, (_, index) => ({
      begun: 200 - index,
      outcome: index === 0 ? 'refused' : 'ok',
    })),
  );
  expect(lateness(late)).toEqual({ lateP99: 198, lateMax: 200 });
  expect(lateness(samplesOf([{ begun: 3 }]))).toEqual({ lateP99: 3, lateMax: 3 });
  expect(lateness(samplesOf([]))).toEqual({ lateP99: 0, lateMax: 0 });
});
