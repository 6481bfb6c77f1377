/** What the benchmark reads of processes, held against processes that do what is known. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import {
  descriptors,
  listensOn,
  memory,
  processorTime,
  runs,
  sessionOf,
  treeOf,
} from '../../bench/service/processes.js';
import { until } from '../support/until.js';

const children: ChildProcess[] = [];
const servers: Server[] = [];

afterEach(() => {
  for (const { pid } of children.splice(0)) {
    try {
      process.kill(-(pid as number), 'SIGKILL');
    } catch {
      // All of its group have ended.
    }
  }
  for (const server of servers.splice(0)) server.close();
});

/** A shell that leads a session of its own. */
function shell(script: string): ChildProcess & { pid: number } {
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  children.push(child);
  return child as ChildProcess & { pid: number };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

test('the tree has the process and all its descendants, and no stranger', async () => {
  const { pid } = shell('(sleep 60 & wait) & (sleep 60 & wait) & wait');
  await until('all have been started', () => treeOf(pid).length === 5);
  expect(treeOf(pid)[0]).toBe(pid);
  expect(treeOf(process.pid)).toEqual(expect.arrayContaining(treeOf(pid)));
  expect(treeOf(pid)).not.toContain(process.pid);
});

test('the session also has those whose parent has gone', async () => {
  const child = shell('(sleep 60 &) ; read line');
  await until('both have been started', () => sessionOf(child.pid).length === 2);
  child.stdin?.end('\n');
  await ended(child);
  expect(treeOf(child.pid)).toEqual([]);
  expect(sessionOf(child.pid)).toHaveLength(1);
});

test('a process that has ended is none, also before its parent has noticed', async () => {
  // The shell does not wait for its child, which is a zombie after its end.
  const { pid, stdin } = shell('sleep 0.01 & echo; read line');
  await until('the child has ended', () => treeOf(pid).length === 1);
  expect(runs(pid)).toBe(true);
  stdin?.end('\n');
  await ended(children[0] as ChildProcess);
  expect(runs(pid)).toBe(false);
  expect(treeOf(pid)).toEqual([]);
  expect(memory(pid)).toBe(0);
  expect(descriptors(pid)).toBe(0);
  expect(processorTime(pid)).toBe(0);
});

test('processor time counts descendants, also those that have ended', async () => {
  const spin = 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done';
  const { pid, stdout } = shell(`(${spin}); echo over; read line`);
  await once(stdout as NodeJS.ReadableStream, 'data');
  expect(treeOf(pid)).toHaveLength(1);
  expect(processorTime(pid)).toBeGreaterThanOrEqual(20);
});

test('memory and descriptors are those of the process', () => {
  const { rss } = process.memoryUsage();
  expect(memory(process.pid)).toBeGreaterThan(rss / 10);
  expect(memory(process.pid)).toBeLessThan(rss * 1.1);
  const before = descriptors(process.pid);
  servers.push(createServer().listen(0));
  expect(descriptors(process.pid)).toBe(before + 1);
  expect(descriptors(process.pid)).toBe(readdirSync('/proc/self/fd').length);
});

test('who listens on a port is found, whatever else has to do with it', async () => {
  const server = createServer();
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  expect(listensOn([process.pid], port)).toBe(true);
  expect(listensOn([shell('read line').pid], port)).toBe(false);
  expect(listensOn([process.pid], port - 1)).toBe(false);
  server.close();
  await once(server, 'close');
  expect(listensOn([process.pid], port)).toBe(false);
});
