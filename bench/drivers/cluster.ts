/** node:cluster with both of its scheduling policies. */
import type { Driver } from './driver.js';
import { launcher, PROGRAM, startLauncher } from './spawn.js';

function cluster(policy: 'round-robin' | 'shared', title: string, about: string): Driver {
  return {
    name: `cluster-${policy}`,
    title,
    workersAre: 'processes',
    about,
    find: async () => ({ version: `Node ${process.versions.node}` }),
    start: (order) =>
      startLauncher(order, {
        command: [process.execPath, launcher('cluster'), PROGRAM, String(order.workers), policy],
      }),
  };
}

export const CLUSTER_ROUND_ROBIN = cluster(
  'round-robin',
  'node:cluster, round robin',
  'The primary accepts every connection and hands it to the next worker (SCHED_RR, the default).',
);

export const CLUSTER_SHARED = cluster(
  'shared',
  'node:cluster, shared handle',
  'All workers accept from one listener that the primary has opened (SCHED_NONE).',
);
