/**
 * Slots that are filled by name, and what lies between them. Scenarios:
 *
 *   a slot beyond the end is filled, and the ones before it stay empty: choices, counts and changes of selector cope
 *   holes are filled in any order, by name or as the first empty one
 *   what a newcomer brings along: disabled until its worker listens, with a weight of its own
 *   refusals leave everything as it was
 */

import { describe, expect, test } from 'vitest';
import type { OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { expectAgreement } from '../support/agreement.js';
import { named } from '../support/named.js';
import { kernelParameter, ownNetwork, setKernelParameter } from '../support/network.js';
import { onlySlot, openDescriptors, queues, READ_BY, sum, useScene } from '../support/scene.js';

ownNetwork();
const scene = useScene();

const POLICIES = ['hash', 'two-choices', 'least-queue'] as const;

const slotsOf = (group: SocketGroup) => group.stats().sockets.map(({ slot }) => slot);

/** Queue lengths of all slots, empty ones as null. */
function bySlot(group: SocketGroup): (number | null)[] {
  const found = new Array<number | null>(group.size).fill(null);
  for (const { slot, queue } of group.stats().sockets) found[slot] = queue;
  return found;
}

/** Every slot that has a socket, and no other, gets what is meant for it. */
async function expectSlotsToWork(group: SocketGroup): Promise<void> {
  for (const slot of slotsOf(group)) {
    const before = bySlot(group);
    const clients = await onlySlot(group, slot, () => scene.connect(group, 2));
    expect(clients.established).toBe(2);
    before[slot]! += 2;
    expect(bySlot(group)).toEqual(before);
  }
}

const SELECTORS: { name: string; options: Partial<OpenOptions> }[] = [
  ...READ_BY.map((readBy) => ({
    name: `ebpf, listeners read by ${readBy}`,
    options: { selector: 'ebpf', readBy } as const,
  })),
  { name: 'ebpf with a SOCKMAP', options: { selector: 'ebpf', sockmap: true } },
  { name: 'cbpf', options: { selector: 'cbpf' } },
];

describe.each(named(SELECTORS, ({ name }) => name))('%s', (_, { options }) => {
  const open = (more: Partial<OpenOptions> = {}) =>
    scene.open({
      sockets: 2,
      capacity: 16,
      backlog: 100,
      onConnection: scene.own.bind(scene),
      ...options,
      ...more,
    });

  test('open() fills the slots from 0 on, and knows how far the group can grow', async () => {
    const group = await open({ sockets: 3 });
    expect([group.size, group.capacity, slotsOf(group)]).toEqual([3, 16, [0, 1, 2]]);
    expect((await scene.open({ sockets: 3, ...options })).capacity).toBe(64);
  });

  test('a slot beyond the end is filled, and those before it stay empty', async () => {
    const group = await open();

    expect(await group.add({ slot: 15 })).toBe(15);

    expect(group.size).toBe(16);
    expect(slotsOf(group)).toEqual([0, 1, 15]);
    expect(() => group.fd(7)).toThrow(expect.objectContaining({ code: 'ERR_SPILLWAY_NO_SUCH_SLOT' }));
    expect(group.stats().kernelDrops).toBe(0);
    await expectSlotsToWork(group);
    expect(scene.connect(group, 60).established).toBe(60);
    for (const queue of queues(group)) expect(queue).toBeGreaterThan(2);
  });

  test('holes are filled by name or as the first empty one, and left again', async () => {
    const group = await open();
    expect(await group.add({ slot: 6 })).toBe(6);
    expect(await group.add({ slot: 4 })).toBe(4);
    expect(await group.add()).toBe(2);
    await group.remove(1);
    await group.remove(4);
    expect(await group.add()).toBe(1);
    expect(await group.add()).toBe(3);
    expect([group.size, slotsOf(group)]).toEqual([7, [0, 1, 2, 3, 6]]);
    await expectSlotsToWork(group);
    await group.remove(6);
    expect(await group.add({ slot: 6 })).toBe(6);
    expect(await group.add({ slot: 5, fd: scene.listener({ port: group.address.port }) })).toBe(5);
    await expectSlotsToWork(group);
    await group.replace(6);
    await expectSlotsToWork(group);
  });

  test('holes are kept over changes of selector', async () => {
    const group = await open();
    await group.add({ slot: 9 });
    await group.remove(0);
    for (const selector of ['none', 'cbpf', 'ebpf', 'cbpf', 'ebpf'] as const) {
      group.setOption('selector', selector);
      expect(slotsOf(group)).toEqual([1, 9]);
      if (selector !== 'none') await expectSlotsToWork(group);
    }
  });

  test('a newcomer that is not enabled gets nothing before it is, and the group has its own options still', async () => {
    const group = await open();

    expect(await group.add({ slot: 5, enabled: false, weight: 500 })).toBe(5);

    expect(scene.connect(group, 40).established).toBe(40);
    expect(bySlot(group)[5]).toBe(0);
    expect([group.getOption('enabled', 5), group.getOption('weight', 5)]).toEqual([false, 500]);
    expect([group.getOption('enabled'), group.getOption('weight')]).toEqual([true, 1]);
    group.setOption('enabled', true, 5);
    expect(scene.connect(group, 50).established).toBe(50);
    expect(bySlot(group)[5]).toBeGreaterThan(0);
    await group.add({ slot: 7 });
    expect([group.getOption('enabled', 7), group.getOption('weight', 7)]).toEqual([true, 1]);
  });

  test('a slot that is taken or beyond the capacity is refused, and nothing has changed', async () => {
    const group = await open();
    await group.add({ slot: 3 });
    const before = openDescriptors().size;
    await expect(group.add({ slot: 3 })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: expect.stringContaining('slot cannot be 3'),
    });
    await expect(group.add({ slot: 16 })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_LIMIT',
      message: expect.stringContaining('16'),
    });
    // A descriptor that is refused where the slot would have been fine.
    await expect(group.add({ slot: 12, fd: group.fd(3) })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_BAD_FD',
    });
    expect([group.size, slotsOf(group), openDescriptors().size]).toEqual([4, [0, 1, 3], before]);
    await expectSlotsToWork(group);
  });
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test.each(POLICIES)('a group that is mostly holes is filled exactly, by %s', async (policy) => {
    const group = await scene.open({ sockets: 1, capacity: 1024, backlog: 4, policy, readBy });
    await group.add({ slot: 1023 });
    await group.add({ slot: 500, weight: 9 });
    await group.remove(0);

    const clients = scene.connect(group, 10 + 3);

    expect(clients.established).toBe(10);
    expectAgreement(group, clients);
    expect(slotsOf(group)).toEqual([500, 1023]);
  });

  test('a group whose only socket is disabled takes a disabled newcomer as well', async () => {
    const group = await scene.open({ sockets: 1, enabled: false, readBy });
    expect(await group.add({ slot: 2 })).toBe(2);
    expect(group.getOption('enabled', 2)).toBe(false);
    expect(await group.add({ slot: 4, enabled: true })).toBe(4);
    expect(scene.connect(group, 5).established).toBe(5);
    expect(queues(group)).toEqual([0, 0, 5]);
  });
});

describe('below ebpf', () => {
  test('a newcomer that could not be placed leaves no slot behind', async () => {
    const group = await scene.open({ sockets: 2, backlog: 50, selector: 'cbpf' });
    const enough = kernelParameter('net.core.optmem_max');
    setKernelParameter('net.core.optmem_max', 1);
    try {
      await expect(group.add({ slot: 9 })).rejects.toMatchObject({ code: 'ERR_SPILLWAY_LIMIT' });
    } finally {
      setKernelParameter('net.core.optmem_max', enough);
    }
    expect(group.size).toBe(2);
    expect(await group.add()).toBe(2);
    await expectSlotsToWork(group);
  });

  test('by cbpf a newcomer may be disabled only beside one that is enabled', async () => {
    const group = await scene.open({ sockets: 1, selector: 'cbpf', migrate: false });
    await group.add({ enabled: false });
    await group.remove(0);
    await expect(group.add({ enabled: false })).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_TIER' });
    expect(slotsOf(group)).toEqual([1]);
  });

  test.each([{ enabled: false }, { weight: 2 }])('by none a newcomer with %o is refused', async (own) => {
    const group = await scene.open({ sockets: 2, selector: 'none' });
    await expect(group.add(own)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_TIER' });
    expect(group.size).toBe(2);
    expect(await group.add({ slot: 4 })).toBe(4);
    const clients = scene.connect(group, 60);
    expect(clients.established).toBe(60);
    expect(sum(queues(group))).toBe(60);
    expect(Math.min(...queues(group))).toBeGreaterThan(0);
  });
});
