/** What a master shares with a worker: its page of hints, the channel on which it is asked to help, and its lifeline. */
import { closeSync } from 'node:fs';
import { systemError } from '../errors.js';
import { native } from '../native.js';
import type { HintsPage, HintsRows } from './hints-rows.js';
import type { Keeping } from './keeping.js';
import type { WorkerLinks } from './worker-process.js';

export interface NewLinks {
  readonly hints: HintsPage;
  /** The worker's end of the channel, to be inherited. */
  readonly help: number;
  /** The process has been started, or not: the worker's end is closed here. */
  given(): void;
  /** What stays. */
  readonly kept: WorkerLinks;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_LIMIT` */
export function openLinks(rows: HintsRows): NewLinks {
  const hints = rows.take();
  let ends: [master: number, worker: number];
  try {
    ends = native().openHelpChannel();
  } catch (error) {
    hints.close();
    throw systemError('ERR_SPILLWAY_LIMIT', 'no channel to a worker can be opened', error);
  }
  const [master, worker] = ends;
  return { hints, help: worker, given: () => closeSync(worker), kept: linksOf(hints, master) };
}

/** Of descriptors that are there already; they are the links' from then on. */
export function linksOf(hints: HintsPage, help: number): WorkerLinks {
  let open = true;
  const close = () => {
    if (open) closeSync(help);
    open = false;
    hints.close();
  };
  return { hints, help, close };
}

/**
 * What a worker that outlives its master lives by: when the last copy of the master's end is closed, which is at the end of
 * the master and of whoever keeps it, it is killed (native/launch.cc).
 */
export interface Lifeline {
  /** The worker's end, to be inherited by its launcher. */
  readonly fd: number;
  /** The master's end, which is held as long as the worker lives. */
  readonly held: number;
  /** The process has been started, or not: the worker's end is closed here. */
  given(): void;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_LIMIT` */
export function openLifeline(keeping: Keeping): Lifeline {
  let ends: [master: number, worker: number];
  try {
    ends = native().openHelpChannel();
  } catch (error) {
    throw systemError('ERR_SPILLWAY_LIMIT', 'no lifeline of a worker can be opened', error);
  }
  const [master, worker] = ends;
  keeping.keep('life', master);
  return { fd: worker, held: master, given: () => closeSync(worker) };
}
