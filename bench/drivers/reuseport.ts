/** What SO_REUSEPORT gives by itself: every worker with a listener of its own, and the kernel's hash between them. */
import type { Driver } from './driver.js';
import { startKeeper } from './keeper.js';

export const REUSEPORT: Driver = {
  name: 'reuseport',
  title: 'SO_REUSEPORT',
  workersAre: 'processes',
  about:
    'Every process listens on a socket of its own with SO_REUSEPORT, and the kernel chooses by its hash; a process that ends is started again.',
  find: async () => ({ version: `Node ${process.versions.node}` }),
  start: (order) =>
    startKeeper(order, {
      workers: Array.from({ length: order.workers }, () => ({})),
      share: { host: order.host, port: order.port },
      ahead: true,
    }),
};
