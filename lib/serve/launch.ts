/** How a worker is started: through the launcher, with its listeners from descriptor 3 on. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SpillwayError, systemError } from '../errors.js';
import { packageRoot } from '../native.js';
import type { HintsPage } from './hints-rows.js';
import type { Plan } from './options.js';
import type { Place } from './placement.js';
import { withPreload } from './preload-option.js';
import { FIRST_FD, type InheritedListener, PRIVATE_VARIABLES, type WorkerStart } from './protocol.js';

const LAUNCHER = join(packageRoot, 'build/Release/spillway-launch');
const PRELOAD = join(packageRoot, 'dist/lib/serve/worker/preload.cjs');

/** What Node, systemd and this package leave in a process's environment for that process alone. */
const NOT_PASSED_ON = [
  ...PRIVATE_VARIABLES,
  'NODE_CHANNEL_FD',
  'NODE_CHANNEL_SERIALIZATION_MODE',
  'NODE_UNIQUE_ID',
  'NOTIFY_SOCKET',
  'WATCHDOG_PID',
  'WATCHDOG_USEC',
];

/** What a worker is given. The descriptors are the master's, and stay so. */
export interface Gifts {
  listeners: readonly InheritedListener[];
  /** Only for Node programs: where they note what their event loop does, and the channel on which they are asked to help. */
  node?: { hints: Pick<HintsPage, 'fd'>; help: number };
  /** Name of the abstract socket of the master's desk. */
  desk: string;
  /** The port in the variable PORT; undefined leaves it as it is. */
  port: number | undefined;
  /** Processors that it may use; undefined: the master's. */
  cpus?: Place | undefined;
  /** Its end of the lifeline, if it outlives its master; otherwise it ends with it. */
  lifeline?: number | undefined;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_ADDON` naming the file that has not been built. */
export function assertBuilt(): void {
  for (const file of [LAUNCHER, PRELOAD]) {
    if (!existsSync(file)) throw new SpillwayError('ERR_SPILLWAY_ADDON', `${file} has not been built`);
  }
}

/** Where in the child's `stdio` the launcher's report is: it writes there why the program cannot be run. */
export function reportAt(listeners: number): number {
  return FIRST_FD + listeners;
}

/**
 * Starts one worker. It finds its listeners from descriptor 3 on.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` for what spawn() refuses at once; the rest is told by the child's events.
 */
export function launch(plan: Plan, slot: number, gifts: Gifts): ChildProcess {
  const { program, identity, stdio, cwd } = plan;
  const { node } = gifts;
  const report = reportAt(gifts.listeners.length);
  const own = node
    ? [process.execPath, '--require', PRELOAD, ...program.execArgv, program.file]
    : [program.file];
  // Behind the report come these and Node's IPC channel; no other descriptor shall reach the worker.
  const { lifeline } = gifts;
  const shared = node ? [node.hints.fd, node.help, 'ipc'] : [];
  const more = lifeline === undefined ? shared : [...shared, lifeline];
  const options = [
    lifeline === undefined ? `--die-with-parent=${process.pid}` : `--lifeline=${report + more.length}`,
    // Ctrl-C in the master's terminal is the master's to deal with.
    '--own-group',
    `--report-fd=${report}`,
    `--close-from=${report + 1 + more.length}`,
    ...(node ? [] : ['--blocking']),
    ...(gifts.cpus ? [`--cpus=${gifts.cpus.join()}`] : []),
    ...(identity.uid === undefined ? [] : [`--uid=${identity.uid}`]),
    ...(identity.gid === undefined ? [] : [`--gid=${identity.gid}`]),
    ...(identity.groups.length === 0 ? [] : [`--groups=${identity.groups.join()}`]),
  ];
  try {
    return spawn(LAUNCHER, [...options, '--', ...own, ...program.args], {
      cwd,
      env: {
        ...environment(plan, slot, gifts, report + 1),
        // Here it comes first. On the command line as well: a Node that has capabilities from its file does not look here.
        ...(node ? { NODE_OPTIONS: withPreload(plan.env.NODE_OPTIONS, PRELOAD) } : {}),
      },
      stdio: [...stdio, ...gifts.listeners.map(({ fd }) => fd), 'pipe', ...more] as StdioOptions,
    });
  } catch (error) {
    throw systemError('ERR_SPILLWAY_WORKER', `worker ${slot} cannot be started`, error);
  }
}

/** @param next the first descriptor behind the report, in the worker. */
function environment({ env }: Plan, slot: number, gifts: Gifts, next: number): NodeJS.ProcessEnv {
  const passed = { ...env };
  for (const name of NOT_PASSED_ON) delete passed[name];
  const { listeners, desk, port } = gifts;
  const start: WorkerStart = {
    slot,
    master: process.pid,
    kept: gifts.lifeline !== undefined,
    desk,
    hints: next,
    help: next + 1,
    listeners: listeners.map((listener, index) => ({ ...listener, fd: FIRST_FD + index })),
  };
  return {
    ...passed,
    ...(port === undefined ? {} : { PORT: String(port) }),
    NODE_APP_INSTANCE: String(slot),
    SPILLWAY_SLOT: String(slot),
    ...(gifts.node ? { SPILLWAY_WORKER: JSON.stringify(start) } : {}),
    LISTEN_FDS: String(listeners.length),
    LISTEN_FDNAMES: listeners.map(() => 'spillway').join(':'),
  };
}
