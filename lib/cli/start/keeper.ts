/** `--monitor`: this process becomes the keeper (native/keeper/keeper.cc), which starts the same command as its master. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SpillwayError } from '../../errors.js';
import { native, packageRoot } from '../../native.js';
import { readMachine, resolvePlace } from '../../serve/placement.js';
import { DAEMON_VARIABLE } from './daemon.js';

const KEEPER = join(packageRoot, 'build/Release/spillway-keeper');

/** Whether somebody keeps what the master has: a keeper of ours, or systemd with its store of descriptors. */
export function isKept(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.SPILLWAY_KEEPER !== undefined || Number(env.FDSTORE) > 0;
}

/**
 * Does not return.
 *
 * @param placement the processors it runs on; default: those of this process, which the master has in any case.
 * @throws {SpillwayError} `ERR_SPILLWAY_ADDON` when there is no keeper.
 */
export function becomeKeeper(placement: string | undefined): never {
  if (!existsSync(KEEPER)) throw new SpillwayError('ERR_SPILLWAY_ADDON', `${KEEPER} has not been built`);
  const master = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const allowed = native().allowedCpus();
  const cpus = placement === undefined ? undefined : resolvePlace(placement, readMachine(allowed));
  const where = cpus ? ['--cpus', cpus.join()] : [];
  const { [DAEMON_VARIABLE]: report } = process.env;
  const kept = Int32Array.from(report === undefined ? [] : [Number(report)]);
  return native().become(KEEPER, ['--once', DAEMON_VARIABLE, ...where, '--', ...master], kept);
}
