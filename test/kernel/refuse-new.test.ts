/**
 * A group that refuses what is new, for a graceful stop, with the selector `ebpf` (the others: refuse-new-classic.test.ts).
 * Scenarios:
 *
 *   who is new is refused at once, whatever the options say, then or later
 *   who was there before is served: queued, half-open, answered with a SYN cookie
 *   clients that were answered are given the best place there is
 *   members still come and go
 *   nobody gets in while the group is closed
 */

import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { packageRoot } from '../../lib/native.js';
import { targetOf } from '../support/clients.js';
import { named } from '../support/named.js';
import { ownNetwork, setKernelParameter } from '../support/network.js';
import { type Puppet, usePuppet } from '../support/puppet.js';
import { onlySlot, queues, READ_BY, sum, taken, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();
let puppet: Puppet;

usePuppet((started) => {
  puppet = started;
});

/** Five clients in a row are refused, and refused at once: the first look finds the answer. */
function expectRefusal(group: SocketGroup): void {
  expect(scene.connect(group, 5).states).toEqual(new Array(5).fill('ECONNREFUSED'));
}

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test.each(['drop', 'reset'] as const)(
    "with overflow '%s' the queued are served and the new are refused",
    async (overflow) => {
      const group = await scene.open({ sockets: 3, backlog: 8, overflow, readBy });
      const early = scene.connect(group, 12);
      expect(group.refusesNew).toBe(false);

      expect(await group.refuseNew()).toBe(true);

      expect(group.refusesNew).toBe(true);
      expectRefusal(group);
      expect(group.stats()).toMatchObject({ reset: 5, dropped: 0, kernelDrops: 0 });
      expect(early.established).toBe(12);
      early.say((index) => `client ${index}`);
      const served = scene.acceptAll(group).flat();
      const heard = served.map((fd) => testing().receive(fd).text);
      expect(heard.sort()).toEqual(Array.from({ length: 12 }, (_, index) => `client ${index}`).sort());
      for (const fd of served) testing().send(fd, 'welcome');
      expect(early.heard()).toEqual(new Array(12).fill('welcome'));
      // With everybody served there is room everywhere; it makes no difference.
      expectRefusal(group);
      expect(await group.refuseNew()).toBe(true);
    },
  );

  test('a SYN that was dropped before is refused when it comes again', async () => {
    const group = await scene.open({ sockets: 1, backlog: 1, readBy });
    scene.connect(group, 2);
    const waiting = scene.connect(group, 2);
    expect(waiting.unanswered).toBe(2);
    await group.refuseNew();
    await until('both are refused', () => waiting.count('ECONNREFUSED') === 2);
  });

  describe.each([4, 6] as const)('IPv%i', (family) => {
    const open = (options: Parameters<typeof scene.open>[0] = {}) =>
      scene.open({ host: puppet.address[family], sockets: 2, backlog: 8, readBy, ...options });

    test.each(
      named(
        [
          { cookies: 1, what: 'half-open' },
          { cookies: 2, what: 'answered with a SYN cookie' },
        ],
        (row) => `a client that was ${row.what} gets in`,
      ),
    )('%s', async (_, { cookies }) => {
      setKernelParameter('net.ipv4.tcp_syncookies', cookies);
      const group = await open();
      const { port } = group.address;
      const early = await puppet.clients(6, { family, port });
      for (const client of early) {
        await client.syn();
        await client.expect('SYN+ACK');
      }
      expect(sum(group.stats().sockets.map(({ halfOpen }) => halfOpen!))).toBe(cookies === 2 ? 0 : 6);

      await group.refuseNew();
      const late = await puppet.client({ family, port });
      await late.syn();
      await late.expect('RST+ACK');
      for (const client of early) await client.ack();

      const connections = scene.acceptAll(group).flat();
      expect(connections).toHaveLength(6);
      for (const client of early) await client.data(client.name);
      expect(connections.map((fd) => testing().receive(fd).text).sort()).toEqual(
        early.map(({ name }) => name).sort(),
      );
      expect(early.filter(({ wasReset }) => wasReset)).toEqual([]);
      const { decisions, reset } = group.stats();
      expect(reset).toBe(1);
      expect(taken(group.stats(), 'cookieAck')).toBe(cookies === 2 ? 6 : 0);
      expect(decisions!.cookieAck).toMatchObject({ dropped: 0, reset: 0, failed: 0 });
    });

    test('a cookie ACK goes where its owner had slots enabled, and there where room is, whatever they weigh', async () => {
      setKernelParameter('net.ipv4.tcp_syncookies', 2);
      const group = await open({ sockets: 3, backlog: 30 });
      const { port } = group.address;
      // Slot 0 is of no use, slot 1 is full for all its weight, slot 2 has one place left.
      group.setOption('backlog', 4, 1);
      group.setOption('weight', 1000, 1);
      await onlySlot(group, 1, async () => {
        for (const client of await puppet.clients(5, { family, port })) await client.connect();
      });
      await onlySlot(group, 2, async () => {
        for (const client of await puppet.clients(30, { family, port })) await client.connect();
      });
      group.setOption('enabled', false, 0);
      expect(queues(group)).toEqual([0, 5, 30]);
      const early = await puppet.client({ family, port });
      await early.syn();
      await early.expect('SYN+ACK');

      await group.refuseNew();
      await early.ack();

      expect(queues(group)).toEqual([0, 5, 31]);
    });
  });

  test('no option brings a slot back, and options go on telling what was asked for', async () => {
    const group = await scene.open({ sockets: 3, backlog: 8, readBy });
    group.setOption('enabled', false, 2);
    await group.refuseNew();
    expect([0, 1, 2].map((slot) => group.getOption('enabled', slot))).toEqual([true, true, false]);

    group.setOption('enabled', true, 2);
    group.setOption('enabled', true);
    group.setOption('overflow', 'drop');
    group.setOption('weight', 7, 1);
    group.setOption('backlog', 100);
    group.setOption('policy', 'least-queue');
    group.setOption('deferAccept', 0);
    group.setOption('selector', 'auto');
    group.setOption('selector', 'ebpf');
    expectRefusal(group);

    for (const selector of ['cbpf', 'none'] as const) {
      expect(() => group.setOption('selector', selector)).toThrow(
        expect.objectContaining({ code: 'ERR_SPILLWAY_OPTION_TIER' }),
      );
    }
    expectRefusal(group);
    expect(group.getOption('overflow')).toBe('drop');
  });

  test('members come and go: queues still move to siblings, and newcomers get nothing', async () => {
    const group = await scene.open({ sockets: 3, backlog: 30, readBy });
    const clients = scene.connect(group, 30);
    await group.refuseNew();

    expect(await group.add()).toBe(3);
    expectRefusal(group);
    await group.replace(0);
    expectRefusal(group);
    await group.remove(1);
    expectRefusal(group);

    expect(sum(queues(group))).toBe(30);
    expect(clients.established).toBe(30);
    clients.say('hello');
    const served = scene.acceptAll(group).flat();
    expect(served.map((fd) => testing().receive(fd).text)).toEqual(new Array(30).fill('hello'));
  });

  test('close() lets nobody in, also where somebody else holds a listener, and what waits there is still served', async () => {
    const group = await scene.open({ sockets: 2, backlog: 8, readBy });
    const { port } = group.address;
    const target = { address: '127.0.0.1', family: 4, port } as const;
    const held = scene.own(testing().duplicate(group.fd(1)));
    const clients = await onlySlot(group, 1, () => scene.connect(group, 3));
    await group.refuseNew();

    group.close();

    expect(scene.connect(target, 3).states).toEqual(new Array(3).fill('ECONNREFUSED'));
    clients.say('hello');
    expect(scene.accept(held).map((fd) => testing().receive(fd).text)).toEqual(new Array(3).fill('hello'));
    // Whoever makes a group of it has a listener like any other.
    const next = await scene.of([held], { readBy });
    expect(next.refusesNew).toBe(false);
    expect(scene.connect(next, 3).established).toBe(3);
  });

  test('under a stream of clients nobody is dropped, and after refuseNew() nobody gets in, not even while the group closes', async () => {
    const group = await scene.open({ sockets: 256, backlog: 100, readBy });
    const progress = new Int32Array(new SharedArrayBuffer(8));
    const connected = () => Atomics.load(progress, 0);
    const worker = new Worker(new URL('../support/stream.mjs', import.meta.url), {
      workerData: {
        addon: join(packageRoot, 'build/Release/spillway_testing.node'),
        target: targetOf(group),
        progress,
        ahead: Number.POSITIVE_INFINITY,
      },
    });
    const more = (count: number) => {
      const enough = connected() + count;
      return until('more clients were there', () => connected() >= enough);
    };
    await more(100);
    await group.refuseNew();
    const { syn } = group.stats().decisions!;
    await more(100);
    expect(taken(group.stats(), 'syn')).toBe(syn.first + syn.redirected);
    group.close();
    await more(100);

    const answer = once(worker, 'message');
    const gone = once(worker, 'exit');
    worker.postMessage('stop');
    const [counts] = await answer;
    await gone;
    const { established = 0, ended = 0, ECONNREFUSED: refused = 0, ...others } = counts;
    expect(others).toEqual({});
    expect(established + ended).toBeGreaterThanOrEqual(100);
    expect(refused).toBeGreaterThanOrEqual(200);
    expect(established + ended).toBe(syn.first + syn.redirected);
  });
});

test('a group that is closed answers with ERR_SPILLWAY_CLOSED', async () => {
  const group = await scene.open();
  group.close();
  await expect(group.refuseNew()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
});
