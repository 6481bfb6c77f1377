/**
 * Which sockets a group takes. The scenarios of the kernel's selftest reuseport_array, in terms of descriptors: added
 * twice, not listening, not bound, not TCP, vanishing when closed. Whatever is refused leaves nothing behind: useScene()
 * counts the descriptors after every test.
 */

import { closeSync, openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { CommonOptions } from '../../lib/group/group.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { openDescriptors, queues, READ_BY, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();

const TIERS: { tier: string; options: CommonOptions }[] = [
  ...READ_BY.map((readBy) => ({
    tier: `ebpf, listeners read by ${readBy}`,
    options: { selector: 'ebpf', readBy } as const,
  })),
  { tier: 'ebpf with a SOCKMAP', options: { selector: 'ebpf', sockmap: true } },
  { tier: 'cbpf', options: { selector: 'cbpf' } },
  { tier: 'none', options: { selector: 'none' } },
];

const PORT = 7000;
const good = (port = PORT) => scene.listener({ port });

/** Descriptors of which the last is wrong. */
const BAD: { what: string; make(): number[]; message: RegExp }[] = [
  {
    what: 'the same descriptor twice',
    make: () => {
      const fd = good();
      return [fd, good(), fd];
    },
    message: /same socket/,
  },
  {
    what: 'one socket under two descriptors',
    make: () => {
      const fd = good();
      return [fd, scene.own(testing().duplicate(fd))];
    },
    message: /same socket/,
  },
  {
    what: 'a socket that does not listen',
    make: () => [
      good(),
      testing().openListener({ address: '127.0.0.1', family: 4, port: PORT, reusePort: true }),
    ],
    message: /does not listen/,
  },
  {
    what: 'a socket that listens on another port',
    make: () => [good(), good(PORT + 1)],
    message: /127\.0\.0\.1:7001/,
  },
  {
    what: 'a socket that listens on another address',
    make: () => [good(), scene.listener({ port: PORT, address: '127.0.0.2' })],
    message: /127\.0\.0\.2:7000/,
  },
  {
    what: 'a listener without SO_REUSEPORT',
    make: () => [scene.listener({ port: PORT, reusePort: false })],
    message: /SO_REUSEPORT/,
  },
  {
    what: 'a UDP socket',
    make: () => [
      good(),
      testing().openListener({ address: '127.0.0.1', family: 4, port: PORT, type: 'udp', reusePort: true }),
    ],
    message: /not a TCP socket/,
  },
  {
    what: 'a connected socket',
    make: () => {
      const fd = good();
      return [fd, scene.connect({ address: '127.0.0.1', family: 4, port: PORT }, 1).fds[0]!];
    },
    message: /does not listen/,
  },
  { what: 'a file', make: () => [good(), openSync('/dev/null', 'r')], message: /not a socket/ },
  { what: 'a descriptor that is not open', make: () => [good(), 1_000_000], message: /not a socket/ },
  { what: 'a negative number', make: () => [good(), -1], message: /not a descriptor/ },
  { what: 'no descriptor at all', make: () => [], message: /empty/ },
];

describe.each(named(TIERS, ({ tier }) => tier))('%s', (_, { options }) => {
  test.each(named(BAD, (row) => `${row.what} is refused, and nothing is half done`))(
    '%s',
    async (_, { make, message }) => {
      const fds = make();
      const before = openDescriptors();

      await expect(scene.of(fds, options)).rejects.toMatchObject({
        code: 'ERR_SPILLWAY_BAD_FD',
        message: expect.stringMatching(message),
      });

      expect(openDescriptors()).toEqual(before);
      // The good ones among them are as they were: a group can be made of them.
      if (fds[0] !== undefined && !message.source.includes('REUSEPORT')) {
        const group = await scene.of([fds[0]], options);
        expect(scene.connect(group, 3).established).toBe(3);
      }
      const last = fds.at(-1);
      if (last !== undefined && last >= 0 && last < 1_000_000 && !/same/.test(message.source))
        scene.own(last);
    },
  );

  test('a socket that is in a group is refused to another one, and stays where it is', async () => {
    const fds = [good(), good()];
    const group = await scene.of(fds, options);
    const before = openDescriptors();

    await expect(scene.of(fds, options)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });
    await expect(scene.of([good(), fds[1]!], options)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });
    await expect(group.add({ fd: fds[0] })).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });

    expect(openDescriptors().size).toBe(before.size + 1);
    expect(group.size).toBe(2);
    expect(scene.connect(group, 10).established).toBe(10);
  });

  test('the sockets of a group that was closed can make a new one', async () => {
    const fds = [good(), good()];
    for (let round = 0; round < 3; round++) {
      const group = await scene.of(fds, options);
      expect(scene.connect(group, 5).established).toBe(5);
      group.close();
    }
    expect(sum(fds.map((fd) => scene.accept(fd).length))).toBe(15);
  });

  test('a socket that has left its group can join another one', async () => {
    const fds = [good(), good(), good()];
    const group = await scene.of(fds.slice(0, 2), { ...options, onConnection: (fd) => scene.own(fd) });

    await group.add({ fd: fds[2] });
    expect(group.size).toBe(3);
    group.close();
    const next = await scene.of([fds[2]!], options);

    expect(next.size).toBe(1);
  });

  test("the group's own descriptors keep the sockets alive when their first owner closes his", async () => {
    const fds = [good(), good()];
    const group = await scene.of(fds, options);

    for (const fd of fds) scene.close(fd);

    expect(scene.connect(group, 20).established).toBe(20);
    expect(sum(queues(group))).toBe(20);
  });

  test('a listener keeps its own backlog unless one is given', async () => {
    const fds = [scene.listener({ port: PORT, backlog: 3 }), scene.listener({ port: PORT, backlog: 5 })];

    const group = await scene.of(fds, options);
    expect(group.stats().sockets.map(({ limit }) => limit)).toEqual([3, 5]);
    group.close();

    const other = await scene.of(fds, { ...options, backlog: 9 });
    expect(other.stats().sockets.map(({ limit }) => limit)).toEqual([9, 9]);
  });
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test('a socket vanishes from the kernel when it is shut down, and its place in the array is free again', async () => {
    const fds = [good(), good(), good()];
    const group = await scene.of(fds.slice(0, 2), { readBy });

    testing().shutdown(fds[0]!);
    expect(scene.connect(group, 20).established).toBe(20);
    await group.replace(0, fds[2]);

    // The program may listen on the old one again: it is one more socket of the port, but none of the group.
    testing().listen(fds[0]!, 100);
    expect(scene.connect(group, 40).established).toBe(40);
    expect(scene.accept(fds[0]!)).toEqual([]);
    expect(sum(queues(group))).toBe(60);
  });

  test('a descriptor that is refused as a replacement leaves the slot as it was', async () => {
    const group = await scene.of([good(), good()], { readBy });
    const clients = scene.connect(group, 6);
    const elsewhere = good(PORT + 1);

    await expect(group.replace(0, elsewhere)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });
    await expect(group.replace(0, 1_000_000)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });
    await expect(group.replace(7)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_SUCH_SLOT' });

    expect(sum(queues(group))).toBe(6);
    expect(clients.established).toBe(6);
    expect(scene.connect(group, 6).established).toBe(6);
  });

  test('a group does not grow beyond its capacity', async () => {
    const group = await scene.open({ sockets: 2, capacity: 3, readBy });
    expect(await group.add()).toBe(2);

    await expect(group.add()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_LIMIT' });

    expect(scene.connect(group, 9).established).toBe(9);
  });
});

test("a file in the list stays open and the caller's", async () => {
  const file = openSync('/dev/null', 'r');
  await expect(scene.of([file])).rejects.toMatchObject({ code: 'ERR_SPILLWAY_BAD_FD' });
  closeSync(file);
});
