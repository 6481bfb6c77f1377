/** Node's own `reusePort`, which Node 20 does not have. */
import { findNode, RIVAL_NODE } from '../rivals.js';
import type { Driver } from './driver.js';
import { startKeeper } from './keeper.js';

export const REUSEPORT_NODE: Driver = {
  name: 'reuseport-node24',
  title: 'reusePort of Node 24',
  workersAre: 'processes',
  about:
    'Every process calls listen({ reusePort: true }), on a newer Node; the kernel chooses by its hash; a process that ends is started again.',
  find: async () => findNode(),
  start: (order) => {
    const workers = Array.from({ length: order.workers }, () => ({ BENCH_REUSEPORT: '1' }));
    return startKeeper(order, { workers, ahead: true }, RIVAL_NODE);
  },
};
