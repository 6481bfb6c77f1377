/** What one driver gives in the rounds of one variant, made into its result. */
import type { Samples } from '../load/samples.js';
import {
  answersPerWorker,
  encodeHistogram,
  histogram,
  lateness,
  outcomes,
  timeline,
} from '../load/summary.js';
import type { DriverResult, FigureSpec, RoundResult, Timeline } from '../report/schema.js';
import { type Measured, NotOffered } from '../scenarios/scenario.js';
import { figure } from './statistics.js';

/** One turn of a driver. */
export interface Turn {
  round: number;
  /** From 0. */
  position: number;
  seed: number;
}

type Histogram = ReturnType<typeof histogram>;

/** Buckets of a timeline, about. */
const BUCKETS = 120;
/** Widths that a bucket may have, milliseconds. */
const STEPS = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

export class Collected {
  readonly #driver: string;
  readonly #specs: readonly FigureSpec[];
  #absent: DriverResult['absent'];
  #rounds: RoundResult[] = [];
  #timelines: Timeline[] = [];
  #firstByte: Histogram | null = null;
  #connect: Histogram | null = null;

  constructor(driver: string, specs: readonly FigureSpec[], absent: DriverResult['absent']) {
    this.#driver = driver;
    this.#specs = specs;
    this.#absent = absent;
  }

  get isAbsent(): boolean {
    return this.#absent !== null;
  }

  /**
   * What it gave so far is void: figures of some rounds only could not be set beside those of the others. The first reason
   * stays.
   */
  fail(error: unknown): void {
    if (this.#absent) return;
    const text = error instanceof Error ? error.message : String(error);
    this.#absent = { why: error instanceof NotOffered ? 'does-not-apply' : 'failed', text };
  }

  add({ round, position }: Turn, measured: Measured): void {
    const { samples, judged, figures, marks = [] } = measured;
    this.#checkFigures(figures);
    this.#rounds.push({
      round,
      position,
      figures,
      outcomes: samples && outcomes(samples),
      workers: samples ? answersPerWorker(samples) : [],
      generator: samples && { ...lateness(samples), busy: samples.generatorBusy },
    });
    if (!samples) return;
    this.#firstByte = merged(this.#firstByte, histogram(samples, 'firstByte', judged));
    this.#connect = merged(this.#connect, histogram(samples, 'connected', judged));
    this.#timelines.push(timeline(samples, stepFor(samples), marks));
  }

  result(): DriverResult {
    const rounds = this.#absent ? [] : this.#rounds;
    const hasLatency = rounds.length > 0;
    return {
      driver: this.#driver,
      rounds,
      absent: this.#absent,
      figures: Object.fromEntries(this.#specs.map(({ name }) => [name, figureOf(name, rounds)])),
      comparisons: {},
      firstByte: hasLatency && this.#firstByte ? encodeHistogram(this.#firstByte) : null,
      connect: hasLatency && this.#connect ? encodeHistogram(this.#connect) : null,
      timeline: hasLatency ? this.#middleTimeline() : null,
    };
  }

  /** Of the round in the middle by the first leading figure. */
  #middleTimeline(): Timeline | null {
    const leading = this.#specs.find((spec) => spec.leading);
    if (leading === undefined || this.#timelines.length === 0) return this.#timelines[0] ?? null;
    // The best first. A round without the figure is worse than any that has it, whichever way is good.
    const sign = leading.better === 'higher' ? -1 : 1;
    const badnessOf = (value: number | null | undefined) =>
      value === null || value === undefined ? Number.POSITIVE_INFINITY : sign * value;
    const order = this.#rounds
      .map(({ figures }, index) => ({ badness: badnessOf(figures[leading.name]), index }))
      .sort((a, b) => (a.badness === b.badness ? a.index - b.index : a.badness - b.badness));
    return this.#timelines[order[(order.length - 1) >> 1]?.index ?? 0] ?? null;
  }

  #checkFigures(figures: Measured['figures']): void {
    const wanted = this.#specs.map(({ name }) => name).sort();
    const given = Object.keys(figures).sort();
    if (wanted.join() === given.join()) return;
    throw new Error(`figures ${given} were measured, ${wanted} were announced`);
  }
}

function figureOf(name: string, rounds: readonly RoundResult[]): DriverResult['figures'][string] {
  const values = rounds.map(({ figures }) => figures[name] ?? null).filter((value) => value !== null);
  return values.length > 0 ? figure(values) : null;
}

function merged(sum: Histogram | null, more: Histogram): Histogram {
  sum?.add(more);
  return sum ?? more;
}

function stepFor({ due, count }: Samples): number {
  const last = due[count - 1] ?? 0;
  return STEPS.find((step) => last / step <= BUCKETS) ?? (STEPS.at(-1) as number);
}
