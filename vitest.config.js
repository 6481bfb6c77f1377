import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

/**
 * One project per kind of test, named after its folder. `unit` needs no privilege, `kernel` needs root and gives
 * every file its own network namespace, `process` starts real children, `unprivileged` must run without any
 * capability (scripts/test.mjs changes the user first).
 */
const PROJECTS = [
  { name: 'unit', parallel: true },
  { name: 'kernel', parallel: true },
  { name: 'process', parallel: true },
  { name: 'unprivileged', parallel: false },
];

/** Milliseconds for one test or hook: far above what any of them needs, so that only a hang meets it. */
const TIMEOUT = 30_000;

/** A file that takes as long as all others of its project begins first. Those that make much load must not run together. */
const LONG = ['thousand-groups.test.ts'];

class LongFirst extends BaseSequencer {
  async sort(files) {
    const rank = ({ moduleId }) => {
      const index = LONG.indexOf(basename(moduleId));
      return index < 0 ? LONG.length : index;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongFirst },
    // Nothing is written into the checkout: another user, who may only read it, runs the same files.
    cache: false,
    projects: PROJECTS.map(({ name, parallel }, order) => ({
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        environment: 'node',
        // A process per file: an fd leak, a namespace or a signal handler of one file never meets another file.
        pool: 'forks',
        isolate: true,
        fileParallelism: parallel,
        // Kernel and process tests measure times: more than one neighbour would disturb them. Of its own vitest
        // would leave one processor idle.
        maxWorkers: name === 'unit' ? Math.max(2, availableParallelism()) : 2,
        // Projects of different parallelism cannot share a group of workers.
        sequence: { groupOrder: order },
        testTimeout: TIMEOUT,
        hookTimeout: TIMEOUT,
      },
    })),
  },
});
