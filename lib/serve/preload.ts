/**
 * Loaded by `--import` into the Node programs a master starts; gives their `server.listen()` the inherited listener.
 *
 * Children of the program inherit its `execArgv` and environment, and worker threads run `--import` as well. Neither is
 * the worker: what is meant for the worker alone is taken out of the environment before the program sees it, and without
 * it, in another process than the one it names, or in a thread, nothing is done at all.
 */
import { isMainThread } from 'node:worker_threads';
import { PRIVATE_VARIABLES } from './protocol.js';

const { SPILLWAY_LISTENERS: listeners, LISTEN_PID: pid } = process.env;

if (isMainThread && listeners !== undefined && pid === String(process.pid)) {
  for (const name of PRIVATE_VARIABLES) delete process.env[name];
  const { inherit } = await import('./inherited.js');
  inherit(JSON.parse(listeners));
}
