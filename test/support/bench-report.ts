/** Reports of the benchmark that nobody measured: as small as a test wants them, and right in themselves. */
import { build, encodeIntoCompressedBase64 } from 'hdr-histogram-js';
import { OUTCOMES, type Outcome } from '../../bench/load/samples.js';
import { figure } from '../../bench/method/statistics.js';
import { besideReference, verdictsOn } from '../../bench/method/verdicts.js';
import {
  type DriverResult,
  type FigureSpec,
  type Report,
  type RoundResult,
  SCHEMA,
  type ScenarioResult,
  type Timeline,
  type VariantResult,
} from '../../bench/report/schema.js';

export const P99: FigureSpec = { name: 'p99', title: 'p99', unit: 'ms', better: 'lower', leading: true };
export const RATE: FigureSpec = { name: 'rate', title: 'rate', unit: '1/s', better: 'higher', leading: true };
export const FAILED: FigureSpec = { name: 'failed', title: 'failed', unit: 'requests', better: 'lower' };

export const REFERENCE = 'reuseport';
const TOOL = 'wrk';

/** What a driver gave: by figure, a value per round; or why it gave nothing. */
export type Given =
  | {
      values: Record<string, (number | null)[]>;
      /** Milliseconds from due to first byte, of all rounds. */
      latencies?: readonly number[];
      /** Answers per worker in every round, most first. */
      workers?: number[];
      timeline?: Timeline;
      /** Null: neither they nor the generator's state were recorded. */
      outcomes?: Partial<Record<Outcome, number>> | null;
    }
  | { absent: NonNullable<DriverResult['absent']> };

export interface GivenVariant {
  id: string;
  title?: string;
  settings?: VariantResult['settings'];
  figures?: FigureSpec[];
  drivers: Record<string, Given>;
}

/** The same latency in each of five rounds. */
export const steady = (value: number): Given => ({ values: { p99: [value, value, value, value, value] } });
export const absent = (text: string): Given => ({ absent: { why: 'failed', text } });

export function madeVariant({ id, title, settings, figures = [P99], drivers }: GivenVariant): VariantResult {
  const bare = Object.entries(drivers).map(([name, given]) => madeResult(name, given, figures));
  const reference = bare.find(({ driver }) => driver === REFERENCE);
  return {
    id,
    title: title ?? `the variant ${id}`,
    settings: settings ?? { workers: 4 },
    figures,
    drivers: reference ? bare.map((result) => besideReference(result, figures, reference)) : bare,
    verdicts: verdictsOn(figures, bare),
  };
}

function madeResult(driver: string, given: Given, figures: readonly FigureSpec[]): DriverResult {
  const nothing = { comparisons: {}, firstByte: null, connect: null, timeline: null };
  if ('absent' in given) {
    return {
      driver,
      rounds: [],
      absent: given.absent,
      figures: Object.fromEntries(figures.map(({ name }) => [name, null])),
      ...nothing,
    };
  }
  const { values, latencies, workers = [], timeline = null, outcomes = {} } = given;
  const rounds = Math.max(...Object.values(values).map(({ length }) => length));
  return {
    ...nothing,
    driver,
    rounds: Array.from({ length: rounds }, (_, round) => madeRound(round, values, workers, outcomes)),
    absent: null,
    figures: Object.fromEntries(
      figures.map(({ name }) => {
        const there = (values[name] ?? []).filter((value) => value !== null);
        return [name, there.length > 0 ? figure(there) : null];
      }),
    ),
    firstByte: latencies ? histogramOf(latencies) : null,
    connect: latencies ? histogramOf(latencies.map((value) => value / 10)) : null,
    timeline,
  };
}

function madeRound(
  round: number,
  values: Record<string, (number | null)[]>,
  workers: number[],
  outcomes: Partial<Record<Outcome, number>> | null,
): RoundResult {
  return {
    round,
    position: 0,
    figures: Object.fromEntries(Object.entries(values).map(([name, all]) => [name, all[round] ?? null])),
    outcomes:
      outcomes &&
      (Object.fromEntries(OUTCOMES.map((outcome) => [outcome, outcomes[outcome] ?? 0])) as Record<
        Outcome,
        number
      >),
    workers,
    generator: outcomes && { lateP99: 0.05, lateMax: 0.4, busy: 0.2 },
  };
}

export function histogramOf(milliseconds: readonly number[]): string {
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 60_000_000,
    numberOfSignificantValueDigits: 3,
  });
  for (const value of milliseconds) histogram.recordValue(Math.round(value * 1000));
  return encodeIntoCompressedBase64(histogram);
}

export function madeScenario(name: string, ...variants: GivenVariant[]): ScenarioResult {
  return {
    name,
    title: `the scenario ${name}`,
    shows: `what ${name} shows`,
    cannotShow: `what ${name} cannot show`,
    variants: variants.map(madeVariant),
  };
}

export const TITLES: Record<string, string> = {
  spillway: 'Spillway',
  'spillway:hash': 'Spillway, hash',
  reuseport: 'plain SO_REUSEPORT',
  pm2: 'pm2',
  nginx: 'nginx',
};

/** All drivers of the scenarios are there, and wrk; those in `missing`, by name, are not, and why. */
export function madeReport(
  scenarios: ScenarioResult[],
  { rounds = 5, missing = {} as Record<string, string>, quick = false, load = 0.12 } = {},
): Report {
  const used = scenarios.flatMap(({ variants }) => variants.flatMap(({ drivers }) => drivers));
  const { [TOOL]: noTool = null, ...noDriver } = missing;
  const names = [...new Set([...used.map(({ driver }) => driver), ...Object.keys(noDriver)])];
  return {
    schema: SCHEMA,
    environment: {
      date: '2026-03-04T05:06:07.000Z',
      kernel: '6.18.1',
      arch: 'x64',
      cpu: { model: 'Test CPU', count: 2 },
      virtual: true,
      spectreV2: 'Mitigation: Retpolines',
      bpfJit: '1',
      node: 'v20.20.0',
      load,
      git: { revision: '0123456789abcdef', changed: false },
    },
    options: {
      quick,
      rounds,
      seed: 7,
      reference: REFERENCE,
      processors: { generator: 1, apart: [0], over: [0, 1] },
    },
    drivers: names.map((name) => ({
      name,
      title: TITLES[name] ?? name,
      about: `how ${name} works`,
      version: missing[name] === undefined ? '1.2.3' : null,
      missing: missing[name] ?? null,
    })),
    tools: [{ name: TOOL, version: noTool === null ? 'wrk 4.1.0' : null, missing: noTool }],
    scenarios,
    took: 90,
  };
}

/**
 * Something of everything: in `stall`, Spillway wins a figure, ties one and loses one; pm2 is missing, nginx failed with
 * words that would end a script, and `rate` is one in which nobody got an answer from Spillway.
 */
export function telling(): Report {
  const stall = madeScenario(
    'stall',
    {
      id: 'spin-400',
      title: '400 a second, spinning',
      settings: { rate: 400, workers: 4 },
      figures: [P99, FAILED],
      drivers: {
        spillway: {
          values: { p99: [10, 11, 10, 9, 10], failed: [7, 9, 8, 8, 8] },
          latencies: Array.from({ length: 1_000 }, (_, i) => 1 + i / 100),
          workers: [60, 40],
          outcomes: { ok: 100, reset: 8 },
          timeline: {
            step: 100,
            answered: [40, 41],
            failed: [0, 8],
            longest: [3, null],
            marks: [{ at: 150, what: 'a worker is stopped' }],
          },
        },
        'spillway:hash': { values: { p99: [12, 12, 13, 12, 12], failed: [1, 0, 1, 2, 1] } },
        reuseport: { values: { p99: [40, 45, 40, 35, 40], failed: [0, 0, 0, 0, 0] }, workers: [70, 30] },
        haproxy: { values: { p99: [9, 12, 10, 10, 9], failed: [8, 8, 9, 7, 8] } },
        pm2: { absent: { why: 'missing', text: 'type npm ci' } },
        nginx: { absent: { why: 'failed', text: FAILURE } },
      },
    },
    {
      id: 'spin-800',
      title: '800 a second, spinning',
      settings: { rate: 800, workers: 4 },
      figures: [P99, FAILED],
      drivers: {
        spillway: { values: { p99: [20, 22, 20, 18, 20], failed: [0, 0, 0, 0, 0] } },
        reuseport: { values: { p99: [10, 11, 10, 9, 10], failed: [0, 0, 0, 0, 0] } },
        haproxy: { absent: { why: 'does-not-apply', text: 'not at this rate' } },
      },
    },
  );
  const rate = madeScenario('rate', {
    id: 'http',
    title: 'as fast as it goes',
    figures: [RATE, P99],
    drivers: {
      spillway: {
        values: { rate: [12_000, 12_500, 12_400, 12_300, 12_345], p99: [null, null, null, null, null] },
      },
      reuseport: { values: { rate: [12_100, 12_400, 12_300, 12_500, 12_200], p99: [5, 5, 5, 5, 5] } },
    },
  });
  return madeReport([stall, rate], { missing: { pm2: 'type npm ci' } });
}

/** What a failed driver said. */
export const FAILURE = 'said </script><script>alert("|")</script>\n& <!-- ended with code 1';

/** Makes the generator too busy in one turn: that of the reference in the first variant. */
export function limitGenerator({ scenarios }: Report): void {
  const drivers = scenarios[0]?.variants[0]?.drivers;
  const turn = drivers?.find(({ driver }) => driver === REFERENCE)?.rounds[2];
  if (!turn?.generator) throw new Error('a turn of the reference is needed');
  turn.generator.busy = 0.97;
}
