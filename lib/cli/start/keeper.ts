/** `--monitor`: this process becomes the keeper (native/keeper/keeper.cc), which starts the same command as its master. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { claimFolder, LONGEST_PATH, runtimeFolder } from '../../control/names.js';
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
 * @param name of the service.
 * @param placement the processors it runs on; default: those of this process, which the master has in any case.
 * @throws {SpillwayError} `ERR_SPILLWAY_ADDON` when there is no keeper.
 */
export function becomeKeeper(name: string, placement: string | undefined): never {
  if (!existsSync(KEEPER)) throw new SpillwayError('ERR_SPILLWAY_ADDON', `${KEEPER} has not been built`);
  const master = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const allowed = native().allowedCpus();
  const cpus = placement === undefined ? undefined : resolvePlace(placement, readMachine(allowed));
  const where = cpus ? ['--cpus', cpus.join()] : [];
  const { [DAEMON_VARIABLE]: report } = process.env;
  const kept = Int32Array.from(report === undefined ? [] : [Number(report)]);
  const notices = noticesOf(name);
  return native().become(KEEPER, ['--once', DAEMON_VARIABLE, ...where, ...notices, '--', ...master], kept);
}

/**
 * A socket in the folder of the control sockets, where nobody else gets in. Removes what keepers have left that were killed. Where
 * the path is too long an abstract name has to do, which everybody may write to.
 */
function noticesOf(name: string): string[] {
  const folder = runtimeFolder();
  claimFolder(folder);
  for (const file of readdirSync(folder)) {
    if (!file.startsWith(`${name}.`)) continue;
    const pid = /^\.(\d+)\.keep$/.exec(file.slice(name.length))?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(folder, file), { force: true });
  }
  const path = join(folder, `${name}.${process.pid}.keep`);
  return Buffer.byteLength(path) <= LONGEST_PATH ? ['--notices', path] : [];
}
