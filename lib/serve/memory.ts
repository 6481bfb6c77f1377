/** Has workers replaced that take too much memory. */
import type { Timing } from './options.js';
import { usageOf } from './process-usage.js';
import { grownDelay } from './restarts.js';
import type { WorkerProcess } from './worker-process.js';

/** Milliseconds between looks. */
const LOOK_EVERY = 1000;

export interface MemoryOptions {
  /** Resident bytes. */
  most: number;
  timing: Pick<Timing, 'restartDelay' | 'maxRestartDelay'>;
  /** Who serves, at this moment. */
  workers: () => readonly WorkerProcess[];
  /** Fulfilled when it has been dealt with; whether it has really been replaced. */
  replace: (worker: WorkerProcess, memory: number) => Promise<boolean>;
}

/**
 * A program that needs more than the limit as soon as it runs would be replaced for ever. So a worker is left in peace for a
 * time that doubles whenever its predecessor has come to its limit within the longest such time.
 */
export class MemoryWatch {
  readonly #options: MemoryOptions;
  readonly #timer: NodeJS.Timeout;
  /** Being dealt with. */
  readonly #busy = new Set<WorkerProcess>();
  /** How many in a row came to the limit quickly, by slot. */
  readonly #quick = new Map<number, number>();

  constructor(options: MemoryOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const workers = this.#options.workers();
    const usage = await usageOf(workers.map(({ pid }) => pid));
    for (const worker of workers) {
      const memory = usage.get(worker.pid ?? 0)?.memory ?? 0;
      if (memory > this.#options.most && !this.#busy.has(worker)) void this.#deal(worker, memory);
    }
  }

  async #deal(worker: WorkerProcess, memory: number): Promise<void> {
    const { timing } = this.#options;
    const age = performance.now() - (worker.readyAt ?? performance.now());
    const quick = this.#quick.get(worker.slot) ?? 0;
    if (quick > 0 && age < grownDelay(quick, timing)) return;
    this.#busy.add(worker);
    const replaced = await this.#options.replace(worker, memory);
    this.#busy.delete(worker);
    if (replaced) this.#quick.set(worker.slot, age < timing.maxRestartDelay ? quick + 1 : 0);
  }
}
