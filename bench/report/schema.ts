/** What a run writes with `--json` and keeps in results/; described field by field in bench/README.md. */
import type { Outcome } from '../load/samples.js';
import type { Comparison } from '../method/compare.js';
import type { Environment } from '../method/environment.js';
import type { Figure } from '../method/statistics.js';

export const SCHEMA = 'spillway-bench/1';

/** What one number of a variant means. */
export interface FigureSpec {
  /** Key in `figures`, such as "p99" or "rate". */
  name: string;
  title: string;
  /** Such as "ms", "1/s", "%", "MB", "connections", or "" for a bare number. */
  unit: string;
  /** Which way is good; null: neither is (it says what happened, and is not compared). */
  better: 'higher' | 'lower' | null;
  /** Whether it belongs into the short tables (terminal, README); the others are in the JSON and the HTML. */
  leading?: true;
}

/** Values of one service over the time of a measurement, one per bucket. */
export interface Timeline {
  /** Milliseconds per bucket; bucket i begins at i × `step` after the start of the load. */
  step: number;
  /** Requests that were due in the bucket and answered. */
  answered: number[];
  /** Requests that were due in the bucket and ended in any other way. */
  failed: number[];
  /** The longest time from due to first byte of those answered, milliseconds; null where there was none. */
  longest: (number | null)[];
  /** What happened to the service, and when (milliseconds), such as a worker that was stopped. */
  marks: { at: number; what: string }[];
}

/** What one driver gave in one round of a variant. */
export interface RoundResult {
  round: number;
  /** Its turn in the round, from 0. */
  position: number;
  /** By name of the figure; null where it could not be had (nobody answered, so there is no latency). */
  figures: Record<string, number | null>;
  /** Requests, by how they ended; null where they were not recorded one by one: wrk made them, or there were none. */
  outcomes: Record<Outcome, number> | null;
  /** Answers per worker, most first; empty where `outcomes` is null. */
  workers: number[];
  /** How late the generator itself was, milliseconds: 99th percentile and maximum; and its load, 0 to 1. Null likewise. */
  generator: { lateP99: number; lateMax: number; busy: number } | null;
}

export interface DriverResult {
  /** Name of the driver. */
  driver: string;
  /** In order of the rounds; empty when `absent` says why. */
  rounds: RoundResult[];
  /** Why there are no rounds: missing on this machine, does not apply to this variant, or failed (with what it said). */
  absent: { why: 'missing' | 'does-not-apply' | 'failed'; text: string } | null;
  /** Over the rounds, by figure; null where a round had none. */
  figures: Record<string, Figure | null>;
  /** Beside the reference driver in the same rounds, by figure with a direction. */
  comparisons: Record<string, Comparison>;
  /**
   * Time from due to first byte of all rounds together (requests the variant judges by), compressed HDR histogram in
   * base64 (hdr-histogram-js), microseconds; null where nothing was answered.
   */
  firstByte: string | null;
  /** Time from due to established, likewise. */
  connect: string | null;
  /** Of the round whose leading figure is the median. */
  timeline: Timeline | null;
}

/** Spillway beside one rival in one figure. */
export interface Verdict {
  figure: string;
  /** Driver that is not Spillway's default. */
  rival: string;
  comparison: Comparison;
}

export interface VariantResult {
  id: string;
  title: string;
  /** What makes it this variant, for example { rate: 400, workers: 4, blocker: 'spin' }. */
  settings: Record<string, string | number>;
  figures: FigureSpec[];
  drivers: DriverResult[];
  /** `spillway` beside every other driver that is not a variant of Spillway, for every figure with a direction. */
  verdicts: Verdict[];
}

export interface ScenarioResult {
  name: string;
  title: string;
  shows: string;
  cannotShow: string;
  variants: VariantResult[];
}

/** A program of the system that the benchmark itself uses in some variants. */
export interface ReportedTool {
  name: string;
  /** With its name, such as "wrk 4.1.0"; null when it is missing. */
  version: string | null;
  /** Why it is missing, and what to type to get it; null when it is there. */
  missing: string | null;
}

export interface Report {
  schema: typeof SCHEMA;
  environment: Environment;
  options: {
    quick: boolean;
    rounds: number;
    /** Seed of the arrivals: the same in every rival's turn of a round. */
    seed: number;
    /** The driver that everything is compared with. */
    reference: string;
    /** Which processors the generator and the services had, for placement "apart" and "over". */
    processors: { generator: number; apart: number[]; over: number[] };
  };
  drivers: { name: string; title: string; about: string; version: string | null; missing: string | null }[];
  tools: ReportedTool[];
  scenarios: ScenarioResult[];
  /** Seconds the whole run took. */
  took: number;
}
