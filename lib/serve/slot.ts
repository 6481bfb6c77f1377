/**
 * Who works at one slot: at most one worker that serves, at most one successor that is starting, and those that finish what
 * they have. Starts them, starts them again, and ends them.
 */
import { EventEmitter } from 'node:events';
import { SpillwayError } from '../errors.js';
import type { Timing } from './options.js';
import type { DrainReason } from './protocol.js';
import { afterEnd } from './restarts.js';
import type { Patience, WorkerProcess } from './worker-process.js';

export interface SlotEvents {
  /** A process has been started; it is `next` until it is ready. */
  start: [worker: WorkerProcess];
  /** It is ready, and serves. */
  ready: [worker: WorkerProcess];
  drain: [worker: WorkerProcess, reason: DrainReason];
  /** A process has gone. `expected`: it had been told to. */
  exit: [worker: WorkerProcess, expected: boolean, reason: string];
  /** The worker that served, or was to, has gone, and another follows after so many milliseconds. */
  restart: [restart: { delay: number; failures: number; reason: string }];
  /** No other follows. */
  failed: [error: SpillwayError];
  /** A process that was told to end does not. */
  immortal: [error: SpillwayError];
}

export interface SlotSnapshot {
  number: number;
  restarts: number;
  failures: number;
  lastReason: string | null;
}

/** How a worker is started; what it throws counts as a failed start. */
export type Spawn = (slot: number) => Promise<WorkerProcess>;

/** What a slot is to follow: the master's timing, and whether its workers are started again. */
export interface SlotRules {
  timing: Timing;
  autoRestart: boolean;
}

export class Slot extends EventEmitter<SlotEvents> {
  readonly number: number;
  readonly #spawn: Spawn;
  readonly #rules: () => SlotRules;
  readonly #commit: () => void;
  #current: WorkerProcess | undefined;
  #next: WorkerProcess | undefined;
  readonly #leaving = new Set<WorkerProcess>();
  /** Those that have been told to end. */
  readonly #told = new WeakSet<WorkerProcess>();
  #failures = 0;
  /** How often a worker has been started again by itself. */
  restarts = 0;
  /** Why the last one that served has gone. */
  lastReason: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Counts what has been begun here: only the last of it goes on. */
  #attempt = 0;
  #failed: SpillwayError | undefined;
  #retired = false;

  /**
   * @param commit is called when a worker has been started, and before one is told to end, when it and whoever takes its
   *   place have their roles: a master that is killed in between leaves behind what the next one is to go on with.
   */
  constructor(number: number, spawn: Spawn, rules: () => SlotRules, commit: () => void = () => {}) {
    super();
    this.number = number;
    this.#spawn = spawn;
    this.#rules = rules;
    this.#commit = commit;
  }

  /** Living processes: who serves first, then the successor, then those that end. */
  get workers(): readonly WorkerProcess[] {
    return [this.#current, this.#next, ...this.#leaving].filter((worker) => worker !== undefined);
  }

  /** Who serves. */
  get current(): WorkerProcess | undefined {
    return this.#current;
  }

  /** Why nobody will come any more. */
  get failed(): SpillwayError | undefined {
    return this.#failed;
  }

  /** Whether its next worker is waited for. */
  get isRestarting(): boolean {
    return this.#timer !== undefined;
  }

  /** Whether somebody works here, or is going to without being told. */
  get isStaffed(): boolean {
    return this.#current !== undefined || this.#next !== undefined || this.#timer !== undefined;
  }

  /**
   * Starts a worker beside the one there may be. Fulfilled when it is ready; it takes nobody's place before
   * {@link promote}.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER`; the process is gone then.
   */
  async prepare(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const attempt = ++this.#attempt;
    // One that is on its way already was started for what no longer holds.
    await this.withdraw();
    this.#assertLast(attempt);
    const worker = await this.#spawn(this.number);
    worker.on('exit', () => this.#lost(worker));
    if (this.#retired || attempt !== this.#attempt) await this.#end(worker, 'stop', { drain: 0, kill: 0 });
    this.#assertLast(attempt);
    this.#failed = undefined;
    this.#next = worker;
    this.#commit();
    this.emit('start', worker);
    await this.#readiness(worker, attempt);
  }

  /**
   * A worker that another master has started: it serves, or finishes what it has. A successor of before is not wanted any
   * more.
   */
  adopt(worker: WorkerProcess, role: 'current' | 'next' | 'leaving'): void {
    worker.on('exit', () => this.#lost(worker));
    if (role === 'current') this.#current = worker;
    else
      this.#end(worker, 'replace', this.#patience).catch((error: SpillwayError) =>
        this.emit('immortal', error),
      );
  }

  /** What has to be known of it, besides its workers, to go on with it. Plain data. */
  snapshot(): SlotSnapshot {
    const { number, restarts, lastReason } = this;
    return { number, restarts, failures: this.#failures, lastReason: lastReason ?? null };
  }

  goOn({ restarts, failures, lastReason }: SlotSnapshot): void {
    this.restarts = restarts;
    this.#failures = failures;
    this.lastReason = lastReason ?? undefined;
  }

  /** In which role a worker is here; undefined: it is not. */
  roleOf(worker: WorkerProcess): 'current' | 'next' | 'leaving' | undefined {
    if (worker === this.#current) return 'current';
    if (worker === this.#next) return 'next';
    return this.#leaving.has(worker) ? 'leaving' : undefined;
  }

  /** Whether a successor is ready to take over. */
  get isPrepared(): boolean {
    return this.#next?.isReady === true;
  }

  /** What failed in a row counts no more: somebody has asked for a new worker. */
  forgive(): void {
    this.#failures = 0;
  }

  /** The successor, which is ready, takes over, and the one before drains. */
  promote(reason: DrainReason): void {
    if (!this.isPrepared) throw new Error(`slot ${this.number} has no successor`);
    const before = this.#current;
    this.#current = this.#next;
    this.#next = undefined;
    if (before) this.#leaving.add(before);
    try {
      if (this.#current) this.emit('ready', this.#current);
    } finally {
      // Nobody else knows of it any more, whatever a listener of the event throws.
      if (before)
        this.#end(before, reason, this.#patience).catch((error: SpillwayError) =>
          this.emit('immortal', error),
        );
    }
  }

  /** Starts a worker where there is none: prepare and promote. */
  async start(): Promise<void> {
    await this.prepare();
    this.promote('replace');
  }

  /** Takes the successor back; who serves goes on. */
  async withdraw(): Promise<void> {
    const next = this.#next;
    if (next) await this.#end(next, 'reload', this.#patience);
  }

  /**
   * Ends whoever is here. Nobody follows before the next {@link prepare}.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` for one that cannot be ended.
   */
  async empty(reason: DrainReason, patience: Patience = this.#patience): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#attempt++;
    const ends = this.workers.map((worker) => this.#end(worker, reason, patience));
    const failed = (await Promise.allSettled(ends)).find(({ status }) => status === 'rejected');
    if (failed) throw (failed as PromiseRejectedResult).reason;
  }

  /** As {@link empty}, for good. */
  retire(reason: DrainReason, patience: Patience = this.#patience): Promise<void> {
    this.#retired = true;
    return this.empty(reason, patience);
  }

  /** Kills those that have been told to end, and any other. */
  hurry(): void {
    for (const worker of this.workers) worker.hurryAway();
  }

  get #patience(): Patience {
    const { drainTimeout, killTimeout } = this.#rules().timing;
    return { drain: drainTimeout, kill: killTimeout };
  }

  /** Fulfilled when it is ready; otherwise it is ended, and the promise rejected when it is gone. */
  async #readiness(worker: WorkerProcess, attempt: number): Promise<void> {
    const { startTimeout } = this.#rules().timing;
    const isReady = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(settle, startTimeout, false);
      const ready = () => settle(true);
      const gone = () => settle(false);
      function settle(result: boolean): void {
        clearTimeout(timer);
        worker.off('ready', ready).off('exit', gone);
        resolve(result);
      }
      worker.on('ready', ready).on('exit', gone);
      if (worker.isReady) settle(true);
      else if (worker.state === 'exited') settle(false);
    });
    if (isReady && this.#next === worker) return;
    // What it was doing at this moment is the reason, and not that it is ended for it.
    const error = worker.whyNotReady();
    this.#next = this.#next === worker ? undefined : this.#next;
    if (worker.state !== 'exited') await this.#end(worker, 'replace', this.#patience);
    this.#assertLast(attempt);
    throw error;
  }

  async #end(worker: WorkerProcess, reason: DrainReason, patience: Patience): Promise<void> {
    if (this.#current === worker) this.#current = undefined;
    if (this.#next === worker) this.#next = undefined;
    if (worker.state === 'exited') return;
    this.#leaving.add(worker);
    const first = !this.#told.has(worker);
    this.#told.add(worker);
    if (first) this.#commit();
    const ended = worker.end(reason, patience);
    if (first) this.emit('drain', worker, reason);
    await ended;
  }

  #lost(worker: WorkerProcess): void {
    this.#leaving.delete(worker);
    const expected = this.#told.has(worker);
    const wasCurrent = this.#current === worker;
    if (wasCurrent) this.#current = undefined;
    // It was ready, and waits for the others to be.
    if (this.#next === worker) this.#next = undefined;
    const reason = worker.howEnded();
    if (wasCurrent) this.lastReason = reason;
    this.emit('exit', worker, expected, reason);
    // A successor's failure is told to whoever prepares it.
    if (wasCurrent && !this.#next && !this.#retired) this.#follow(worker, reason);
  }

  /** Somebody has to follow the one that has gone. */
  #follow(worker: WorkerProcess, reason: string): void {
    const uptime = worker.readyAt === undefined ? undefined : performance.now() - worker.readyAt;
    const text = `worker ${this.number} (process ${worker.pid}) ${reason}`;
    this.#again(uptime, new SpillwayError('ERR_SPILLWAY_WORKER', text));
  }

  #again(uptime: number | undefined, error: SpillwayError): void {
    const { timing, autoRestart } = this.#rules();
    const verdict = afterEnd(this.#failures, uptime, timing);
    this.#failures = verdict.failures;
    if (!autoRestart || 'giveUp' in verdict) {
      this.#failed = error;
      this.emit('failed', error);
      return;
    }
    const { delay, failures } = verdict;
    this.emit('restart', { delay, failures, reason: error.message });
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.restarts++;
      const started = this.start();
      const attempt = this.#attempt;
      started.catch((failure: SpillwayError) => {
        if (attempt === this.#attempt) this.notStarted(failure);
      });
    }, delay);
  }

  #assertLast(attempt: number): void {
    if (!this.#retired && attempt === this.#attempt) return;
    throw new SpillwayError(
      'ERR_SPILLWAY_CLOSED',
      `the worker of slot ${this.number} is not wanted any more`,
    );
  }

  /** A start that was to be tried again has failed. */
  notStarted(error: SpillwayError): void {
    this.lastReason = error.message;
    if (!this.#retired && !this.#current && !this.#next) this.#again(undefined, error);
  }
}
