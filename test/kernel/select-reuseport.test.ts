/**
 * Who is chosen. The scenarios of the kernel's selftest select_reuseport, in terms of slots:
 *
 *   every slot gets exactly what is meant for it, by every selector that can tell slots apart
 *   weights make shares
 *   a slot whose socket has left behind its owner's back is passed by, and costs nobody a place
 *   sockets that outlive their group are chosen by the kernel's own hash
 *   nobody may be chosen: the overflow policy
 */

import { describe, expect, test } from 'vitest';
import type { OpenOptions } from '../../lib/group/group.js';
import { expectAgreement } from '../support/agreement.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { onlySlot, queues, READ_BY, sum, taken, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();

const POLICIES = ['hash', 'two-choices', 'least-queue'] as const;

const SELECTORS: { name: string; options: Partial<OpenOptions> }[] = [
  ...READ_BY.flatMap((readBy) =>
    POLICIES.map((policy) => ({
      name: `ebpf, ${policy}, listeners read by ${readBy}`,
      options: { selector: 'ebpf', policy, readBy } as const,
    })),
  ),
  { name: 'ebpf with a SOCKMAP', options: { selector: 'ebpf', sockmap: true } },
  { name: 'cbpf', options: { selector: 'cbpf' } },
];

describe.each(named(SELECTORS, ({ name }) => name))('%s', (_, { options }) => {
  test.each(
    named(
      [
        { family: 'IPv4', host: '127.0.0.1' },
        { family: 'IPv6', host: '::1' },
      ],
      (row) => `by ${row.family} every slot gets exactly what is meant for it`,
    ),
  )('%s', async (_, { host }) => {
    const group = await scene.open({ host, sockets: 8, backlog: 64, ...options });
    for (let slot = 0; slot < group.size; slot++) {
      const clients = await onlySlot(group, slot, () => scene.connect(group, 3));
      clients.say((index) => `slot ${slot}, client ${index}`);
    }

    const connections = scene.acceptAll(group);

    expect(connections.map((fds) => fds.map((fd) => testing().receive(fd).text))).toEqual(
      Array.from({ length: 8 }, (_, slot) =>
        Array.from({ length: 3 }, (_, index) => `slot ${slot}, client ${index}`),
      ),
    );
  });

  test('a slot that is not enabled gets nothing, and what it has queued stays its own', async () => {
    const group = await scene.open({ sockets: 3, backlog: 100, ...options });
    await onlySlot(group, 1, () => scene.connect(group, 7));

    group.setOption('enabled', false, 1);
    const clients = scene.connect(group, 60);

    expect(clients.established).toBe(60);
    expect(queues(group)[1]).toBe(7);
    group.setOption('enabled', true, 1);
    scene.acceptAll(group);
    scene.connect(group, 90);
    expect(queues(group)[1]).toBeGreaterThan(0);
  });
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test.each(
    named(
      [
        { policy: 'hash', margin: 90 },
        { policy: 'two-choices', margin: 60 },
        { policy: 'least-queue', margin: 1 },
      ] as const,
      (row) => `by ${row.policy} slots of weight 1, 3 and 6 share 1000 connections accordingly`,
    ),
  )('%s', async (_, { policy, margin }) => {
    const group = await scene.open({ sockets: 3, backlog: 1000, policy, readBy });
    [1, 3, 6].forEach((weight, slot) => {
      group.setOption('weight', weight, slot);
    });

    expect(scene.connect(group, 1000).established).toBe(1000);

    [100, 300, 600].forEach((share, slot) => {
      expect(Math.abs(queues(group)[slot]! - share)).toBeLessThanOrEqual(margin);
    });
  });

  test.each(POLICIES)('a weight does not cost %s a place: the group is filled exactly', async (policy) => {
    const group = await scene.open({ sockets: 3, backlog: 5, policy, readBy });
    group.setOption('weight', 1000, 0);

    const clients = scene.connect(group, 18 + 3);

    expect(clients.established).toBe(18);
    expectAgreement(group, clients);
  });

  test("by 'hash' connections spread over all slots, and one from the same address and port meets the same slot", async () => {
    const group = await scene.open({ sockets: 16, backlog: 100, policy: 'hash', readBy });
    expect(scene.connect(group, 320).established).toBe(320);
    // The hash spreads: an even share is 20.
    for (const queue of queues(group)) expect(queue).toBeGreaterThan(0);
  });

  test.each(POLICIES)(
    'a slot whose socket was shut down by somebody else is passed by, by %s',
    async (policy) => {
      const group = await scene.open({ sockets: 4, backlog: 8, policy, readBy });
      const duplicate = scene.own(testing().duplicate(group.fd(1)));
      testing().shutdown(duplicate);

      // Every place of the others is still found, and not one more.
      const clients = scene.connect(group, 27);
      expect(clients.established).toBe(27);
      const late = scene.connect(group, 3);
      expect(late.unanswered).toBe(3);

      const stats = group.stats();
      expect(stats.stale).toBeGreaterThan(0);
      expect(stats.dropped).toBe(3);
      expect(stats.sockets.map(({ chosen }) => chosen!.syn)).toEqual([9, 0, 9, 9]);
    },
  );

  test('a slot whose socket was shut down by somebody else is filled again by replace()', async () => {
    const group = await scene.open({ sockets: 2, backlog: 4, readBy });
    testing().shutdown(scene.own(testing().duplicate(group.fd(1))));
    scene.connect(group, 3);
    expect(queues(group)).toContain(3);

    await group.replace(1);

    expect(scene.connect(group, 7).established).toBe(7);
    expect(queues(group)).toEqual([5, 5]);
  });

  test('sockets that outlive their group go on by the plain hash', async () => {
    const first = scene.listener();
    const { port } = (await scene.of([first], { readBy })).address;
    scene.end();
    const listeners = [0, 1, 2].map(() => scene.listener({ port }));
    const group = await scene.of(listeners, { readBy });
    group.setOption('enabled', false, 0);
    group.setOption('enabled', false, 1);
    expect(scene.connect(group, 30).established).toBe(30);
    const target = { address: '127.0.0.1', family: 4, port } as const;

    group.close();
    const clients = scene.connect(target, 90);

    expect(clients.established).toBe(90);
    const served = listeners.map((listener) => scene.accept(listener).length);
    expect(sum(served)).toBe(120);
    expect(served[0]).toBeGreaterThan(0);
    expect(served[1]).toBeGreaterThan(0);
  });

  test.each(
    named(
      [
        { overflow: 'drop', state: 'inProgress' },
        { overflow: 'reset', state: 'ECONNREFUSED' },
      ] as const,
      (row) => `with nobody enabled, overflow '${row.overflow}' decides`,
    ),
  )('%s', async (_, { overflow, state }) => {
    const group = await scene.open({ sockets: 3, overflow, readBy });
    group.setOption('enabled', false);

    const clients = scene.connect(group, 4);

    expect(clients.states).toEqual(new Array(4).fill(state));
    expectAgreement(group, clients);
    group.setOption('enabled', true);
    expect(scene.connect(group, 4).established).toBe(4);
    expect(taken(group.stats(), 'syn')).toBe(4);
  });

  test('slots that are added take their share, also behind an empty one', async () => {
    const group = await scene.open({ sockets: 2, backlog: 4, readBy });
    expect(await group.add()).toBe(2);
    await group.remove(0);
    expect(await group.add()).toBe(0);
    expect(group.size).toBe(3);

    const clients = scene.connect(group, 15 + 2);

    expect(clients.established).toBe(15);
    expectAgreement(group, clients);
  });

  test('an empty slot is passed by', async () => {
    const group = await scene.open({ sockets: 3, backlog: 4, readBy });
    await group.remove(1);

    const clients = scene.connect(group, 10 + 2);

    expect(clients.established).toBe(10);
    expect(group.stats().sockets.map(({ slot }) => slot)).toEqual([0, 2]);
    expectAgreement(group, clients);
    expect(() => group.fd(1)).toThrow(expect.objectContaining({ code: 'ERR_SPILLWAY_NO_SUCH_SLOT' }));
  });
});
