/** The network with a delay: what it does to a connection, and that nothing is left of it. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { networkInterfaces } from 'node:os';
import { pathToFileURL } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { type OpenDelay, openDelay } from '../../bench/load/delay.js';
import { runLoad } from '../../bench/load/generator.js';
import type { Work } from '../../bench/load/order.js';
import { steady } from '../../bench/load/schedule.js';
import { histogram, outcomes, percentiles } from '../../bench/load/summary.js';
import { httpServer } from '../support/bench-server.js';
import { descendants } from '../support/cli.js';
import { ownNetwork } from '../support/network.js';
import { gone } from '../support/serving.js';
import { until } from '../support/until.js';

ownNetwork();

const CLOSE = 'GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n';
const KEEP = 'GET / HTTP/1.1\r\nHost: test\r\n\r\n';
const CPU = 0;
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

let opened: OpenDelay | undefined;
afterEach(async () => {
  await opened?.close();
  opened = undefined;
});

async function open(roundTrip: number): Promise<OpenDelay> {
  opened = await openDelay(roundTrip, { cpu: CPU });
  return opened;
}

function load({ host, network, sources }: OpenDelay, port: number, work: Work, request = CLOSE) {
  const order = { target: { host, port }, work, requests: [request], timeout: 2000 };
  return runLoad({ ...order, sources, cpu: CPU, network });
}

const arrivals = steady({ rate: 100, milliseconds: 1000, seed: 1 });

test('a handshake takes a round trip, and a request after it another one', async () => {
  const delay = await open(20);
  const server = await httpServer(undefined, delay.host);
  const samples = await load(delay, server.port, { mode: 'connections', arrivals });
  expect(outcomes(samples).ok).toBe(100);
  const connected = percentiles(histogram(samples, 'connected'));
  expect(Math.min(...samples.connected)).toBeGreaterThan(20);
  expect(connected.p50).toBeLessThan(20.5);
  expect(Math.min(...samples.firstByte)).toBeGreaterThan(40);
  expect(percentiles(histogram(samples, 'firstByte')).p50).toBeLessThan(43);
  expect(server.connections).toBe(100);
  expect([...server.sources.keys()].every((source) => delay.sources.includes(source))).toBe(true);
  expect(server.sources.size).toBe(delay.sources.length);
});

test('half of it passes in either direction', async () => {
  const delay = await open(100);
  const reached: number[] = [];
  const server = await httpServer((response) => {
    reached.push(Number(process.hrtime.bigint()) / 1e6);
    response.end('only');
  }, delay.host);
  const few = steady({ rate: 5, milliseconds: 1000, seed: 1, spacing: 'even' });
  const work: Work = { mode: 'keep-alive', arrivals: few, connections: 1 };
  const samples = await load(delay, server.port, work, KEEP);
  expect(outcomes(samples).ok).toBe(5);
  // The first one waits for its handshake, and the next may wait for the first.
  for (let index = 2; index < 5; index++) {
    const sent = samples.startedAt + (samples.due[index] as number);
    const there = (reached[index] as number) - sent;
    const andBack = samples.firstByte[index] as number;
    expect(there).toBeGreaterThanOrEqual(50);
    expect(there).toBeLessThan(55);
    expect(andBack - there).toBeGreaterThan(45);
    expect(andBack).toBeLessThan(105);
  }
});

test('thousands of packets under way come out in order and complete', async () => {
  const delay = await open(20);
  const server = await httpServer(undefined, delay.host);
  const many = steady({ rate: 2000, milliseconds: 1000, seed: 1 });
  const samples = await load(
    delay,
    server.port,
    { mode: 'keep-alive', arrivals: many, connections: 500 },
    KEEP,
  );
  expect(outcomes(samples).ok).toBe(2000);
  expect(server.connections).toBe(500);
  await expect(delay.close()).resolves.toBeUndefined();
});

test('nothing is left of it, also when it is closed twice or its process is killed', async () => {
  const names = () => Object.keys(networkInterfaces()).filter((name) => name.startsWith('delay'));
  const first = await openDelay(20, { cpu: null });
  expect(names()).toHaveLength(1);
  await first.close();
  await first.close();
  expect(names()).toEqual([]);
  expect(() => readFileSync(first.network)).toThrow(/ENOENT/);

  const second = await openDelay(20, { cpu: null });
  const pid = Number(second.network.split('/')[2]);
  process.kill(pid, 'SIGKILL');
  await expect(second.close()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_SYSTEM' });
  await until('the interface has gone', () => names().length === 0);
});

test('both programs end with whoever started them, however that ends', async () => {
  const server = await httpServer((response) => void response.writeHead(200));
  const hold = { mode: 'hold', arrivals: { at: [0], kind: [0] }, milliseconds: 20_000 };
  const order = { target: { host: '127.0.0.1', port: server.port }, requests: [KEEP], timeout: 20_000 };
  const code = `
    import { openDelay } from '${new URL('../../bench/load/delay.ts', import.meta.url)}';
    import { runLoad } from '${new URL('../../bench/load/generator.ts', import.meta.url)}';
    const at = Float64Array.of(0), kind = Uint8Array.of(0);
    const work = { ...${JSON.stringify(hold)}, arrivals: { at, kind } };
    await openDelay(20, { cpu: null });
    await runLoad({ ...${JSON.stringify(order)}, work, sources: [], cpu: null, network: null });
  `;
  const parent = spawn(process.execPath, ['--import', TSX, '--input-type=module', '-e', code], {
    stdio: 'inherit',
  });
  try {
    await until('the load has begun', () => server.open.size === 1);
    const names = (pid: number) => readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
    const children = descendants(parent.pid as number).filter((pid) =>
      names(pid).startsWith('spillway-bench'),
    );
    expect(children).toHaveLength(2);
    parent.kill('SIGKILL');
    for (const pid of children) await gone(pid);
  } finally {
    parent.kill('SIGKILL');
  }
  await until('the server sees the connection closed', () => server.open.size === 0);
});
