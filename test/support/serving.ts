/** Masters with real workers, and the clients and looks into /proc that tests of them need. */
import { readdirSync, readFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:http';
import { fileURLToPath } from 'node:url';
import { afterEach } from 'vitest';
import { EBPF_NEEDS, missingCapabilities } from '../../lib/group/capability.js';
import { SELECTORS } from '../../lib/group/options.js';
import { Master } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { until } from './until.js';

/** The selectors, each with what is missing for it here. */
export const TIERS = SELECTORS.map((selector) => ({
  selector,
  missing: selector === 'ebpf' ? missingCapabilities(EBPF_NEEDS) : [],
}));

export function program(name: string): string {
  return fileURLToPath(new URL(`programs/${name}`, import.meta.url));
}

const masters = new Set<Master>();

/** A master on loopback, any port unless others are named, that ends with the test. Its workers are quiet. */
export async function startMaster(options: Partial<MasterOptions>): Promise<Master> {
  const place = options.listen ? {} : { host: '127.0.0.1', port: 0 };
  const master = await Master.start({ ...place, workers: 2, stdio: 'ignore', ...options });
  masters.add(master);
  return master;
}

afterEach(async () => {
  await Promise.all([...masters].map((master) => master.close({ timeout: 1000 })));
  masters.clear();
});

/** What the served programs tell about themselves. */
export interface Answer {
  pid: number;
  slot: string;
  [more: string]: unknown;
}

/** One HTTP request on a connection of its own. */
export function askAt(options: RequestOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const query = request({ ...options, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve(JSON.parse(body)));
      response.on('error', reject);
    });
    query.on('error', reject);
    query.end();
  });
}

/** The same, of a master. */
export function ask({ group }: Master, path = '/'): Promise<Answer> {
  const { address, port } = group.address;
  const host = address === '::' ? '::1' : address === '0.0.0.0' ? '127.0.0.1' : address;
  return askAt({ host, port, path });
}

export function askMany(master: Master, count: number): Promise<Answer[]> {
  return Promise.all(Array.from({ length: count }, () => ask(master)));
}

/** Sends a message to a program that answers, like obedient.mjs, with `{ order, result }`. */
export function order(
  master: Master,
  worker: Worker,
  name: string,
  details: Record<string, unknown> = {},
): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const hear = (from: Worker, message: unknown) => {
      const reply = message as { order: string; result: Record<string, unknown> };
      if (from !== worker || reply.order !== name) return;
      master.off('worker:message', hear);
      resolve(reply.result);
    };
    master.on('worker:message', hear);
    worker.send({ order: name, ...details });
  });
}

/** A line of /proc/PID/status; undefined when the process is gone. */
export function status(pid: number, field: string): string | undefined {
  try {
    return new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  } catch {
    return undefined;
  }
}

/**
 * Resolves when the process has ended and holds nothing any more. A zombie that nobody has waited for has ended as well,
 * but only with the last of its threads, which share its descriptors.
 */
export async function gone(pid: number): Promise<void> {
  await until(`process ${pid} is gone`, () => {
    try {
      const threads = readdirSync(`/proc/${pid}/task`).length;
      return threads <= 1 && status(pid, 'State')?.startsWith('Z');
    } catch {
      return true;
    }
  });
}

/** Stops a process; resolves when it runs no more. */
export async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await until(`process ${pid} is stopped`, () => status(pid, 'State')?.startsWith('T'));
}

/** Lets a process that was stopped go on; resolves when it does. */
export async function goOn(pid: number): Promise<void> {
  process.kill(pid, 'SIGCONT');
  await until(`process ${pid} goes on`, () => !status(pid, 'State')?.startsWith('T'));
}

/** Children of this process that are alive. */
export function children(): number[] {
  return readdirSync('/proc/self/task').flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
}

export function descriptorCount(): number {
  return readdirSync('/proc/self/fd').length;
}
