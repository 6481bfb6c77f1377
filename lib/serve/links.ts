/** What a master shares with a worker that has the preload: its page of hints, and the channel on which it is asked to help. */
import { closeSync } from 'node:fs';
import { systemError } from '../errors.js';
import { native } from '../native.js';
import type { HintsPage, HintsRows } from './hints-rows.js';
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
  let open = true;
  const close = () => {
    if (open) closeSync(master);
    open = false;
    hints.close();
  };
  return { hints, help: worker, given: () => closeSync(worker), kept: { hints, help: master, close } };
}
