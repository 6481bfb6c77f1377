/**
 * What a worker's preload publishes for the program's own use of Spillway. The program may have another copy of the
 * package than its master, so this is a contract between versions: members are added, never changed.
 */
import type { DrainReason } from '../protocol.js';

/** Where it is found in the main thread of a worker, and nowhere else. */
export const STATE = Symbol.for('spillway.worker');

export interface WorkerState {
  readonly slot: number;
  /** The ports of this worker: what was declared, and what listen() has got since. */
  listeners(): { address: string; family: 4 | 6; port: number }[];
  /** Set from the moment the worker is asked to drain. */
  readonly draining: DrainReason | undefined;
  /** Tells the master, once. */
  ready(): void;
  /** Called once when the worker is asked to drain, at once when it was. What it returns is awaited. */
  onDrain(handler: (reason: DrainReason) => unknown): () => void;
}

export function publish(state: WorkerState): void {
  // Not enumerable: programs that copy or compare the global object do not meet it.
  Object.defineProperty(globalThis, STATE, { value: state, configurable: true });
}

export function published(): WorkerState | undefined {
  return (globalThis as { [STATE]?: WorkerState })[STATE];
}
