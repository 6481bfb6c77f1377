/** For programs that want to know that they are a worker of Spillway. Nothing in here needs a master to be there. */
import type { DrainReason } from './serve/protocol.js';
import { published } from './serve/worker/state.js';

/** A port of this worker. `address` is numeric, IPv6 without brackets. */
export interface WorkerListener {
  readonly address: string;
  readonly family: 4 | 6;
  readonly port: number;
}

/**
 * This process as a worker of Spillway. Outside of one (run alone, in a child or a thread of a worker) everything is
 * harmless: `isWorker` is false, `ready()` does nothing, and no handler is ever called.
 */
export interface SpillwayWorker {
  /** Whether this process is a worker, and this its main thread. */
  readonly isWorker: boolean;
  /** The worker's slot, from 0; a worker that replaces another has the same. Undefined outside of Spillway. */
  readonly slot: number | undefined;
  /** The ports declared to the master, and those that `listen()` has got from it since. */
  readonly listeners: readonly WorkerListener[];
  /** Whether the worker has been asked to finish what it has. It takes no new connections from then on. */
  readonly draining: boolean;
  /**
   * Tells the master that this worker is ready, for a master started with `waitReady`; as `process.send('ready')` does.
   * Calls after the first do nothing.
   */
  ready(): void;
  /**
   * Calls `handler` once when the worker is asked to drain, with the reason: `reload` and `replace` when a successor takes
   * its place, `scale` when there shall be fewer workers, `stop` when the service ends. When it has been asked already, it
   * is called at once. The promise it returns is awaited before the worker is ended, up to the limit of the drain
   * (`drainTimeout`). What it throws becomes a warning of the process, and the drain goes on.
   *
   * @returns a function that takes the handler back.
   */
  onDrain(handler: (reason: DrainReason) => void | Promise<void>): () => void;
}

// The state is asked for each time: the object may be older than it, and belongs to the preload's copy of the package.
export const worker: SpillwayWorker = {
  get isWorker() {
    return published() !== undefined;
  },
  get slot() {
    return published()?.slot;
  },
  get listeners() {
    return published()?.listeners() ?? [];
  },
  get draining() {
    return published()?.draining !== undefined;
  },
  ready() {
    published()?.ready();
  },
  onDrain(handler) {
    if (typeof handler !== 'function') throw new TypeError('worker.onDrain() takes a function');
    return published()?.onDrain(handler) ?? (() => {});
  },
};
