/** Sees workers that are alive and do not react: a stuck event loop, or a process that was stopped. */
import { readFileSync } from 'node:fs';
import type { WorkerProcess } from './worker-process.js';

/** Milliseconds between looks at where the event loops are: reads of shared memory, no system call. */
const LOOK_EVERY = 50;

/** Milliseconds between looks while no event loop turns: a service that has nothing to do shall cost nothing. */
const LOOK_AT_REST = 1000;

/** Looks in a row without a turn after which a service is at rest. */
const QUIET_LOOKS = 20;

/** Milliseconds between looks at whether a process is stopped: one read of /proc for each. */
const PROC_EVERY = 500;

/** What one look at a worker sees. */
export interface Look {
  /** Where its event loop is, and since when (CLOCK_MONOTONIC, milliseconds); undefined for programs without it. */
  loop: { state: 'silent' | 'waiting' | 'running'; since: number } | undefined;
  /** Since when the process has been seen stopped by a signal; undefined: it is not. */
  stoppedSince: number | undefined;
  /** Since when it is ready. What began before that was part of its start. */
  readySince: number;
  now: number;
}

/**
 * For how many milliseconds it has not reacted. A loop that waits for something to happen does, one that has not turned yet
 * is still loading its program. Pure.
 */
export function unresponsiveFor({ loop, stoppedSince, readySince, now }: Look): number {
  const running = loop?.state === 'running' ? now - Math.max(loop.since, readySince) : 0;
  const stopped = stoppedSince === undefined ? 0 : now - stoppedSince;
  return Math.max(0, running, stopped);
}

export interface HealthOptions {
  /** Milliseconds; `hangTimeout` 0: never. */
  stuckAfter: number;
  hangTimeout: number;
  /** Who is watched, at this moment: those that are ready, also those that finish what they have. */
  workers: () => Iterable<WorkerProcess>;
  /** Whether connections wait at a worker's listeners: a stopped process is then looked for at every look. */
  hasQueue: (worker: WorkerProcess) => boolean;
  /** It is stuck, or no more. */
  changed: (worker: WorkerProcess, stuck: boolean, why: string) => void;
  /** It has been stuck for the hang's time. Called once for each worker. */
  hung: (worker: WorkerProcess, why: string) => void;
}

export class Health {
  readonly #options: HealthOptions;
  #timer: NodeJS.Timeout;
  /** Milliseconds until the next look. */
  #pause: number;
  /** Looks in a row without a turn. */
  #quiet = 0;
  readonly #lastTurn = new WeakMap<WorkerProcess, number>();
  readonly #stoppedSince = new WeakMap<WorkerProcess, number>();
  readonly #hung = new WeakSet<WorkerProcess>();
  #lastLook = monotonic();
  #lastProc = 0;
  #closed = false;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#pause = this.#whileActive;
    this.#timer = this.#lookLater();
  }

  get #whileActive(): number {
    return Math.min(LOOK_EVERY, Math.max(1, this.#options.stuckAfter / 2));
  }

  #lookLater(): NodeJS.Timeout {
    return setTimeout(() => {
      try {
        this.#look();
      } finally {
        // Who is told may throw, in a process that goes on all the same.
        if (!this.#closed) this.#timer = this.#lookLater();
      }
    }, this.#pause).unref();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    const now = monotonic();
    // When this process itself was late, or the machine was, the workers have had no chance to be better.
    const late = now - this.#lastLook - this.#pause > this.#options.stuckAfter / 2;
    this.#lastLook = now;
    this.#pause = this.#whileActive;
    if (late) return;
    const proc = now - this.#lastProc >= PROC_EVERY;
    if (proc) this.#lastProc = now;
    let rest = true;
    for (const worker of this.#options.workers()) {
      // Its page is gone with it.
      if (worker.state === 'exited') continue;
      this.#judge(worker, now, proc);
      rest &&= this.#rests(worker);
    }
    this.#quiet = rest ? this.#quiet + 1 : 0;
    if (this.#quiet > QUIET_LOOKS) this.#pause = LOOK_AT_REST;
  }

  /** Whether its loop has done nothing but wait since the last look. A program without one is not known to do anything. */
  #rests(worker: WorkerProcess): boolean {
    const loop = worker.links?.hints.read();
    const last = this.#lastTurn.get(worker);
    if (loop) this.#lastTurn.set(worker, loop.since);
    return !worker.stuck && (!loop || (loop.state === 'waiting' && loop.since === last));
  }

  #judge(worker: WorkerProcess, now: number, proc: boolean): void {
    const { stuckAfter, hangTimeout, changed, hung, hasQueue } = this.#options;
    const loop = worker.links?.hints.read();
    const suspect = worker.stuck || this.#stoppedSince.has(worker);
    if (proc || suspect || hasQueue(worker)) this.#noteStopped(worker, now);
    const stoppedSince = this.#stoppedSince.get(worker);
    const readySince = now - (performance.now() - (worker.readyAt ?? 0));
    const time = unresponsiveFor({ loop, stoppedSince, readySince, now });
    const stuck = time > stuckAfter;
    // A loop that stood still in the middle of a turn may have been stopped there.
    if (stuck && !worker.stuck) this.#noteStopped(worker, now);
    const why = this.#stoppedSince.has(worker) ? 'its process is stopped' : 'its event loop is stuck';
    // Seen between two looks, it is not minded later than it should be.
    if (!stuck && stoppedSince === now) setTimeout(() => this.#again(worker), stuckAfter + 1).unref();
    if (stuck !== worker.stuck) {
      worker.stuck = stuck;
      changed(worker, stuck, why);
    }
    if (hangTimeout > 0 && time > hangTimeout && !this.#hung.has(worker)) {
      this.#hung.add(worker);
      hung(worker, `${why} for ${Math.round(time / 1000)} s`);
    }
  }

  #again(worker: WorkerProcess): void {
    if (!this.#closed && worker.state !== 'exited') this.#judge(worker, monotonic(), false);
  }

  #noteStopped(worker: WorkerProcess, now: number): void {
    if (!isStopped(worker.pid)) this.#stoppedSince.delete(worker);
    else if (!this.#stoppedSince.has(worker)) this.#stoppedSince.set(worker, now);
  }
}

/** Milliseconds of CLOCK_MONOTONIC. */
function monotonic(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** Stopped by a signal or a tracer: the states T and t of /proc/PID/stat (proc_pid_stat(5)). */
function isStopped(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may contain anything.
    return /^[Tt]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}
