/** What a scenario is, and what it may do with the service that it measures. */
import type { Driver } from '../drivers/driver.js';
import type { LoadOrder } from '../load/order.js';
import type { Samples } from '../load/samples.js';
import type { WrkOrder } from '../load/wrk.js';
import type { Tool } from '../method/tools.js';
import type { FigureSpec, Timeline } from '../report/schema.js';
import type { Blocker } from '../service/blocking.js';

/** How thoroughly: `quick` shows that it works, `full` is what is told to others. */
export type Scale = 'quick' | 'full';

/**
 * Who gets which processor. `apart`: the generator has the last one for itself, the service all others; for
 * saturation, where a shared processor would be what is measured. `over`: the generator is bound to the last one and
 * preempts everything there, the service has all of them; for latency at rates that leave the generator nearly idle.
 */
export type Placement = 'apart' | 'over';

/** A worker of the service that is measured, as its connection to the benchmark's desk tells it. */
export interface Worker {
  /** As in its answers: the process's id, and for a thread ".N" behind it. */
  readonly id: string;
  readonly pid: number;
  /** Whether it is a thread beside others in its process: it cannot be stopped or killed by itself then. */
  readonly thread: boolean;
  /** Makes its event loop stand still for that long, now. */
  block(how: Blocker, milliseconds: number): void;
  /** From now on every request takes `milliseconds` of its event loop, during which it sleeps. */
  serveIn(milliseconds: number): void;
}

export interface ServiceWishes {
  /** What one request takes of a worker's event loop, milliseconds, during which it sleeps; 0 (default): what it costs. */
  serviceTime?: number;
  /** As in listen(2); default 511, Node's. */
  backlog?: number;
  /** Default `http`; `tcp` is the line protocol of service/program.mjs. */
  protocol?: 'http' | 'tcp';
}

/** The running service, and what can be done to it. */
export interface Target {
  /** The workers that listen now. */
  workers(): Worker[];
  /** Resolves when `count` workers listen; rejects after `milliseconds` (default 20,000). */
  untilListening(count: number, milliseconds?: number): Promise<void>;
  /** As Service.reload of the driver. */
  readonly reload: (() => Promise<void>) | null;
  /** Processor time the whole service has used so far, milliseconds; of processes that ended, too, where it can be told. */
  processorTime(): number;
  /** As processorTime(), to the nanosecond and only of processes that run now: for services at rest. */
  runTime(): number;
  /** Proportional share (PSS) of memory now, in bytes, of the processes with a worker and of all others. */
  memory(): { workers: number; others: number };
  /** Open descriptors of all processes of the service. */
  descriptors(): number;
  /** Milliseconds from the start of the driver to the first answer to a client. */
  readonly firstAnswer: number;
  /** `onStart`: hears when the load's time begins, in milliseconds of process.hrtime()'s clock. */
  load(order: LoadWishes, onStart?: (startedAt: number) => void): Promise<Samples>;
  /** For a run of wrk: its `url`, `cpu` and `signal`. */
  readonly wrk: Pick<WrkOrder, 'url' | 'cpu' | 'signal'>;
}

/** Thrown by `measure` when the driver has no such thing: the report says so, and does not call it a failure. */
export class NotOffered extends Error {}

/** A load order without what the runner decides (where to, from where, on which processor). */
export type LoadWishes = Pick<LoadOrder, 'work' | 'requests' | 'timeout'>;

/** One measurement: a driver's turn in a round of a variant. */
export interface Cell {
  readonly driver: Driver;
  readonly round: number;
  readonly scale: Scale;
  /** The same for every driver of the round. */
  readonly seed: number;
  /**
   * Connections per second that the reference driver takes when the service is as this variant wishes it, measured
   * once per run; only for variants with `needsCapacity`.
   */
  readonly capacity: number;
  /** Started, warmed up and idle. */
  readonly target: Target;
}

/** What a scenario found out in its turn; the runner adds outcomes and the rest from the samples. */
export interface Measured {
  figures: Record<string, number | null>;
  /** What outcomes, workers, histograms and timeline are made of; null where another generator was used (wrk). */
  samples: Samples | null;
  /** Whether the request is one of those that the latencies are about; default: all. */
  judged?: (index: number) => boolean;
  marks?: Timeline['marks'];
}

export interface Variant {
  /** Unique in the scenario, lower case: "spin-400". */
  id: string;
  title: string;
  settings: Record<string, string | number>;
  workers: number;
  placement: Placement;
  /** Milliseconds between client and server, there and back; 0 or absent: loopback. */
  roundTrip?: number;
  service?: ServiceWishes;
  /**
   * Whether processor time is what is measured: the service is warmed up until its code is compiled, which takes
   * seconds. Elsewhere it has answered some hundreds of requests when it begins.
   */
  saturates?: true;
  needsCapacity?: true;
  /**
   * A closer look at what another variant shows: measured with the core drivers only, unless drivers are asked for by
   * name. A run of everything with everybody would take a day otherwise.
   */
  closer?: true;
  /** Without it the variant is missing for everybody. */
  tool?: Tool;
  figures: readonly FigureSpec[];
  /** Why this driver cannot be measured here, in words; null: it can. */
  excludes?(driver: Driver): string | null;
  measure(cell: Cell): Promise<Measured>;
}

/**
 * A variant without services: everything happens in the benchmark's own process, all drivers it is about take their
 * turns within one call, and what they give is figures alone.
 */
export interface BareVariant {
  id: string;
  title: string;
  settings: Record<string, string | number>;
  figures: readonly FigureSpec[];
  /** By name of the driver. */
  measureAll(round: number, scale: Scale): Promise<Record<string, Record<string, number | null>>>;
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** What a reader learns, and what not, in a sentence or two each; printed in the report and in bench/README.md. */
  readonly shows: string;
  readonly cannotShow: string;
  /** Part of a run without --scenario, and of --quick. */
  readonly core: boolean;
  variants(scale: Scale): (Variant | BareVariant)[];
}
