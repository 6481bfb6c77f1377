/** One run at a time: two would measure each other. */
import { closeSync, constants, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native } from '../../lib/native.js';
import { BenchError } from '../error.js';

/** Folders of services: a lock on the machine says whose they are. */
export const FOLDER_PREFIX = 'spillway-bench-';

const LOCK = `${FOLDER_PREFIX}lock`;

/**
 * Takes the machine's only place for a run, and removes the folders that a killed run has left. Returns what gives the
 * place back; the kernel does it at the latest with the process.
 *
 * @throws {BenchError} while another run goes on.
 */
export function beAlone(): () => void {
  const folder = tmpdir();
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  const fd = openSync(join(folder, LOCK), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  if (!native().lockFile(fd)) {
    closeSync(fd);
    throw new BenchError('another benchmark runs on this machine', {
      hint: 'Wait for its end: two at once would measure each other.',
    });
  }
  for (const name of readdirSync(folder)) {
    if (name.startsWith(FOLDER_PREFIX) && name !== LOCK)
      rmSync(join(folder, name), { recursive: true, force: true });
  }
  return () => closeSync(fd);
}
