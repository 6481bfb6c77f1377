/**
 * What a listener holds when it leaves goes to its siblings. The scenarios of the kernel's selftest
 * migrate_reuseport, each by IPv4 and IPv6, with the socket removed and with the socket replaced in its slot:
 *
 *   the connection is established and waits in the accept queue
 *   the connection waits in the accept queue, its handshake is not finished (SYN_RECV, TCP Fast Open)
 *   the handshake is half done (NEW_SYN_RECV), and moved when the SYN-ACK is sent again
 *   the handshake is half done (NEW_SYN_RECV), and moved when the final ACK comes
 *
 * and what happens to the same clients when the owner does not want queues to move.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { named } from '../support/named.js';
import { kernelParameter, ownNetwork, setKernelParameter } from '../support/network.js';
import { Puppet, type PuppetClient } from '../support/puppet.js';
import { onlySlot, queues, READ_BY, sum, taken, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
// TCP Fast Open for servers, without cookies (Documentation/networking/ip-sysctl.rst).
setKernelParameter('net.ipv4.tcp_fastopen', 0x203);

const scene = useScene();
let puppet: Puppet;

beforeAll(async () => {
  puppet = await Puppet.start();
});
afterAll(() => puppet.close());

interface Stage {
  what: string;
  /** Brings a client to the stage. */
  reach(client: PuppetClient): Promise<void>;
  /** What the client does after the listener has left, until its handshake is done. */
  finish(client: PuppetClient, group: SocketGroup): Promise<void>;
  /** Text the client has sent by then. */
  sent: string;
}

const halfOpen = async (client: PuppetClient) => {
  await client.syn();
  await client.expect('SYN+ACK');
};

const synAcks = (client: PuppetClient) => client.received.filter(({ flags }) => flags === 'SYN+ACK').length;
const migrations = (group: SocketGroup) => taken(group.stats(), 'migration');

const STAGES: Stage[] = [
  {
    what: 'established in the accept queue',
    reach: (client) => client.connect(),
    finish: async () => {},
    sent: '',
  },
  {
    what: 'in the accept queue by Fast Open, the handshake half done',
    reach: async (client) => {
      await client.syn('early');
      expect((await client.expect('SYN+ACK')).ack).toBe(1 + 'early'.length);
    },
    finish: (client) => client.ack(),
    sent: 'early',
  },
  {
    what: 'half-open, moved when the SYN-ACK is sent again',
    reach: halfOpen,
    finish: async (client, group) => {
      await until('the SYN-ACK was sent again', () => synAcks(client) > 1);
      expect(migrations(group)).toBe(1);
      await client.ack();
    },
    sent: '',
  },
  {
    what: 'half-open, moved when the final ACK comes',
    reach: halfOpen,
    finish: async (client, group) => {
      expect(migrations(group)).toBe(0);
      await client.ack();
      // Otherwise the timer was first, and this was the scenario above.
      expect(synAcks(client)).toBe(1);
    },
    sent: '',
  },
];

const DEPARTURES = [
  { how: 'removed', leave: (group: SocketGroup, slot: number) => group.remove(slot) },
  { how: 'replaced', leave: (group: SocketGroup, slot: number) => group.replace(slot) },
];

const openGroup = (family: 4 | 6, options: Parameters<typeof scene.open>[0] = {}) =>
  scene.open({ host: puppet.address[family], sockets: 2, backlog: 8, fastOpen: 16, ...options });

test('the kernel moves the queues because the program says so, not by net.ipv4.tcp_migrate_req', () => {
  expect(kernelParameter('net.ipv4.tcp_migrate_req')).toBe(0);
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  describe.each([4, 6] as const)('IPv%i', (family) => {
    const cases = STAGES.flatMap((stage) => DEPARTURES.map((departure) => ({ ...stage, ...departure })));

    test.each(
      named(
        cases,
        (row) => `a connection that is ${row.what} is served by a sibling when its listener is ${row.how}`,
      ),
    )('%s', async (_, { reach, finish, leave, sent }) => {
      const group = await openGroup(family, { readBy });
      const client = await puppet.client({ family, port: group.address.port });
      await onlySlot(group, 0, () => reach(client));
      const waiting = group.stats().sockets[0]!;
      expect(waiting.queue + waiting.halfOpen!).toBe(1);

      await leave(group, 0);
      await finish(client, group);

      const connection = scene.acceptAll(group).flat();
      expect(connection).toHaveLength(1);
      await client.data('question');
      expect(testing().receive(connection[0]!).text).toBe(`${sent}question`);
      testing().send(connection[0]!, 'answer');
      expect((await client.expect('ACK')).text).toBe('answer');
      expect(client.wasReset).toBe(false);

      const stats = group.stats();
      expect(migrations(group)).toBe(1);
      expect(stats.migrated).toBe(1);
      expect(sum(stats.sockets.map(({ chosen }) => chosen!.migration))).toBe(1);
      expect(stats.decisions!.migration).toMatchObject({ dropped: 0, reset: 0, failed: 0 });
      expect(taken(stats, 'syn')).toBe(1);
      expect(taken(stats, 'cookieAck')).toBe(0);
    });

    test('a socket that is removed takes nobody with it, however full its siblings are', async () => {
      const group = await openGroup(family, { sockets: 3, backlog: 4, readBy });
      const queued = await puppet.clients(15, { family, port: group.address.port });
      for (const client of queued) await client.connect();
      expect(queues(group)).toEqual([5, 5, 5]);

      await group.remove(1);

      expect(sum(queues(group))).toBe(15);
      expect(group.stats().migrated).toBe(5);
      expect(scene.acceptAll(group).flat()).toHaveLength(15);
      expect(queued.filter(({ wasReset }) => wasReset)).toEqual([]);
    });

    test('a queue of many goes to all siblings, the emptier the more', async () => {
      const group = await openGroup(family, { sockets: 3, backlog: 64, policy: 'least-queue', readBy });
      const { port } = group.address;
      await onlySlot(group, 0, async () => {
        for (const client of await puppet.clients(30, { family, port })) await client.connect();
      });
      await onlySlot(group, 1, async () => {
        for (const client of await puppet.clients(10, { family, port })) await client.connect();
      });

      await group.remove(0);

      expect(queues(group)).toEqual([20, 20]);
      expect(group.stats().sockets.map(({ chosen }) => chosen!.migration)).toEqual([10, 20]);
    });

    const RESET: { what: string; reach: Stage['reach']; provoke: Stage['reach']; refusals: number }[] = [
      {
        what: 'established in the accept queue',
        reach: STAGES[0]!.reach,
        provoke: async () => {},
        refusals: 1,
      },
      {
        what: 'in the accept queue by Fast Open',
        reach: STAGES[1]!.reach,
        provoke: async () => {},
        refusals: 1,
      },
      { what: 'half-open at the final ACK', reach: halfOpen, provoke: (client) => client.ack(), refusals: 1 },
    ];

    test.each(named(RESET, (row) => `with migrate off, a connection that is ${row.what} is reset`))(
      '%s',
      async (_, { reach, provoke, refusals }) => {
        const group = await openGroup(family, { migrate: false, readBy });
        const client = await puppet.client({ family, port: group.address.port });
        await onlySlot(group, 0, () => reach(client));

        await group.remove(0);
        await provoke(client);

        await until('the client was reset', () => client.wasReset);
        expect(queues(group)).toEqual([0]);
        const stats = group.stats();
        expect(stats.migrated).toBe(0);
        expect(stats.decisions!.migration).toEqual({
          first: 0,
          redirected: 0,
          dropped: 0,
          reset: refusals,
          failed: 0,
          waiting: 0,
        });
      },
    );

    test('migrate is switched on and off while the group is open', async () => {
      const group = await openGroup(family, { sockets: 3, migrate: false, readBy });
      const { port } = group.address;
      const kept = await puppet.client({ family, port });
      const lost = await puppet.client({ family, port });
      await onlySlot(group, 0, () => kept.connect());
      await onlySlot(group, 1, () => lost.connect());

      group.setOption('enabled', false, 1);
      group.setOption('migrate', true);
      await group.remove(0);
      group.setOption('migrate', false);
      await group.remove(1);

      await until('one client was reset', () => lost.wasReset);
      expect(kept.wasReset).toBe(false);
      expect(scene.acceptAll(group).flat()).toHaveLength(1);
    });
  });

  test('the last socket that could take a queue stays, and nothing has changed', async () => {
    const group = await scene.open({ sockets: 2, readBy });
    const clients = scene.connect(group, 4);
    group.setOption('enabled', false, 1);

    await expect(group.remove(0)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_SIBLING' });

    expect(sum(queues(group))).toBe(4);
    await group.remove(1);
    await expect(group.remove(0)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_SIBLING' });
    expect(queues(group)).toEqual([4]);
    expect(clients.established).toBe(4);
    expect(scene.connect(group, 1).established).toBe(1);
  });

  test('every socket of a group is replaced in turn under load, and nobody is lost', async () => {
    const group = await scene.open({ sockets: 4, backlog: 200, readBy });
    const rounds = [];
    for (let round = 0; round < 10; round++) {
      for (let slot = 0; slot < 4; slot++) {
        rounds.push(scene.connect(group, 5));
        await group.replace(slot);
      }
    }

    expect(sum(rounds.map(({ established }) => established))).toBe(200);
    for (const clients of rounds) clients.say('hello');
    const served = scene.acceptAll(group).flat();
    expect(served.map((fd) => testing().receive(fd).text)).toEqual(new Array(200).fill('hello'));
    expect(group.stats().dropped).toBe(0);
  });
});
