/** The network that a run has for itself, and who has which of the machine's processors. */
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { SpillwayError, systemError } from '../../lib/errors.js';
import { testing } from '../../test/support/testing.js';

/**
 * Moves this process into a network namespace of its own for good. Everything it starts inherits that: no port, no
 * kernel setting and no neighbour of the machine is touched or measured.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_PERMISSION` without CAP_SYS_ADMIN.
 */
export function enterOwnNetwork(): void {
  try {
    testing().unshareNetwork();
  } catch (error) {
    const what = 'there is no network namespace for the benchmark';
    if ((error as { code?: string }).code !== 'EPERM') throw systemError('ERR_SPILLWAY_SYSTEM', what, error);
    throw systemError(
      'ERR_SPILLWAY_PERMISSION',
      what,
      error,
      'Run the benchmark as root: it needs CAP_SYS_ADMIN.',
    );
  }
}

/** Numbers of processors, see Placement. */
export interface Processors {
  generator: number;
  apart: number[];
  over: number[];
}

/** The generator gets the last processor, this process too: it has nothing to do while the generator works. */
export function shareProcessors(): Processors {
  const all = cpus().map((_, index) => index);
  const generator = all.at(-1) as number;
  const others = all.slice(0, -1);
  return { generator, apart: others.length > 0 ? others : all, over: all };
}

/** Binds all threads of this process to one processor, by taskset(1) of util-linux. */
export function bindTo(processor: number): void {
  const { status, error, stderr } = spawnSync('taskset', ['-acp', String(processor), String(process.pid)], {
    encoding: 'utf8',
  });
  if (status === 0) return;
  throw new SpillwayError('ERR_SPILLWAY_SYSTEM', `taskset: ${error?.message ?? stderr.trim()}`, {
    hint: 'Is the processor one that this process may run on?',
  });
}

/** So many that connections of a long run do not meet their own predecessors in TIME_WAIT. */
const SOURCES = 64;

/** Client addresses on loopback, 127.1.0.1 and up. */
export const LOOPBACK_SOURCES: readonly string[] = Array.from(
  { length: SOURCES },
  (_, index) => `127.1.0.${index + 1}`,
);
