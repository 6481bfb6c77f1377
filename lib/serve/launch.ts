/** How a worker is started: through the launcher, with its listener as descriptor 3. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SpillwayError, systemError } from '../errors.js';
import { packageRoot } from '../native.js';
import type { Plan } from './options.js';
import { FIRST_FD, type InheritedListener } from './protocol.js';

/** The launcher writes here why the program cannot be run; it is closed when the program runs. */
const REPORT_FD = FIRST_FD + 1;

const LAUNCHER = join(packageRoot, 'build/Release/spillway-launch');
const PRELOAD = join(packageRoot, 'dist/lib/serve/preload.js');

/** What Node and systemd leave in a process's environment for that process alone. */
const NOT_PASSED_ON = [
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'LISTEN_PID',
  'NODE_CHANNEL_FD',
  'NODE_CHANNEL_SERIALIZATION_MODE',
  'NODE_UNIQUE_ID',
  'SPILLWAY_LISTENERS',
];

/** @throws {SpillwayError} `ERR_SPILLWAY_ADDON` naming the file that has not been built. */
export function assertBuilt(): void {
  for (const file of [LAUNCHER, PRELOAD]) {
    if (!existsSync(file)) throw new SpillwayError('ERR_SPILLWAY_ADDON', `${file} has not been built`);
  }
}

/**
 * Starts one worker. `listener.fd` is the master's descriptor; the worker finds the listener at descriptor 3.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` for what spawn() refuses at once; the rest is told by the child's events.
 */
export function launch(plan: Plan, slot: number, listener: InheritedListener): ChildProcess {
  const { program, identity, stdio, cwd } = plan;
  const isNode = program.kind === 'node';
  const own = isNode
    ? [process.execPath, '--import', pathToFileURL(PRELOAD).href, ...program.execArgv, program.file]
    : [program.file];
  const options = [
    `--die-with-parent=${process.pid}`,
    `--report-fd=${REPORT_FD}`,
    // Node's IPC channel comes right after the report; no other descriptor shall reach the worker.
    `--close-from=${isNode ? REPORT_FD + 2 : REPORT_FD + 1}`,
    ...(isNode ? [] : ['--blocking']),
    ...(identity.uid === undefined ? [] : [`--uid=${identity.uid}`]),
    ...(identity.gid === undefined ? [] : [`--gid=${identity.gid}`]),
    ...(identity.groups.length === 0 ? [] : [`--groups=${identity.groups.join()}`]),
  ];
  try {
    return spawn(LAUNCHER, [...options, '--', ...own, ...program.args], {
      cwd,
      env: environment(plan, slot, { ...listener, fd: FIRST_FD }),
      stdio: [...stdio, listener.fd, 'pipe', ...(isNode ? ['ipc'] : [])] as StdioOptions,
    });
  } catch (error) {
    throw systemError('ERR_SPILLWAY_WORKER', `worker ${slot} cannot be started`, error);
  }
}

function environment({ env, program }: Plan, slot: number, listener: InheritedListener): NodeJS.ProcessEnv {
  const passed = { ...env };
  for (const name of NOT_PASSED_ON) delete passed[name];
  return {
    ...passed,
    PORT: String(listener.port),
    NODE_APP_INSTANCE: String(slot),
    SPILLWAY_SLOT: String(slot),
    ...(program.kind === 'node' ? { SPILLWAY_LISTENERS: JSON.stringify([listener]) } : {}),
    LISTEN_FDS: '1',
    LISTEN_FDNAMES: 'spillway',
  };
}
