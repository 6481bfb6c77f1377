/** How every driver starts the process at the top of its service, and how all of it is ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { packageRoot } from '../../lib/native.js';
import { runs, sessionOf, treeOf } from '../service/processes.js';
import type { Service, ServiceOrder } from './driver.js';
import type { Told } from './launchers/orders.js';
import { tied } from './tied.js';

/** The program that every rival runs. */
export const PROGRAM = join(packageRoot, 'bench/service/program.mjs');

/** A compiled launcher, for a Node of any version. */
export const launcher = (name: string) => join(packageRoot, 'dist/bench/drivers/launchers', `${name}.js`);

/** Milliseconds in which a service must be there. */
const START_WITHIN = 20_000;

/** Milliseconds for the gentle end: more than the program's own 10 s. */
const STOP_WITHIN = 13_000;

/** Milliseconds in which the output of processes that have ended arrives. */
const LAST_WORDS_WITHIN = 1000;

/** Milliseconds between two looks at /proc: it costs processor time that is the service's. */
const LOOK_EVERY = 20;

/** Characters of output that an error shows. */
const OUTPUT_SHOWN = 8192;

/** Of the benchmark's own environment a service sees no more than this: Node's variables and the user's stay outside. */
const PASSED_ON = ['PATH', 'HOME', 'USER', 'LANG', 'TZ', 'TMPDIR'];

export interface Command {
  /** The executable with its arguments. */
  command: readonly [string, ...string[]];
  /** Beside PORT, HOST, BENCH_BACKLOG and what was ordered. */
  env?: Readonly<Record<string, string>>;
  /** Default the order's folder. */
  cwd?: string;
  /** Whether it speaks Node's IPC. */
  ipc?: boolean;
}

/** Variables that the program needs, and few others. */
export function environment(order: ServiceOrder): Record<string, string> {
  const passed = PASSED_ON.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []));
  return {
    ...Object.fromEntries(passed),
    NODE_ENV: 'production',
    PORT: String(order.port),
    HOST: order.host,
    BENCH_BACKLOG: String(order.backlog),
    ...order.env,
  };
}

/**
 * Starts the top process, bound to the order's processors and with a session of its own, waits until the service is
 * there, and ends everything again when it does not come up.
 *
 * @param ready resolves when it is there; it may be left behind when the process ends before.
 */
export async function startRoot(
  order: ServiceOrder,
  command: Command,
  ready: (root: Root) => Promise<unknown>,
): Promise<Root> {
  const root = new Root(order, command);
  const limit = new AbortController();
  try {
    await Promise.race([
      root.ended.then((how) => {
        throw new Error(`it ended before it served: ${how}`);
      }),
      delay(START_WITHIN, undefined, { signal: limit.signal }).then(() => {
        throw new Error(`it does not serve after ${START_WITHIN} ms`);
      }),
      ready(root),
    ]);
    return root;
  } catch (error) {
    await root.kill();
    const { message } = error as Error;
    throw new Error(`${command.command.join(' ')}: ${message}\n${root.output}`, { cause: error });
  } finally {
    limit.abort();
  }
}

/** The process at the top of a service. With its session and its descendants it is the whole service. */
export class Root {
  readonly child: ChildProcess;
  /** How the process ended: "code 1", or the name of a signal. */
  readonly ended: Promise<string>;
  /** Resolves when nobody holds its output open any more. */
  readonly #silent: Promise<unknown>;
  /** The last it wrote to stdout and stderr. */
  output = '';
  #gone = false;

  constructor(order: ServiceOrder, { command, env, cwd, ipc }: Command) {
    const bound = ['taskset', '--cpu-list', order.cpus.join(), ...command];
    const [file, ...args] = tied('KILL', bound);
    this.child = spawn(file, args, {
      cwd: cwd ?? order.folder,
      env: { ...environment(order), ...env },
      stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? (['ipc'] as const) : [])],
      // A session of its own: whatever it starts stays in it, also when a parent in between has gone.
      detached: true,
    });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output = (this.output + text).slice(-OUTPUT_SHOWN);
      });
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(error.message));
      this.child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    this.#silent = new Promise((resolve) => this.child.once('close', resolve));
  }

  get pid(): number {
    return this.child.pid as number;
  }

  runs(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Everything of the service that runs. */
  processes(): number[] {
    // Without a process id nothing was started.
    if (this.#gone || this.child.pid === undefined) return [];
    // The session keeps its number from being given to a stranger, as long as it has members.
    return [...new Set([...(this.runs() ? treeOf(this.pid) : []), ...sessionOf(this.pid)])];
  }

  /** Resolves when the condition holds, and is left behind when the process has ended. */
  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (this.runs() && !(await condition())) await delay(LOOK_EVERY);
    // How it ended is told by `ended`.
    if (!this.runs()) await new Promise(() => {});
  }

  /** Resolves with the next message that it sends; rejects when it ends before. */
  hears(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.child.once('message', resolve);
      void this.ended.then((how) => reject(new Error(`it has ended: ${how}`)));
    });
  }

  /** Ends everything, gently at first: SIGTERM to the top process, or to who is left without it. */
  async stop(): Promise<void> {
    // One that was stopped hears nothing.
    signal(this.processes(), 'SIGCONT');
    const deadline = performance.now() + STOP_WITHIN;
    if (!this.child.kill('SIGTERM')) signal(this.processes(), 'SIGTERM');
    while (this.processes().length > 0 && performance.now() < deadline) await delay(LOOK_EVERY);
    await this.kill();
  }

  /** Ends everything at once. */
  async kill(): Promise<void> {
    for (let left = this.processes(); left.length > 0; left = this.processes()) {
      signal(left, 'SIGKILL');
      while (left.some(runs)) await delay(LOOK_EVERY);
    }
    await this.ended;
    this.#gone = true;
    // What it wrote last shall be known; should a stranger hold the pipes open, it is not waited for long.
    const limit = new AbortController();
    await Promise.race([this.#silent, delay(LAST_WORDS_WITHIN, undefined, { signal: limit.signal })]);
    limit.abort();
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.destroy();
    if (this.child.connected) this.child.disconnect();
  }
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Starts one of launchers/, which speak as launchers/orders.ts says. */
export async function startLauncher(order: ServiceOrder, command: Command): Promise<Service> {
  const root = await startRoot(order, { ...command, ipc: true }, (it) => it.hears());
  return {
    pid: root.pid,
    reload: async () => {
      const answer = root.hears();
      root.child.send('reload');
      const { failed } = (await answer) as Told;
      if (failed !== undefined) throw new Error(`the reload failed: ${failed}\n${root.output}`);
    },
    stop: () => root.stop(),
  };
}

/**
 * Runs a command of a rival's own, such as its reload, to its end, where the service runs and in its environment.
 * Rejects with what it wrote unless it ends with code 0.
 */
export async function run(order: ServiceOrder, command: Command): Promise<void> {
  const root = new Root(order, command);
  const how = await root.ended;
  await root.kill();
  if (how !== 'code 0') throw new Error(`${command.command.join(' ')}: ${how}\n${root.output}`);
}
