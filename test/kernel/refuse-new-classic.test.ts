/**
 * A group that refuses what is new below `ebpf`, for a graceful stop. Scenarios:
 *
 *   who is new is dropped, whatever the options say, then or later
 *   who was there before is served: half-open, answered with a SYN cookie, silent under TCP_DEFER_ACCEPT
 *   members come and go, told or not, and what is new still finds nothing
 *   nobody gets in while the group is closed, nor afterwards where somebody else holds a listener
 *   where it cannot be done it is told, and nothing has changed
 *
 * Whole streams of clients are in test/unprivileged/refuse-new.test.ts.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import type { OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { packageRoot } from '../../lib/native.js';
import { targetOf } from '../support/clients.js';
import { named } from '../support/named.js';
import { ownNetwork, setKernelParameter } from '../support/network.js';
import { type Puppet, usePuppet } from '../support/puppet.js';
import { queues, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();
let puppet: Puppet;

usePuppet((started) => {
  puppet = started;
});

/** A hundred clients in a row get no answer: a program that named one member among many would not stay hidden. */
function expectSilence(to: Parameters<typeof scene.connect>[0]): void {
  expect(scene.connect(to, 100).unanswered).toBe(100);
}

describe.each(['cbpf', 'none'] as const)('%s', (selector) => {
  const open = (options: Partial<OpenOptions> = {}) =>
    scene.open({ sockets: 3, backlog: 30, selector, ...options });

  /** Takes over what leaves, and keeps it in `taken`. */
  function taking() {
    const taken: number[] = [];
    const onConnection = (fd: number) => taken.push(scene.own(fd));
    return { taken, onConnection };
  }

  describe.each(
    named(
      [
        { host: 4, from: 4 },
        { host: 6, from: 6 },
        { host: '0.0.0.0', from: 4 },
        { host: '::', from: 6 },
        { host: '::', from: 4 },
      ] as const,
      ({ host, from }) => `at ${typeof host === 'string' ? host : 'one address'}, from IPv${from}`,
    ),
  )('%s', (_, { host, from: family }) => {
    const openHere = (options: Partial<OpenOptions> = {}) =>
      open({ host: typeof host === 'string' ? host : puppet.address[host], ...options });

    test.each(
      named(
        [
          { cookies: 1, what: 'half-open' },
          { cookies: 2, what: 'answered with a SYN cookie' },
        ],
        (row) => `clients that were ${row.what} get in`,
      ),
    )('%s', async (__, { cookies }) => {
      setKernelParameter('net.ipv4.tcp_syncookies', cookies);
      const group = await openHere();
      const { port } = group.address;
      const early = await puppet.clients(12, { family, port });
      for (const client of early) {
        await client.syn();
        await client.expect('SYN+ACK');
      }
      const halfOpen = cookies === 2 ? 0 : 12;
      expect(group.handshakes()).toBe(halfOpen);

      expect(await group.refuseNew()).toBe(true);

      const late = await puppet.clients(12, { family, port });
      for (const client of late) await client.syn();
      expect(group.handshakes()).toBe(halfOpen);
      for (const client of early) await client.ack();
      expect(group.handshakes()).toBe(0);
      const connections = scene.acceptAll(group).flat();
      expect(connections).toHaveLength(12);
      for (const client of early) await client.data(client.name);
      expect(connections.map((fd) => testing().receive(fd).text).sort()).toEqual(
        early.map(({ name }) => name).sort(),
      );
      for (const fd of connections) testing().send(fd, 'welcome');
      for (const client of early) expect((await client.expect('ACK')).text).toBe('welcome');
      expect(early.filter(({ wasReset }) => wasReset)).toEqual([]);
      expect(late.flatMap(({ received }) => received)).toEqual([]);

      group.close();
      await late[0]!.resend();
      await late[0]!.expect('RST+ACK');
    });
  });

  test('a client that says nothing yet gets in when it speaks', async () => {
    const group = await open({ host: puppet.address[4], deferAccept: 30 });
    const client = await puppet.client({ port: group.address.port });
    await client.connect();
    await group.refuseNew();
    expect([group.handshakes(), sum(queues(group))]).toEqual([1, 0]);
    await client.data('hello');
    expect([group.handshakes(), sum(queues(group))]).toEqual([0, 1]);
  });

  test('no option brings anybody back, and the selector stays', async () => {
    const group = await open();
    await group.refuseNew();
    const { enabled, ...others } = { enabled: true, backlog: 100, deferAccept: 0, noDelay: true };
    group.setOption('enabled', enabled);
    for (const [name, value] of Object.entries(others)) group.setOption(name as 'backlog', value as number);
    if (selector === 'cbpf') {
      group.setOption('weight', 7, 1);
      group.setOption('enabled', false, 2);
    }
    group.setOption('selector', selector);
    expectSilence(group);
    for (const other of ['ebpf', 'auto', selector === 'cbpf' ? 'none' : 'cbpf'] as const) {
      expect(() => group.setOption('selector', other)).toThrow(
        expect.objectContaining({ code: 'ERR_SPILLWAY_OPTION_TIER' }),
      );
    }
    expectSilence(group);
    expect(queues(group)).toEqual([0, 0, 0]);
  });

  test('a group that is bound to a device can refuse as well', async () => {
    const group = await open({ bindToDevice: 'lo' });
    const early = scene.connect(group, 10);
    expect(await group.refuseNew()).toBe(true);
    expectSilence(group);
    expect([early.established, sum(queues(group))]).toEqual([10, 10]);
  });

  test('TCP Fast Open brings nobody in', async () => {
    // For clients and servers, without cookies (ip-sysctl): a SYN with data is a connection at once.
    setKernelParameter('net.ipv4.tcp_fastopen', 0x203);
    const group = await open({ host: puppet.address[4], fastOpen: 16 });
    const { port } = group.address;
    await (await puppet.client({ port })).syn('early');
    expect(sum(queues(group))).toBe(1);
    await group.refuseNew();
    for (const client of await puppet.clients(20, { port })) await client.syn('late');
    expect([group.handshakes(), sum(queues(group))]).toEqual([1, 1]);
  });

  test('it can be done after a change of selector, with a sink gone before', async () => {
    const group = await open({ selector: 'ebpf' });
    group.setOption('selector', selector);
    expect(scene.connect(group, 10).established).toBe(10);
    expect(await group.refuseNew()).toBe(true);
    expectSilence(group);
  });

  test('members come and go: what leaves is handed over, and newcomers get nothing', async () => {
    const { taken, onConnection } = taking();
    const group = await open({ onConnection });
    const clients = scene.connect(group, 30);
    await group.refuseNew();
    const history: (() => Promise<unknown>)[] = [
      () => group.add(),
      () => group.replace(0),
      () => group.remove(1),
      () => group.replace(2),
      () => group.remove(0),
      () => group.add(),
      () => group.remove(2),
      () => group.add(),
      () => group.replace(0),
      () => group.remove(3),
    ];
    for (const step of history) {
      await step();
      expectSilence(group);
    }
    expect(sum(queues(group))).toBe(0);
    expect(taken).toHaveLength(30);
    expect(clients.established).toBe(30);
    clients.say('hello');
    expect(taken.map((fd) => testing().receive(fd).text)).toEqual(new Array(30).fill('hello'));
  });

  test('under a stream of clients nobody gets in while listeners come and go, nor while the group closes', async () => {
    const { onConnection } = taking();
    const group = await open({ sockets: 32, onConnection });
    await group.refuseNew();
    const progress = new Int32Array(new SharedArrayBuffer(8));
    const begun = () => Atomics.load(progress, 0);
    const clients = new Worker(new URL('../support/stream.mjs', import.meta.url), {
      workerData: {
        addon: join(packageRoot, 'build/Release/spillway_testing.node'),
        target: targetOf(group),
        progress,
        ahead: Number.POSITIVE_INFINITY,
      },
    });
    await until('clients come', () => begun() >= 100);
    for (let round = 0; round < 300; round++) {
      const slot = round % 32;
      if (round % 2 === 0) await group.replace(slot);
      else {
        await group.remove(slot);
        await group.add({ slot });
      }
    }
    const meanwhile = begun();
    expect(meanwhile).toBeGreaterThan(200);
    group.close();
    const closed = begun();
    await until('more clients came', () => begun() >= closed + 100);

    const answer = once(clients, 'message');
    const gone = once(clients, 'exit');
    clients.postMessage('stop');
    const [{ inProgress, ECONNREFUSED: refused, ...others }] = await answer;
    await gone;
    expect(others).toEqual({});
    expect(inProgress).toBeGreaterThanOrEqual(meanwhile);
    expect(refused).toBeGreaterThanOrEqual(99);
  });

  test('a listener that another holder shuts down lets nobody into the others', async () => {
    const group = await open();
    const held = scene.own(testing().duplicate(group.fd(0)));
    await group.refuseNew();
    testing().shutdown(held);
    expectSilence(group);
  });

  test('a leave that began under another selector ends without letting anybody in', async () => {
    const { taken, onConnection } = taking();
    const group = await open({ host: puppet.address[4], deferAccept: 30, onConnection });
    const silent = await puppet.clients(6, { port: group.address.port });
    for (const client of silent) await client.connect();
    const leaving = group.remove(0);
    group.setOption('selector', selector === 'cbpf' ? 'none' : 'cbpf');
    await group.refuseNew();
    for (const client of silent) await client.data('hello');
    await leaving;
    expectSilence(group);
    expect(taken.length + sum(queues(group))).toBe(6);
  });

  test('close() lets nobody in, also where somebody else holds a listener, and what waits there is still served', async () => {
    const group = await open({ sockets: 4 });
    const { port } = group.address;
    const held = [1, 3].map((slot) => scene.own(testing().duplicate(group.fd(slot))));
    const clients = scene.connect(group, 60);
    const waiting = group.queue(1) + group.queue(3);
    await group.refuseNew();

    group.close();

    expectSilence({ address: '127.0.0.1', family: 4, port });
    clients.say('hello');
    const served = held.flatMap((fd) => scene.accept(fd));
    expect(served).toHaveLength(waiting);
    expect(waiting).toBeGreaterThan(0);
    expect(served.map((fd) => testing().receive(fd).text)).toEqual(new Array(waiting).fill('hello'));
    for (const fd of held) scene.close(fd);
    expect(scene.connect({ address: '127.0.0.1', family: 4, port }, 3).states).toEqual(
      new Array(3).fill('ECONNREFUSED'),
    );
  });

  test('listeners of another user cannot be closed to the world, which is told, and changes nothing', async () => {
    const fds = [scene.listener({ uid: 65_534 })];
    const group: SocketGroup = await scene.of(fds, { selector });
    expect(await group.refuseNew()).toBe(false);
    expect(group.refusesNew).toBe(false);
    expect(scene.connect(group, 20).established).toBe(20);
  });

  test('a client that was dropped is refused by its next SYN after the end of the group', async () => {
    const group = await open();
    await group.refuseNew();
    const late = scene.connect(group, 4);
    expect(late.unanswered).toBe(4);
    group.close();
    await until('all are refused', () => late.count('ECONNREFUSED') === 4);
  });
});
