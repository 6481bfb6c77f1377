import { defineConfig } from 'vitest/config';

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

export default defineConfig({
  test: {
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
        // Kernel and process tests measure times: more than one neighbour would disturb them.
        maxWorkers: name === 'unit' ? undefined : 2,
        // Projects of different parallelism cannot share a group of workers.
        sequence: { groupOrder: order },
        testTimeout: TIMEOUT,
        hookTimeout: TIMEOUT,
      },
    })),
  },
});
