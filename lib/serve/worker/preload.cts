/**
 * Loaded by `--require` into the Node programs a master starts; makes the process a worker.
 *
 * `--import` would have Node load every main program by its loader of ES modules, also a CommonJS one: what that program
 * finds in `module`, and which hooks of `-r` compile it, would not be what they are without Spillway. So this file is
 * CommonJS, and requires the ES modules beside it. None of those may await anything at its top level.
 *
 * Children of the program inherit its `execArgv` and environment, and worker threads run `--require` as well. Neither is
 * the worker: what is meant for the worker alone is taken out of the environment before the program sees it, and without
 * it, in another process than the one it names, or in a thread, nothing is done at all.
 *
 * What is imported from here is on the way of every start: the addon and the files beside this one, nothing else. All of
 * it is loaded now and nothing at the drain, when another version of the package may have taken its place on the disk.
 */
import threads = require('node:worker_threads');

const { SPILLWAY_WORKER: start, LISTEN_PID: pid, NODE_OPTIONS } = process.env;

if (threads.isMainThread && start !== undefined && pid === String(process.pid)) {
  const { begin, PRIVATE_VARIABLES, withoutPreload } = load();
  for (const name of PRIVATE_VARIABLES) delete process.env[name];
  const options = withoutPreload(NODE_OPTIONS, __filename);
  if (options === undefined) delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = options;
  begin(JSON.parse(start));
}

/** Node 22.12 warns of the first require() of an ES module, which is none of the program's. */
function load() {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return {
      ...(require('./begin.js') as typeof import('./begin.js')),
      ...(require('../protocol.js') as typeof import('../protocol.js')),
      ...(require('../preload-option.js') as typeof import('../preload-option.js')),
    };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_REQUIRE_ESM') throw cause;
    throw new Error(
      'A worker of Spillway needs a Node that can require() ES modules: 20.19, 22.12 or later, without --no-experimental-require-module',
      { cause },
    );
  } finally {
    process.emitWarning = emitWarning;
  }
}
