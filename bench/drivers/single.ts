/** One process alone. */
import type { Driver } from './driver.js';
import { PROGRAM, startRoot } from './spawn.js';

export const SINGLE: Driver = {
  name: 'single',
  title: 'one process',
  workersAre: 'processes',
  mostWorkers: 1,
  about: 'One process of the program; nobody starts it again when it ends.',
  find: async () => ({ version: `Node ${process.versions.node}` }),
  async start(order) {
    const root = await startRoot(order, { command: [process.execPath, PROGRAM], ipc: true }, (it) =>
      it.hears(),
    );
    return { pid: root.pid, reload: null, stop: () => root.stop() };
  },
};
