/**
 * A socket of the same user that joins the port with SO_REUSEPORT after the group was opened. Only an eBPF program
 * can keep it out; what the lower selectors do is held here as well, because the documentation says it.
 */

import { describe, expect, test } from 'vitest';
import { expectAgreement } from '../support/agreement.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { onlySlot, queues, READ_BY, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();

describe.each(
  named(
    [
      ...READ_BY.map((readBy) => ({ name: `ebpf, listeners read by ${readBy}`, options: { readBy } })),
      { name: 'ebpf with a SOCKMAP', options: { sockmap: true } },
    ],
    ({ name }) => name,
  ),
)('%s', (_, { options }) => {
  test.each(
    named(
      [
        { policy: 'hash', host: '127.0.0.1', family: 4 },
        { policy: 'two-choices', host: '127.0.0.1', family: 4 },
        { policy: 'least-queue', host: '127.0.0.1', family: 4 },
        { policy: 'two-choices', host: '::1', family: 6 },
      ] as const,
      (row) => `a foreign socket gets none of 200 connections to ${row.host} by ${row.policy}`,
    ),
  )('%s', async (_, { policy, host, family }) => {
    const group = await scene.open({
      host,
      sockets: 3,
      backlog: 200,
      policy,
      selector: 'ebpf',
      ...options,
    });
    const foreign = scene.listener({ address: host, family, port: group.address.port });

    const clients = scene.connect(group, 200);

    expect(clients.established).toBe(200);
    expect(scene.accept(foreign)).toEqual([]);
    expectAgreement(group, clients);
  });

  test('a foreign socket gets nothing when the group is full: what is too many is dropped', async () => {
    const group = await scene.open({ sockets: 2, backlog: 4, selector: 'ebpf', ...options });
    const foreign = scene.listener({ port: group.address.port });

    const clients = scene.connect(group, 10 + 5);

    expect(clients.unanswered).toBe(5);
    expect(scene.accept(foreign)).toEqual([]);
    expectAgreement(group, clients);
  });

  test('a foreign socket inherits nothing from a socket that leaves', async () => {
    const group = await scene.open({ sockets: 3, backlog: 50, selector: 'ebpf', ...options });
    const foreign = scene.listener({ port: group.address.port });
    const clients = await onlySlot(group, 0, () => scene.connect(group, 20));

    await group.remove(0);
    const later = scene.connect(group, 50);

    expect(clients.established + later.established).toBe(70);
    expect(scene.accept(foreign)).toEqual([]);
    expect(sum(queues(group))).toBe(70);
  });

  test('a foreign socket that sets a backlog of its own or goes away changes nothing', async () => {
    const group = await scene.open({ sockets: 2, backlog: 50, selector: 'ebpf', ...options });
    const foreign = scene.listener({ port: group.address.port });
    testing().listen(foreign, 4000);
    scene.close(foreign);

    expect(scene.connect(group, 60).established).toBe(60);
    expect(sum(queues(group))).toBe(60);
  });
});

describe('cbpf', () => {
  test('a foreign socket gets nothing as long as no socket of the group leaves', async () => {
    const group = await scene.open({ sockets: 3, backlog: 200, selector: 'cbpf' });
    const foreign = scene.listener({ port: group.address.port });

    expect(scene.connect(group, 200).established).toBe(200);

    expect(scene.accept(foreign)).toEqual([]);
    expect(sum(queues(group))).toBe(200);
  });

  test('when a socket of the group leaves, a foreign one may take its place: nobody is lost, but some are not ours', async () => {
    const group = await scene.open({
      sockets: 3,
      backlog: 400,
      selector: 'cbpf',
      onConnection: (fd) => scene.own(fd),
    });
    const foreign = scene.listener({ port: group.address.port, backlog: 400 });
    await group.remove(0);

    expect(scene.connect(group, 200).established).toBe(200);

    const lost = scene.accept(foreign).length;
    expect(lost).toBeGreaterThan(0);
    expect(sum(queues(group))).toBe(200 - lost);
  });
});

describe('none', () => {
  test("a foreign socket gets its share by the kernel's hash", async () => {
    const group = await scene.open({ sockets: 3, backlog: 200, selector: 'none' });
    const foreign = scene.listener({ port: group.address.port, backlog: 200 });

    expect(scene.connect(group, 200).established).toBe(200);

    const lost = scene.accept(foreign).length;
    expect(lost).toBeGreaterThan(0);
    expect(sum(queues(group))).toBe(200 - lost);
  });
});
