/** What the page's script draws from: the results, reduced to what can be seen. The script's half is page/*.js. */
import { OUTCOMES } from '../../load/samples.js';
import type { Comparison } from '../../method/compare.js';
import { isOurs } from '../../method/verdicts.js';
import { titleOf } from '../losses.js';
import type { DriverResult, Report, RoundResult, Timeline, VariantResult } from '../schema.js';
import { curveOf, GRID, significant, threeDigits } from './curves.js';

export interface PageData {
  /** Where the points of the curves lie, see curves.ts. */
  grid: readonly number[];
  outcomes: readonly string[];
  /** By name of the driver. */
  drivers: Record<string, { title: string; own: boolean; reference: boolean; look: number }>;
  /** By key of the variant, see {@link variantKey}. */
  variants: Record<string, VariantData>;
}

interface VariantData {
  figures: { title: string; unit: string; better: 'higher' | 'lower' | null }[];
  /** Only those that were measured. */
  drivers: DriverData[];
}

interface DriverData {
  name: string;
  /** By figure, in every round. */
  samples: (number | null)[][];
  /** A letter per figure: Spillway beside this one: w(in), l(oss), t(ie), u(nknown), "-" nothing to say. */
  verdicts: string;
  /** As `outcomes`, over all rounds; null where they were not recorded. */
  outcomes: number[] | null;
  /** Share of the answers by rank of the worker, 0 to 1, mean of the rounds. */
  workers: number[];
  /** Of the worst round: late at the 99th percentile and at most, milliseconds; busy, 0 to 1. Null likewise. */
  generator: [lateP99: number, lateMax: number, busy: number] | null;
  firstByte: number[] | null;
  connect: number[] | null;
  timeline: TimelineData | null;
}

interface TimelineData {
  step: number;
  /** 0 stands for a list of nothing but zeros. */
  answered: number[] | 0;
  failed: number[] | 0;
  longest: (number | null)[];
  marks: Timeline['marks'];
}

/** Unique in a page, whatever the reports contain. */
export function variantKey(report: number, scenario: number, variant: number): string {
  return `${report}-${scenario}-${variant}`;
}

export function pageData(reports: readonly Report[]): PageData {
  const variants: PageData['variants'] = {};
  const buckets = plainBuckets(reports);
  for (const [r, report] of reports.entries()) {
    for (const [s, scenario] of report.scenarios.entries()) {
      for (const [v, variant] of scenario.variants.entries())
        variants[variantKey(r, s, v)] = variantData(variant, buckets);
    }
  }
  return { grid: GRID, outcomes: OUTCOMES, drivers: looks(reports), variants };
}

/**
 * Every driver looks the same in all charts of the page: Spillway and its variants have the accent colour and differ in
 * their dashes, the reference has the first of the other looks.
 */
function looks(reports: readonly Report[]): PageData['drivers'] {
  const drivers: PageData['drivers'] = {};
  const next = { own: 0, other: 0 };
  const add = (report: Report, name: string) => {
    if (Object.hasOwn(drivers, name)) return;
    const own = isOurs(name);
    const reference = name === report.options.reference;
    drivers[name] = { title: titleOf(report, name), own, reference, look: own ? next.own++ : next.other++ };
  };
  for (const report of reports) add(report, report.options.reference);
  for (const report of reports) {
    const used = report.scenarios.flatMap(({ variants }) => variants.flatMap(({ drivers: all }) => all));
    for (const name of [...report.drivers.map((each) => each.name), ...used.map(({ driver }) => driver)]) {
      add(report, name);
    }
  }
  return drivers;
}

function variantData(variant: VariantResult, buckets: number): VariantData {
  return {
    figures: variant.figures.map(({ title, unit, better }) => ({ title, unit, better })),
    drivers: variant.drivers
      .filter(({ rounds }) => rounds.length > 0)
      .map((result) => driverData(variant, result, buckets)),
  };
}

function driverData(variant: VariantResult, result: DriverResult, buckets: number): DriverData {
  const { driver, rounds, timeline } = result;
  return {
    name: driver,
    samples: variant.figures.map(({ name }) =>
      rounds.map(({ figures }) => {
        const value = figures[name] ?? null;
        return value === null ? null : threeDigits(value);
      }),
    ),
    verdicts: variant.figures.map(({ name }) => verdictLetter(variant, driver, name)).join(''),
    outcomes: outcomesOf(rounds),
    workers: sharesByRank(rounds),
    generator: generatorOf(rounds),
    firstByte: curveOf(result.firstByte),
    connect: curveOf(result.connect),
    timeline: timeline && timelineData(timeline, buckets),
  };
}

function outcomesOf(rounds: readonly RoundResult[]): DriverData['outcomes'] {
  const recorded = rounds.flatMap(({ outcomes }) => outcomes ?? []);
  if (recorded.length === 0) return null;
  return OUTCOMES.map((outcome) => recorded.reduce((sum, counts) => sum + counts[outcome], 0));
}

function generatorOf(rounds: readonly RoundResult[]): DriverData['generator'] {
  const recorded = rounds.flatMap(({ generator }) => generator ?? []);
  if (recorded.length === 0) return null;
  const worst = (name: keyof (typeof recorded)[number]) =>
    threeDigits(Math.max(...recorded.map((generator) => generator[name])));
  return [worst('lateP99'), worst('lateMax'), worst('busy')];
}

const LETTERS: Record<Comparison['verdict'], string> = { win: 'w', loss: 'l', tie: 't', unknown: 'u' };

function verdictLetter({ verdicts }: VariantResult, driver: string, name: string): string {
  const found = verdicts.find(({ figure, rival }) => figure === name && rival === driver);
  return found ? LETTERS[found.comparison.verdict] : '-';
}

/** A worker that answered nobody in a round has no entry there, and counts as a share of 0. */
function sharesByRank(rounds: readonly RoundResult[]): number[] {
  const ranks = Math.max(0, ...rounds.map(({ workers }) => workers.length));
  const totals = rounds.map(({ workers }) => workers.reduce((sum, answers) => sum + answers, 0));
  return Array.from({ length: ranks }, (_, rank) => {
    const shares = rounds.map(({ workers }, round) => (workers[rank] ?? 0) / (totals[round] || 1));
    return threeDigits(shares.reduce((sum, share) => sum + share, 0) / rounds.length);
  });
}

/** A page of more timelines than that draws them in few buckets, unless something happened at a certain moment of them. */
const MANY_TIMELINES = 200;
const FEW_BUCKETS = 40;

function plainBuckets(reports: readonly Report[]): number {
  const results = reports.flatMap(({ scenarios }) =>
    scenarios.flatMap(({ variants }) => variants.flatMap(({ drivers }) => drivers)),
  );
  const timelines = results.filter(({ timeline }) => timeline !== null).length;
  return timelines > MANY_TIMELINES ? FEW_BUCKETS : Number.POSITIVE_INFINITY;
}

function timelineData({ step, answered, failed, longest, marks }: Timeline, buckets: number): TimelineData {
  const by = marks.length > 0 ? 1 : Math.ceil(answered.length / buckets) || 1;
  const sums = (values: readonly number[]) => {
    const all = inGroups(values, by).map((group) => group.reduce((sum, value) => sum + value, 0));
    return all.some((value) => value !== 0) ? all : 0;
  };
  return {
    step: step * by,
    answered: sums(answered),
    failed: sums(failed),
    longest: inGroups(longest, by).map((group) => {
      const values = group.filter((value) => value !== null);
      return values.length > 0 ? significant(Math.max(...values), 2) : null;
    }),
    marks,
  };
}

function inGroups<T>(values: readonly T[], by: number): T[][] {
  return Array.from({ length: Math.ceil(values.length / by) }, (_, i) => values.slice(i * by, (i + 1) * by));
}
