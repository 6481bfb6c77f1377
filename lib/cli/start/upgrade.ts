/** `spillway start` of a service that runs already, from files that have been replaced since: its master is followed by a new one. */
import { Control } from '../../control/client.js';
import type { Installation, ServiceStatus } from '../../control/protocol.js';
import { SpillwayError } from '../../errors.js';
import { readInstallation } from './installation.js';

/** Milliseconds that the new master has until it answers. */
const PATIENCE = 20_000;

/** Milliseconds between two looks. */
const LOOK_EVERY = 20;

export interface Upgraded {
  name: string;
  /** Of the new master. */
  pid: number;
  /** Of the one before. */
  replaced: number;
  version: string;
  /** Of the one before. */
  from: string;
  /** Workers that serve on. */
  workers: number;
}

/**
 * Undefined where there is nothing to be done: none runs under that name, nobody keeps what it has (`--monitor`), or it was
 * started from what is there now.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL` when the new master does not come up.
 */
export async function upgradeRunning(name: string): Promise<Upgraded | undefined> {
  const control = await find(name);
  const before = await control?.status();
  if (!control || !before?.kept || !isOlder(before.installation, readInstallation())) return undefined;
  await control.upgrade();
  const after = await successor(control, before);
  const now = new Set(after.workers.map(({ pid }) => pid));
  return {
    name,
    pid: after.pid,
    replaced: before.pid,
    version: after.version,
    from: before.version,
    workers: before.workers.filter(({ pid }) => pid !== null && now.has(pid)).length,
  };
}

/** From elsewhere it would come up as the same again: it is started by the command line of the first. */
function isOlder(running: Installation, here: Installation): boolean {
  return running.node === here.node && running.main === here.main && running.files !== here.files;
}

async function find(name: string): Promise<Control | undefined> {
  try {
    return await Control.find(name);
  } catch (error) {
    if (error instanceof SpillwayError && error.code === 'ERR_SPILLWAY_NOT_RUNNING') return undefined;
    throw error;
  }
}

async function successor(control: Control, { pid }: ServiceStatus): Promise<ServiceStatus> {
  const end = performance.now() + PATIENCE;
  let last: unknown;
  while (performance.now() < end) {
    try {
      const now = await control.status();
      if (now.pid !== pid && now.state === 'running') return now;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
  throw new SpillwayError(
    'ERR_SPILLWAY_CONTROL',
    `the new master of '${control.name}' has not come up for ${PATIENCE / 1000} seconds`,
    {
      cause: last,
      hint: 'Its log says what is wrong with what is installed now. The workers serve on until three masters have failed.',
    },
  );
}
