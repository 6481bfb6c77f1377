/**
 * Loaded by `--import` into the Node programs a master starts; makes the process a worker.
 *
 * Children of the program inherit its `execArgv` and environment, and worker threads run `--import` as well. Neither is
 * the worker: what is meant for the worker alone is taken out of the environment before the program sees it, and without
 * it, in another process than the one it names, or in a thread, nothing is done at all.
 *
 * What is imported from here is on the way of every start: the addon and the files beside this one, nothing else. All of
 * it is loaded now and nothing at the drain, when another version of the package may have taken its place on the disk.
 */
import { isMainThread } from 'node:worker_threads';
import { PRIVATE_VARIABLES } from '../protocol.js';

const { SPILLWAY_WORKER: start, LISTEN_PID: pid } = process.env;

if (isMainThread && start !== undefined && pid === String(process.pid)) {
  for (const name of PRIVATE_VARIABLES) delete process.env[name];
  const { begin } = await import('./begin.js');
  begin(JSON.parse(start));
}
