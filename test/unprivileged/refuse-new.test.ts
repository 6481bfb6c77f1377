/**
 * A graceful stop without any capability: from `refuseNew()` on nobody new gets in, and who is in is served. Clients that
 * are half-way in are in test/kernel/refuse-new-classic.test.ts, where every segment can be sent by hand.
 */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { effectiveCapabilities } from '../../lib/group/capability.js';
import { SocketGroup } from '../../lib/group/group.js';
import { type NativeSocket, native } from '../../lib/native.js';
import { Limits } from '../support/descriptors.js';
import { until } from '../support/until.js';

/** Where a group listens, and where its clients call. */
const PLACES = [
  { at: '127.0.0.1', to: ['127.0.0.1'] },
  { at: '0.0.0.0', to: ['127.0.0.1', '127.0.0.3'] },
  { at: '::1', to: ['::1'] },
  { at: '::', to: ['::1', '127.0.0.1'] },
];
const ROUNDS = 10;
const CLIENTS_AT_ONCE = 8;

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function open(options: Partial<Parameters<typeof SocketGroup.open>[0]> = {}): Promise<SocketGroup> {
  const group = await SocketGroup.open({ host: '127.0.0.1', sockets: 3, backlog: 100, ...options });
  cleanUps.push(() => group.close());
  return group;
}

/** One client; resolves when the kernel has finished its handshake. */
async function connect(group: SocketGroup, to: string): Promise<Socket> {
  const client = createConnection(group.address.port, to);
  cleanUps.push(() => client.destroy());
  await once(client, 'connect');
  return client;
}

/** A client whose SYN is on its way; tells how it ends. */
function call(group: SocketGroup, to: string): Promise<string> {
  const client = createConnection(group.address.port, to);
  cleanUps.push(() => client.destroy());
  return new Promise((done) => {
    client.once('connect', () => done('connected'));
    client.once('error', ({ code }: NodeJS.ErrnoException) => done(code ?? 'error'));
  });
}

function serve(fd: number): void {
  new Socket({ fd }).resume().end('served');
}

/** Accepts and serves at all listeners of a group, as its workers would, until it is told to stop. */
function serveAll(group: SocketGroup): () => void {
  const sockets: NativeSocket[] = group.slots.map(
    (slot) => new (native().Socket)('duplicate', group.fd(slot)),
  );
  const look = () => {
    for (const socket of sockets) for (let fd = socket.accept(); fd >= 0; fd = socket.accept()) serve(fd);
  };
  const timer = setInterval(look, 1);
  return () => {
    clearInterval(timer);
    for (const socket of sockets) socket.close();
  };
}

const queued = (group: SocketGroup) => group.slots.reduce((sum, slot) => sum + group.queue(slot), 0);
const descriptors = () => readdirSync('/proc/self/fd').length;

test('this process has no capability at all', () => {
  expect(effectiveCapabilities()).toBe(0n);
});

describe.each(['cbpf', 'none'] as const)('%s', (selector) => {
  describe.each(PLACES)('at $at', ({ at, to }) => {
    test('what is queued is served, what comes later waits for the end of the group and is refused then', async () => {
      const group = await open({ selector, host: at });
      const early: Socket[] = [];
      for (let count = 0; count < 6; count++) early.push(await connect(group, to[count % to.length]!));
      expect([group.refusesNew, group.handshakes()]).toEqual([false, 0]);

      expect(await Promise.all([group.refuseNew(), group.refuseNew()])).toEqual([true, true]);
      expect(await group.refuseNew()).toBe(true);

      expect(group.refusesNew).toBe(true);
      const late = to.map((address) => call(group, address));
      const answers = early.map(async (client) => String((await once(client, 'data'))[0]));
      const stop = serveAll(group);
      expect(await Promise.all(answers)).toEqual(Array(6).fill('served'));
      stop();
      expect([queued(group), group.handshakes()]).toEqual([0, 0]);
      group.close();
      expect(await Promise.all(late)).toEqual(to.map(() => 'ECONNREFUSED'));
    });

    test(`${ROUNDS} times under a stream of clients: who got in is served, and nobody gets in afterwards`, async () => {
      const before = descriptors();
      const totals: Record<string, number> = {};
      for (let round = 0; round < ROUNDS; round++) {
        const group = await open({ selector, host: at, onConnection: serve });
        const stop = serveAll(group);
        const shared = new Int32Array(new SharedArrayBuffer(8));
        const enter = (phase: number) => {
          Atomics.store(shared, 0, phase);
          Atomics.store(shared, 1, 0);
        };
        const begun = (count: number) => until('clients begin', () => Atomics.load(shared, 1) >= count);
        const clients = new Worker(new URL('../support/served-clients.mjs', import.meta.url), {
          workerData: { port: group.address.port, addresses: to, atOnce: CLIENTS_AT_ONCE, shared },
        });
        await begun(40);
        expect(await group.refuseNew()).toBe(true);
        enter(1);
        // More than at once: some of them have begun in this phase for certain.
        await begun(2 * CLIENTS_AT_ONCE);
        await until('everybody is in', () => queued(group) === 0 && group.handshakes() === 0);
        stop();
        group.close();
        enter(2);
        await begun(2 * CLIENTS_AT_ONCE);
        const answer = once(clients, 'message') as Promise<[Record<string, number>]>;
        const gone = once(clients, 'exit');
        clients.postMessage('stop');
        const [counts] = await answer;
        await gone;
        for (const [key, count] of Object.entries(counts)) totals[key] = (totals[key] ?? 0) + count;
      }
      // Who began just before one change may have sent the SYN just after it.
      const {
        '0: served': served = 0,
        '1: dropped': dropped = 0,
        '2: ECONNREFUSED': refused = 0,
        '0: dropped': lateSyn = 0,
        '1: ECONNREFUSED': lastSyn = 0,
        ...others
      } = totals;
      expect(others).toEqual({});
      expect(served).toBeGreaterThan(ROUNDS * 20);
      expect(dropped).toBeGreaterThanOrEqual(ROUNDS * CLIENTS_AT_ONCE);
      expect(refused).toBeGreaterThanOrEqual(ROUNDS * CLIENTS_AT_ONCE);
      expect(lateSyn).toBeLessThanOrEqual(ROUNDS * CLIENTS_AT_ONCE);
      expect(lastSyn).toBeLessThanOrEqual(ROUNDS * CLIENTS_AT_ONCE);
      await until('nothing is left open', () => descriptors() <= before);
    }, 60_000);
  });

  test('without a free descriptor it cannot be done, nothing has changed, and it can be tried again', async () => {
    const group = await open({ selector });
    const before = descriptors();
    const limits = new Limits();
    cleanUps.push(() => limits.end());
    await limits.lower();
    const done = await group.refuseNew();
    await limits.raise();
    expect([done, group.refusesNew]).toEqual([false, false]);
    await limits.end();
    await until('nothing is left open', () => descriptors() <= before);
    for (let count = 0; count < 30; count++) await connect(group, '127.0.0.1');
    expect(queued(group)).toBe(30);
    expect(await group.refuseNew()).toBe(true);
  });
});
