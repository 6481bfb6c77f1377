/** What a master tells of itself while it runs. */
import type { Serializable } from 'node:child_process';
import type { SpillwayError } from '../errors.js';
import type { SocketGroup } from '../group/group.js';
import type { DrainReason } from './protocol.js';
import type { Worker } from './worker-process.js';

export interface MasterEvents {
  /** Every worker is ready or has failed for good. */
  ready: [];
  /** Workers and ports are gone. */
  close: [];
  /** A process has been started; its stdout and stderr can be read from here on. */
  'worker:start': [worker: Worker];
  /** A worker that another master had started is this one's now; its stdout and stderr can be read from here on. */
  'worker:adopted': [worker: Worker];
  /** A worker listens on one more port, also again after it had closed its server. */
  'worker:listening': [worker: Worker];
  /** A worker is ready, so many milliseconds after its start. */
  'worker:ready': [worker: Worker, after: number];
  /** A worker takes no new connections, and finishes those it has. */
  'worker:drain': [worker: Worker, reason: DrainReason];
  /** A worker does not react, and is passed by; or it does again. */
  'worker:stuck': [worker: Worker, stuck: boolean, why: string];
  /** A worker has gone. What it had queued goes to its siblings. `expected`: it had been told to. */
  'worker:exit': [
    exit: {
      slot: number;
      pid: number | undefined;
      code: number | null;
      signal: NodeJS.Signals | null;
      expected: boolean;
      reason: string;
    },
  ];
  /** Another worker follows in the slot, after `delay` milliseconds. `failures` in a row, of which `most` may be. */
  'worker:restart': [
    restart: { slot: number; delay: number; failures: number; most: number; reason: string },
  ];
  /** No other worker follows in the slot. */
  'worker:failed': [failed: { slot: number; reason: string }];
  /** A message that the program sent with `process.send()`. */
  'worker:message': [worker: Worker, message: Serializable, handle: unknown];
  /** A port can take connections: one that was declared, or that the program has asked for. */
  port: [group: SocketGroup];
  reload: [reload: { phase: 'begin' | 'done' | 'failed'; error?: SpillwayError }];
  /** There are more workers, or fewer. `why`: by themselves, for that reason. */
  scale: [scale: { from: number; to: number; why?: string }];
  /** More workers are wanted, or fewer, and that is about to be carried out. */
  demand: [demand: { from: number; to: number; why: string }];
  /** Processors have come or gone, and workers were moved. `cpus`: those there are now. */
  moved: [cpus: readonly number[]];
  /** Connection requests that nobody had room for, since the last event; looked at once a second, under `ebpf`. */
  overflow: [overflow: { group: SocketGroup; dropped: number; reset: number }];
  /**
   * Something could not be done that nobody waits for. Without a listener it becomes a warning of the process, but for
   * what makes the start fail or ends the master, which is an unhandled rejection unless `ready` or `closed` is awaited.
   */
  error: [error: Error];
}
