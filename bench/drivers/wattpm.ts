/** Watt (wattpm): a project of one Node application with several workers. */
import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findOnNewerNode, RIVAL_NODE, RIVALS } from '../rivals.js';
import { listensOn } from '../service/processes.js';
import type { Driver, Service, ServiceOrder } from './driver.js';
import { PROGRAM, run, startRoot } from './spawn.js';

const CLI = [RIVAL_NODE, join(RIVALS, 'wattpm', 'bin', 'cli.js')] as const;

/** What runs a plain Node application in it. */
const NODE_APPLICATION = '@platformatic/node';

/** An entry of its log (pino) of the level "error" or "fatal". */
const ERROR_LINE = /^\{"level":[56]0,.*$/m;

async function start(order: ServiceOrder): Promise<Service> {
  const project = await makeProject(order);
  // Its control sockets are in the folder for temporary files.
  const env = { HOME: order.folder, TMPDIR: order.folder };
  const root = await startRoot(order, { command: [...CLI, 'start'], cwd: project, env }, (it) =>
    it.until(() => {
      // It would try again and again, and may then go on without a worker.
      if (ERROR_LINE.test(it.output)) throw new Error('a worker has failed');
      return listensOn([it.pid], order.port);
    }),
  );
  return {
    pid: root.pid,
    reload: () => run(order, { command: [...CLI, 'restart', String(root.pid)], env }),
    stop: () => root.stop(),
  };
}

async function makeProject({ folder, host, port, backlog, workers }: ServiceOrder): Promise<string> {
  const project = join(folder, 'watt');
  const configuration = {
    module: NODE_APPLICATION,
    runtime: { server: { hostname: host, port, backlog }, workers },
    node: { main: 'program.mjs' },
  };
  await mkdir(project);
  await Promise.all([
    copyFile(PROGRAM, join(project, 'program.mjs')),
    symlink(RIVALS, join(project, 'node_modules')),
    writeFile(join(project, 'package.json'), JSON.stringify({ name: 'bench', type: 'module' })),
    writeFile(join(project, 'watt.json'), JSON.stringify(configuration)),
  ]);
  return project;
}

export const WATTPM: Driver = {
  name: 'wattpm',
  title: 'Watt',
  workersAre: 'threads',
  about:
    'Every worker is a thread that listens with reusePort, on a newer Node; the kernel chooses by its hash; all share one process.',
  find: async () => findOnNewerNode('wattpm', NODE_APPLICATION),
  start,
};
