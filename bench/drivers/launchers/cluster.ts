/**
 * A primary as Node's documentation of node:cluster has it: forks the workers, forks again when one ends, and replaces
 * them by new ones before it disconnects the old ones.
 *
 *   node cluster.js PROGRAM WORKERS round-robin|shared
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { END_WITHIN, type Launcher, obey } from './orders.js';

const [program, count, policy] = process.argv.slice(2);

// In this order: setupPrimary() freezes the policy.
cluster.schedulingPolicy = policy === 'shared' ? cluster.SCHED_NONE : cluster.SCHED_RR;
cluster.setupPrimary({ exec: program as string });

/** Those that get no successor when they end: theirs is there already, or coming. */
const retired = new Set<Worker>();
let serving = false;
let ending = false;

/** Resolves when it listens. */
async function forked(): Promise<void> {
  const worker = cluster.fork();
  await new Promise<void>((resolve, reject) => {
    worker.once('listening', () => resolve());
    worker.once('exit', () => reject(new Error('a worker has ended before it listened')));
  });
}

/** Resolves when it has ended, which it is made to when it takes too long. */
async function gone(worker: Worker): Promise<void> {
  const limit = setTimeout(() => worker.process.kill('SIGKILL'), END_WITHIN);
  if (!worker.isDead()) await once(worker, 'exit');
  clearTimeout(limit);
}

const workers = () => Object.values(cluster.workers ?? {}) as Worker[];

cluster.on('exit', (worker) => {
  if (serving && !ending && !retired.delete(worker)) cluster.fork();
});

const launcher: Launcher = {
  async start() {
    await Promise.all(Array.from({ length: Number(count) }, forked));
    serving = true;
  },
  async reload() {
    for (const old of workers()) {
      if (old.isDead()) continue;
      retired.add(old);
      await forked();
      if (old.isConnected()) old.disconnect();
      await gone(old);
    }
  },
  async end() {
    ending = true;
    const left = workers();
    for (const worker of left) worker.process.kill('SIGTERM');
    await Promise.all(left.map(gone));
  },
};

await obey(launcher);
