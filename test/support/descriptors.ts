/** Takes all free descriptors from this process and gives them back; a helper does it, as that too takes some. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { until } from './until.js';

export class Limits {
  readonly #helper: ChildProcess;

  constructor() {
    const set = (limit: string) => `prlimit --pid ${process.pid} --nofile=${limit}`;
    const script = `before=$(${set('').replace('=', '')} -o SOFT --noheadings --raw); read l; ${set('3:')}; read r; ${set('$before:')}`;
    this.#helper = spawn('sh', ['-c', script], { stdio: ['pipe', 'inherit', 'inherit'] });
    // It ends after its second line, perhaps before it is told to.
    this.#helper.stdin?.on('error', () => {});
  }

  lower(): Promise<unknown> {
    this.#helper.stdin?.write('lower\n');
    return until('no descriptor is free', () => !hasFreeDescriptor());
  }

  raise(): Promise<unknown> {
    this.#helper.stdin?.write('raise\n');
    return until('a descriptor is free', hasFreeDescriptor);
  }

  async end(): Promise<void> {
    if (this.#helper.exitCode === null) {
      this.#helper.stdin?.end('raise\nraise\n');
      await once(this.#helper, 'exit');
    }
  }
}

function hasFreeDescriptor(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EMFILE') return false;
    throw error;
  }
}
