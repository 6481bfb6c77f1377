/**
 * Handshakes that are not finished at once, driven by hand: on loopback every handshake is over inside connect(), in
 * a real network the choice falls at the SYN and the queue grows at the final ACK. Scenarios:
 *
 *   a burst of SYNs spreads by what is half-open, and every handshake is finished
 *   a SYN that is sent again: one more decision, or none, depending on what became of the first
 *   more handshakes under way than the queues have places
 *   a flood of SYNs that are never finished does not close the group for others
 *
 * Counters are compared exactly; where one connection is not one decision, the comment says why.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { named } from '../support/named.js';
import { ownNetwork, setKernelParameter } from '../support/network.js';
import { type Puppet, type PuppetClient, usePuppet } from '../support/puppet.js';
import { onlySlot, queues, READ_BY, sum, taken, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();
let puppet: Puppet;

usePuppet((started) => {
  puppet = started;
});

const halfOpen = (group: SocketGroup) => group.stats().sockets.map((socket) => socket.halfOpen!);
const none = { first: 0, redirected: 0, dropped: 0, reset: 0, failed: 0, waiting: 0 };

async function sendSyns(clients: readonly PuppetClient[]): Promise<void> {
  await Promise.all(clients.map((client) => client.syn()));
}

async function synAcks(clients: readonly PuppetClient[]): Promise<void> {
  await Promise.all(clients.map((client) => client.expect('SYN+ACK')));
}

async function finish(clients: readonly PuppetClient[]): Promise<void> {
  await Promise.all(clients.map((client) => client.ack()));
}

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  describe.each([4, 6] as const)('IPv%i', (family) => {
    const open = (options: Parameters<typeof scene.open>[0] = {}) =>
      scene.open({ host: puppet.address[family], readBy, ...options });

    test.each(
      named(
        [
          { policy: 'least-queue', margin: 0 },
          { policy: 'two-choices', margin: 6 },
          { policy: 'hash', margin: 18 },
        ] as const,
        (row) => `80 SYNs whose final ACKs are held back spread over 4 sockets by ${row.policy}`,
      ),
    )('%s', async (_, { policy, margin }) => {
      const group = await open({ sockets: 4, backlog: 64, policy });
      const clients = await puppet.clients(80, { family, port: group.address.port });

      await sendSyns(clients);
      await synAcks(clients);

      const spread = halfOpen(group);
      expect(sum(spread)).toBe(80);
      for (const share of spread) expect(Math.abs(share - 20)).toBeLessThanOrEqual(margin);
      expect(queues(group)).toEqual([0, 0, 0, 0]);

      await finish(clients);
      expect(queues(group)).toEqual(spread);
      expect(halfOpen(group)).toEqual([0, 0, 0, 0]);
      const stats = group.stats();
      expect(stats.sockets.map(({ chosen }) => chosen!.syn)).toEqual(spread);
      expect(taken(stats, 'syn')).toBe(80);
      expect(taken(stats, 'cookieAck')).toBe(0);
      expect(stats.kernelDrops).toBe(0);
    });

    test('what is queued and what is half-open are one load: a burst fills up the emptier sockets first', async () => {
      const group = await open({ sockets: 3, backlog: 64, policy: 'least-queue' });
      const { port } = group.address;
      group.setOption('enabled', false, 1);
      group.setOption('enabled', false, 2);
      for (const client of await puppet.clients(12, { family, port })) await client.connect();
      group.setOption('enabled', true);

      await sendSyns(await puppet.clients(24, { family, port }));

      expect(queues(group)).toEqual([12, 0, 0]);
      expect(halfOpen(group)).toEqual([0, 12, 12]);
    });

    test('clients who wait with their first data (deferAccept) are load for a second only', async () => {
      const group = await open({ sockets: 2, backlog: 64, policy: 'least-queue', deferAccept: 30 });
      const { port } = group.address;
      const silent = await puppet.clients(10, { family, port });
      await onlySlot(group, 0, () => sendSyns(silent));
      await synAcks(silent);
      await finish(silent);
      expect(halfOpen(group)).toEqual([10, 0]);
      const chosen = () => group.stats().sockets.map((socket) => socket.chosen!.syn);
      const probe = async () => {
        const client = await puppet.client({ family, port });
        await client.syn();
        await client.expect('SYN+ACK');
        await client.rst();
      };

      await probe();
      expect(chosen()).toEqual([10, 1]);
      // Their requests grow old when the SYN-ACK's timer runs out; both slots are equal then.
      await until('a client is given to the slot where they wait', async () => {
        await probe();
        return chosen()[0]! > 10;
      });

      expect(queues(group)).toEqual([0, 0]);
      expect(halfOpen(group)).toEqual([10, 0]);
      await silent[0]!.data('now');
      await until('the one that spoke is queued', () => queues(group)[0] === 1);
    });

    test('a SYN that is sent again while its request is half-open is no decision: the request answers', async () => {
      const group = await open({ sockets: 4, backlog: 8 });
      const client = await puppet.client({ family, port: group.address.port });
      await client.syn();
      await client.expect('SYN+ACK');

      await client.resend();
      await until('the SYN-ACK came again', () => client.received.length === 2);

      expect(taken(group.stats(), 'syn')).toBe(1);
      expect(sum(halfOpen(group))).toBe(1);
    });

    test('a SYN that is sent again after it was dropped is another decision', async () => {
      const group = await open({ sockets: 2, backlog: 1 });
      const { port } = group.address;
      for (const client of await puppet.clients(4, { family, port })) await client.connect();
      const late = await puppet.client({ family, port });

      await late.syn();
      await late.resend();
      expect(group.stats().decisions!.syn.dropped).toBe(2);
      expect(late.received).toEqual([]);

      scene.own(testing().acceptMany(group.fd(1), 1)[0]!);
      await late.resend();
      await late.expect('SYN+ACK');
      await late.ack();

      expect(queues(group)).toEqual([2, 2]);
      // Five clients, seven decisions: the fifth client sent its SYN three times.
      expect(taken(group.stats(), 'syn')).toBe(5);
      expect(group.stats().decisions!.syn).toMatchObject({ dropped: 2, reset: 0, failed: 0 });
    });

    test('with SYN cookies every connection is two decisions, and a SYN that is sent again one more', async () => {
      setKernelParameter('net.ipv4.tcp_syncookies', 2);
      const group = await open({ sockets: 4, backlog: 40 });
      const clients = await puppet.clients(100, { family, port: group.address.port });

      await sendSyns(clients);
      await synAcks(clients);
      // The kernel remembers nothing of them.
      expect(halfOpen(group)).toEqual([0, 0, 0, 0]);
      await clients[0]!.ack();
      await clients[1]!.resend();
      await finish(clients.slice(1));

      const stats = group.stats();
      expect(taken(stats, 'syn')).toBe(101);
      expect(taken(stats, 'cookieAck')).toBe(100);
      expect(sum(stats.sockets.map(({ chosen }) => chosen!.cookieAck))).toBe(100);
      expect(sum(queues(group))).toBe(100);
      expect(clients.filter(({ wasReset }) => wasReset)).toEqual([]);
    });

    test('60 clients with held-back ACKs on 36 places: all are answered, 36 are served, nobody is reset', async () => {
      const group = await open({ sockets: 4, backlog: 8, policy: 'least-queue' });
      const clients = await puppet.clients(60, { family, port: group.address.port });

      // The choice falls at the SYN, when every queue is empty: nobody is full, nothing is dropped.
      await sendSyns(clients);
      await synAcks(clients);
      let stats = group.stats();
      expect(taken(stats, 'syn')).toBe(60);
      expect(stats.decisions!.syn.dropped).toBe(0);
      // A listener remembers about as many half-open requests as its backlog (older kernels exactly, newer ones one
      // more); whoever comes then gets a cookie.
      const remembered = halfOpen(group);
      expect(remembered).toEqual(new Array(4).fill(remembered[0]));
      expect(remembered[0]).toBeGreaterThanOrEqual(8);
      expect(remembered[0]).toBeLessThanOrEqual(9);

      await finish(clients);
      stats = group.stats();
      expect(queues(group)).toEqual([9, 9, 9, 9]);
      // Everybody else comes with a cookie. The selector never refuses them; what finds no place is dropped by the
      // kernel at the full queue, in silence, and counted by the kernel: 24 of the 60.
      expect(taken(stats, 'cookieAck')).toBe(60 - sum(remembered));
      expect(stats.decisions!.cookieAck).toMatchObject({ dropped: 0, reset: 0, failed: 0 });
      expect(stats.kernelDrops).toBe(24);
      expect(clients.filter(({ wasReset }) => wasReset)).toEqual([]);

      // They come back with data, as clients do, and are served when there is room.
      const served = scene.acceptAll(group).flat();
      expect(served).toHaveLength(36);
      await Promise.all(clients.map((client) => client.data('hello')));
      await until('the rest is queued', () => sum(queues(group)) === 24);
      const rest = scene.acceptAll(group).flat();
      const texts = [...served, ...rest].map((fd) => testing().receive(fd).text);
      expect(texts).toEqual(new Array(60).fill('hello'));
      expect(clients.filter(({ wasReset }) => wasReset)).toEqual([]);
    });

    test('a cookie ACK that finds nobody with room is not reset, also when the overflow policy is to reset', async () => {
      setKernelParameter('net.ipv4.tcp_syncookies', 2);
      const group = await open({ sockets: 2, backlog: 4, overflow: 'reset' });
      const { port } = group.address;
      const early = await puppet.client({ family, port });
      await early.syn();
      await early.expect('SYN+ACK');
      for (const client of await puppet.clients(10, { family, port })) await client.connect();
      expect(queues(group)).toEqual([5, 5]);

      await early.ack();
      const late = await puppet.client({ family, port });
      await late.syn();
      await late.expect('RST+ACK');

      expect(early.wasReset).toBe(false);
      const { decisions, reset } = group.stats();
      expect(reset).toBe(1);
      expect(decisions!.cookieAck).toMatchObject({ reset: 0, failed: 0, dropped: 0 });
    });

    test('what belongs to no connection is counted apart and goes to no queue', async () => {
      const group = await open({ sockets: 2, backlog: 8 });
      const client = await puppet.client({ family, port: group.address.port });
      await client.connect();
      const [connection] = scene.acceptAll(group).flat();
      scene.close(connection!);
      await until('the server has reset the connection', () => client.wasReset);
      const before = group.stats().decisions!;
      expect([before.stray, before.cookieAck]).toEqual([none, none]);

      await client.rst();
      expect(group.stats().decisions!.stray).toEqual({ ...none, reset: 1 });

      // It carries an ACK and might be a cookie's: a listener has to look at it, and the kernel refuses it there.
      const answers = client.received.length;
      await client.fin();
      await until('the client was told', () => client.received.length > answers);
      expect(taken(group.stats(), 'cookieAck')).toBe(1);
      expect(queues(group)).toEqual([0, 0]);
    });
  });

  describe.each(
    named(
      [
        { cookies: 1, what: 'SYN cookies under pressure, as by default' },
        { cookies: 2, what: 'SYN cookies always' },
      ],
      ({ what }) => what,
    ),
  )('%s', (_, { cookies }) => {
    test.each([4, 6] as const)(
      'a SYN flood by IPv%i over ten times the capacity keeps nobody out',
      async (family) => {
        setKernelParameter('net.ipv4.tcp_syncookies', cookies);
        const group = await scene.open({ host: puppet.address[family], sockets: 4, backlog: 32, readBy });
        const capacity = 4 * 33;
        await puppet.flood({ family, port: group.address.port, count: 10 * capacity });
        const flood = puppet.flood({ family, port: group.address.port });

        let served = 0;
        for (let round = 0; round < 20; round++) {
          const clients = scene.connect(group, 20);
          await until('all are connected', () => clients.established === 20);
          clients.say('hello');
          let echoed = 0;
          await until('all are served', () => {
            for (const fd of scene.acceptAll(group).flat()) {
              testing().send(fd, 'welcome');
              echoed++;
            }
            return echoed === 20;
          });
          expect(clients.heard()).toEqual(new Array(20).fill('welcome'));
          served += echoed;
          scene.endConnections();
          await nextTurn();
        }
        await puppet.stopFlood();
        const { sent } = await flood;

        const stats = group.stats();
        expect(served).toBe(400);
        expect(sent).toBeGreaterThan(capacity);
        // Every SYN of the flood was a decision that found a socket: half-open requests close nothing.
        expect(stats.decisions!.syn).toMatchObject({ dropped: 0, reset: 0, failed: 0 });
        expect(taken(stats, 'syn')).toBe(10 * capacity + sent + 400);
        expect(taken(stats, 'cookieAck')).toBeGreaterThan(0);
        expect(stats.decisions!.cookieAck).toMatchObject({ dropped: 0, reset: 0, failed: 0 });
        if (cookies === 2) expect(taken(stats, 'cookieAck')).toBe(400);
        else expect(sum(halfOpen(group))).toBeGreaterThan(0);
      },
    );
  });
});
