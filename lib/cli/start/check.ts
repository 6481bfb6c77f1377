/** What contradicts itself, or the machine, in the settings of a service: all of it at once, before anything is started. */
import { accessSync, constants, readFileSync, type Stats, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, isAbsolute, join } from 'node:path';
import { SpillwayError } from '../../errors.js';
import { native } from '../../native.js';
import { assertPlaces, readMachine } from '../../serve/placement.js';
import type { Settings } from './options.js';
import { identityOf } from './user.js';

type Check = (settings: Settings) => string | undefined;

const CHECKS: readonly Check[] = [
  ({ exec, overflow }) =>
    exec && overflow === 'wait'
      ? "overflow cannot be 'wait' with exec: nobody could take from the waiting list for an executable"
      : undefined,
  ({ exec, waitReady }) =>
    exec && waitReady
      ? 'waitReady is for a script: an executable has no way to say that it is ready'
      : undefined,
  ({ overflow, waitLimit }) => {
    if (overflow !== 'wait' || typeof waitLimit !== 'number') return undefined;
    const most = somaxconn();
    return most !== undefined && waitLimit > most
      ? `waitLimit cannot be ${waitLimit}: net.core.somaxconn is ${most}`
      : undefined;
  },
  ({ selector, maxConnections }) =>
    (selector === 'cbpf' || selector === 'none') && Number(maxConnections ?? 0) > 0
      ? `maxConnections needs the selector 'ebpf', and not '${selector}'`
      : undefined,
  ({ placement }) => {
    if (placement === undefined) return undefined;
    const allowed = native().allowedCpus();
    return messageOf(() => assertPlaces(placement, readMachine(allowed), allowed));
  },
  ({ keeperPlacement }) => {
    if (keeperPlacement === undefined) return undefined;
    const allowed = native().allowedCpus();
    return messageOf(() => assertPlaces([keeperPlacement], readMachine(allowed), allowed))?.replace(
      'placement',
      'keeperPlacement',
    );
  },
  ({ host, port }) => (host !== undefined && port === undefined ? 'host needs port' : undefined),
  ({ selector, overflow, exclusiveHandover }) => {
    if (selector !== 'cbpf' && selector !== 'none') return undefined;
    if (exclusiveHandover) return `exclusiveHandover needs the selector 'ebpf', and not '${selector}'`;
    return overflow === 'reset' || overflow === 'wait'
      ? `overflow '${overflow}' needs the selector 'ebpf', and not '${selector}'`
      : undefined;
  },
  ({ cwd }) =>
    cwd === undefined || kindOf(cwd)?.isDirectory()
      ? undefined
      : `cwd cannot be '${cwd}': there is no such folder`,
  ({ exec, script, cwd }) => {
    if (exec || script === undefined || cwd === undefined || !kindOf(cwd)?.isDirectory()) return undefined;
    return isProgram(script, cwd)
      ? undefined
      : `script cannot be '${script}': there is no such file in ${cwd}`;
  },
  ({ user }) => (user === undefined ? undefined : messageOf(() => identityOf(user))),
  ({ logs }) => (logs === undefined ? undefined : folderProblem('logs', logs)),
];

/** Sentences; none where nothing is wrong. */
export function problemsIn(settings: Settings): string[] {
  return CHECKS.map((check) => check(settings)).filter((problem) => problem !== undefined);
}

function messageOf(act: () => void): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof SpillwayError) return error.message;
    throw error;
  }
}

/** A folder that is missing is made, with those above it, as far as that is possible. */
function folderProblem(key: string, path: string): string | undefined {
  for (let place = path; ; place = dirname(place)) {
    const found = kindOf(place);
    if (!found && place !== dirname(place)) continue;
    if (!found?.isDirectory()) return `${key} cannot be '${path}': ${place} is no folder`;
    return isWritable(place) ? undefined : `${key} cannot be '${path}': ${place} cannot be written to`;
  }
}

/** By Node's rules for a main program. */
function isProgram(script: string, cwd: string): boolean {
  const { resolve } = createRequire(join(cwd, 'spillway.js'));
  try {
    resolve(isAbsolute(script) ? script : `./${script}`);
    return true;
  } catch {
    return false;
  }
}

/** Undefined for what is not there. */
function kindOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function somaxconn(): number | undefined {
  try {
    return Number(readFileSync('/proc/sys/net/core/somaxconn', 'latin1'));
  } catch {
    return undefined;
  }
}
