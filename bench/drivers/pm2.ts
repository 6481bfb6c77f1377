/** pm2 in its cluster mode, as its documentation has it for a service that starts and ends gracefully. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findPackage, RIVALS } from '../rivals.js';
import { listensOn } from '../service/processes.js';
import type { Driver, Service, ServiceOrder } from './driver.js';
import { PROGRAM, type Root, run, startRoot } from './spawn.js';

const CLI = [process.execPath, join(RIVALS, 'pm2', 'bin', 'pm2')] as const;
const NAME = 'bench';

/** Characters of what the workers have written to stderr that an error shows. */
const COMPLAINTS_SHOWN = 2000;

async function start(order: ServiceOrder): Promise<Service> {
  // Everything it writes stays in the order's folder, and nobody is told that it runs.
  const env = { HOME: order.folder, PM2_HOME: join(order.folder, 'pm2'), PM2_DISABLE_VERSION_CHECK: 'true' };
  // In the foreground: a daemon would leave the session, and outlive the benchmark.
  const how = ['--name', NAME, '--instances', String(order.workers), '--wait-ready', '--no-daemon'];
  const errors = join(order.folder, 'pm2-errors.log');
  const command = [...CLI, 'start', PROGRAM, ...how, '--error', errors, '--merge-logs'] as const;
  const root = await startRoot(order, { command, env }, (it) => started(it, order, errors));
  return {
    pid: root.pid,
    reload: async () => {
      // The command would start a daemon if there were none to ask.
      if (!root.runs()) throw new Error(`pm2 has ended\n${root.output}`);
      await run(order, { command: [...CLI, 'reload', NAME], env });
    },
    stop: () => root.stop(),
  };
}

/** It goes on whatever becomes of the workers: what they write to stderr tells, and they write nothing otherwise. */
async function started(root: Root, { port, workers }: ServiceOrder, errors: string): Promise<void> {
  await root.until(() => {
    const complaints = existsSync(errors) ? readFileSync(errors, 'utf8') : '';
    if (complaints !== '') throw new Error(`a worker has failed: ${complaints.slice(0, COMPLAINTS_SHOWN)}`);
    const processes = root.processes();
    return processes.length > workers && listensOn(processes, port);
  });
}

export const PM2: Driver = {
  name: 'pm2',
  title: 'pm2, cluster mode',
  workersAre: 'processes',
  about:
    "pm2's process accepts every connection and hands it to the next worker (node:cluster, round robin).",
  find: async () => findPackage('pm2'),
  start,
};
