/**
 * The queues of a group hold exactly what they are configured to hold, together. Scenarios:
 *
 *   how many of N × (backlog + 1) + k clients are connected, over N, backlogs, policies and address families
 *   what the clients count against what the group counts
 *   what happens to the clients that are too many: silence, or a refusal at once
 *   limits that change while the group is open, by its owner or behind the owner's back
 */

import { describe, expect, test } from 'vitest';
import { expectAgreement } from '../support/agreement.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { queues, READ_BY, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();

const SOCKETS = [1, 2, 4, 16];
const BACKLOGS = [1, 8, 64];
const POLICIES = ['hash', 'two-choices', 'least-queue'] as const;
const TOO_MANY = 5;

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  const sizes = SOCKETS.flatMap((sockets) =>
    BACKLOGS.flatMap((backlog) => POLICIES.map((policy) => ({ sockets, backlog, policy }))),
  );

  test.each(
    named(
      sizes,
      (row) =>
        `${row.sockets} sockets with a backlog of ${row.backlog} are filled to the last place by ${row.policy}, and not beyond`,
    ),
  )('%s', async (_, { sockets, backlog, policy }) => {
    const capacity = sockets * (backlog + 1);
    const group = await scene.open({ sockets, backlog, policy, readBy });

    const clients = scene.connect(group, capacity);
    expect(clients.established).toBe(capacity);
    expect(group.stats().dropped).toBe(0);
    expect(queues(group)).toEqual(new Array(sockets).fill(backlog + 1));

    const late = scene.connect(group, TOO_MANY);
    expect(late.unanswered).toBe(TOO_MANY);
    expectAgreement(group, clients, late);
  });

  const hosts = [
    { what: 'an IPv4 address', host: '127.0.0.1', through: [4], options: {} },
    { what: 'all IPv4 addresses', host: '0.0.0.0', through: [4], options: {} },
    { what: 'an IPv6 address', host: '::1', through: [6], options: {} },
    { what: 'all addresses of both families', host: '::', through: [4, 6], options: {} },
    { what: 'all IPv6 addresses only', host: '::', through: [6], options: { v6Only: true } },
  ] as const;

  test.each(named(hosts, (row) => `a group on ${row.what} is filled exactly, over every family it serves`))(
    '%s',
    async (_, { host, through, options }) => {
      const group = await scene.open({ host, sockets: 3, backlog: 4, readBy, ...options });
      const { port } = group.address;
      const targets = through.map((family) =>
        family === 4
          ? ({ address: '127.0.0.1', family, port } as const)
          : ({ address: '::1', family, port } as const),
      );

      const clients = [];
      for (let count = 0; count < 15; count++) {
        clients.push(scene.connect(targets[count % targets.length]!, 1));
      }
      expect(sum(clients.map(({ established }) => established))).toBe(15);
      for (const target of targets) clients.push(scene.connect(target, 2));

      expectAgreement(group, ...clients);
      expect(group.stats().dropped).toBe(2 * targets.length);
    },
  );

  test.each(POLICIES)(
    "with overflow 'reset' those who are too many are refused at once by %s",
    async (policy) => {
      const group = await scene.open({ sockets: 4, backlog: 8, overflow: 'reset', policy, readBy });

      const clients = scene.connect(group, 36 + TOO_MANY);

      expect(clients.states.slice(0, 36)).toEqual(new Array(36).fill('established'));
      expect(clients.states.slice(36)).toEqual(new Array(TOO_MANY).fill('ECONNREFUSED'));
      expect(expectAgreement(group, clients).reset).toBe(TOO_MANY);
    },
  );

  test('the overflow policy changes while the group is open', async () => {
    const group = await scene.open({ sockets: 2, backlog: 1, readBy });
    const clients = scene.connect(group, 4);

    const dropped = scene.connect(group, 1);
    group.setOption('overflow', 'reset');
    const reset = scene.connect(group, 1);
    group.setOption('overflow', 'drop');
    const again = scene.connect(group, 1);

    expect([dropped, reset, again].map(({ states }) => states[0])).toEqual([
      'inProgress',
      'ECONNREFUSED',
      'inProgress',
    ]);
    expectAgreement(group, clients, dropped, reset, again);
  });

  test('a place that is taken from a queue is given to the next client', async () => {
    const group = await scene.open({ sockets: 4, backlog: 1, readBy });
    scene.connect(group, 8);
    expect(scene.connect(group, 1).unanswered).toBe(1);

    for (const slot of [2, 0, 3, 1]) {
      scene.own(testing().acceptMany(group.fd(slot), 1)[0]!);
      expect(scene.connect(group, 2).states).toEqual(['established', 'inProgress']);
      expect(queues(group)).toEqual([2, 2, 2, 2]);
    }
  });

  test('raising the backlog of the group makes room at once', async () => {
    const group = await scene.open({ sockets: 4, backlog: 1, readBy });
    const before = scene.connect(group, 8);

    group.setOption('backlog', 3);
    const after = scene.connect(group, 8 + TOO_MANY);

    expect(after.established).toBe(8);
    expect(group.getOption('backlog')).toBe(3);
    expectAgreement(group, before, after);
  });

  test('raising the backlog of one slot makes room there', async () => {
    const group = await scene.open({ sockets: 4, backlog: 1, readBy });
    const before = scene.connect(group, 8);

    group.setOption('backlog', 6, 2);
    const after = scene.connect(group, 5 + TOO_MANY);

    expect(queues(group)).toEqual([2, 2, 7, 2]);
    expect(group.getOption('backlog', 2)).toBe(6);
    expect(group.getOption('backlog', 1)).toBe(1);
    expectAgreement(group, before, after);
  });

  test('lowering the backlog below what is queued takes nobody out of the queue and lets nobody in', async () => {
    const group = await scene.open({ sockets: 2, backlog: 4, readBy });
    const before = scene.connect(group, 8);

    group.setOption('backlog', 1);
    const after = scene.connect(group, 1);

    expect(after.unanswered).toBe(1);
    expectAgreement(group, before, after);
    expect(sum(scene.acceptAll(group).map(({ length }) => length))).toBe(8);
    expect(before.established).toBe(8);
    const last = scene.connect(group, 4 + TOO_MANY);
    expect(last.established).toBe(4);
  });

  test("a listener whose backlog a program has raised keeps the slot's limit", async () => {
    const group = await scene.open({ sockets: 4, backlog: 8, readBy });
    for (const { fd } of group.stats().sockets) testing().listen(fd, 511);

    const clients = scene.connect(group, 36 + TOO_MANY);

    expect(clients.established).toBe(36);
    const stats = expectAgreement(group, clients);
    expect(stats.sockets.map(({ limit }) => limit)).toEqual([8, 8, 8, 8]);
  });

  test('a listener whose backlog a program has lowered is full at its own limit, and nobody hangs there', async () => {
    const group = await scene.open({ sockets: 3, backlog: 8, readBy });
    testing().listen(group.fd(1), 2);

    const clients = scene.connect(group, 9 + 3 + 9 + TOO_MANY);

    expect(clients.established).toBe(21);
    expect(queues(group)).toEqual([9, 3, 9]);
    expectAgreement(group, clients);
  });

  test('the backlog is capped at net.core.somaxconn, and the limit that is reported is the one in force', async () => {
    const group = await scene.open({ sockets: 1, backlog: 65535, readBy });

    expect(group.stats().sockets[0]!.limit).toBe(4096);
  });
});
