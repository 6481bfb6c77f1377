/**
 * Keeps plain processes of the program alive, each with variables of its own, and what stands in front of them:
 *
 *   node keeper.js PLAN
 *
 * The workers know nothing of each other. One that ends is started again at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { listensOn } from '../../service/processes.js';
import { tied } from '../tied.js';
import { END_WITHIN, type Launcher, obey } from './orders.js';
import type { KeeperPlan } from './plan.js';

/** Milliseconds between two looks whether somebody listens. */
const LOOK_EVERY = 10;

const plan = JSON.parse(process.argv[2] as string) as KeeperPlan;

/** By slot: the worker that serves there, or is about to. */
const serving: ChildProcess[] = [];
let front: ChildProcess | undefined;
let started = false;
let ending = false;

/** A new one on the address of the plan, shared with others: the worker listens on it, so that nothing waits there before. */
async function socket(): Promise<{ fd: number; close(): void } | undefined> {
  if (!plan.share) return undefined;
  // Only here is the addon needed: a Node of another version runs this file, too.
  const { native } = await import('../../../lib/native.js');
  const { SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT } = native().constants as Record<string, number>;
  const opened = new (native().Socket)('create', 4);
  opened.setInt(SOL_SOCKET as number, SO_REUSEADDR as number, 1);
  opened.setInt(SOL_SOCKET as number, SO_REUSEPORT as number, 1);
  opened.bind(plan.share.host, plan.share.port, 4);
  return opened;
}

/** Starts a worker; resolves when it is spawned. */
async function spawned(slot: number): Promise<ChildProcess> {
  const shared = await socket();
  const own = shared ? { BENCH_FD: '3' } : {};
  const [file, ...args] = tied('KILL', [process.execPath, plan.program]);
  const worker = spawn(file, args, {
    env: { ...process.env, ...plan.workers[slot], ...own },
    stdio: ['ignore', 'inherit', 'inherit', ...(shared ? [shared.fd] : []), 'ipc'],
  });
  // Now it is the worker's alone: when that ends, the kernel closes the socket with all that waits there.
  shared?.close();
  worker.once('exit', () => {
    if (started && !ending && serving[slot] === worker) void keep(slot);
  });
  return worker;
}

async function keep(slot: number): Promise<void> {
  serving[slot] = await spawned(slot);
}

function ready(worker: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('exit', () => reject(new Error('a worker has ended before it listened')));
  });
}

const runs = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;

/** Asks it to end; resolves when it has, which it is made to when it takes too long. */
async function end(child: ChildProcess): Promise<void> {
  const limit = setTimeout(() => child.kill('SIGKILL'), END_WITHIN);
  child.kill('SIGTERM');
  if (runs(child)) await once(child, 'exit');
  clearTimeout(limit);
}

/** The new worker serves before the old one is asked to end. */
async function replaceAhead(slot: number): Promise<void> {
  const fresh = await spawned(slot);
  await ready(fresh);
  const old = serving[slot] as ChildProcess;
  serving[slot] = fresh;
  await end(old);
}

/** The new worker gets the address of the old one, which must have gone. */
async function replaceInPlace(slot: number): Promise<void> {
  const old = serving[slot] as ChildProcess;
  delete serving[slot];
  await end(old);
  await keep(slot);
  await ready(serving[slot] as ChildProcess);
}

/** Starts what stands in front of the workers; resolves when it listens. */
async function startFront({ command, port }: NonNullable<KeeperPlan['front']>): Promise<void> {
  // With SIGTERM instead of SIGKILL it takes processes of its own along.
  const [file, ...args] = tied('TERM', command);
  const child = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  front = child;
  child.once('exit', () => {
    if (!ending) throw new Error(`${command[0]} has ended`);
  });
  while (!listensOn([child.pid as number], port)) await delay(LOOK_EVERY);
}

const launcher: Launcher = {
  async start() {
    await Promise.all(
      plan.workers.map(async (_, slot) => {
        await keep(slot);
        await ready(serving[slot] as ChildProcess);
      }),
    );
    // Not before: it may look whether the workers are there, and leave out for a while those that are not.
    if (plan.front) await startFront(plan.front);
    started = true;
  },
  async reload() {
    const replace = plan.ahead ? replaceAhead : replaceInPlace;
    for (const slot of plan.workers.keys()) await replace(slot);
  },
  async end() {
    ending = true;
    // A slot is empty while its worker is replaced.
    await Promise.all([...serving, front].filter((child) => child !== undefined).map(end));
  },
};

await obey(launcher);
