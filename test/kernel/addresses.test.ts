/**
 * Groups on different addresses of one port, and who reaches them. The scenarios of the kernel's selftest
 * reuseport_addr_any: the more specific address wins, whichever group was opened first; besides, dual stack, IPv6 only,
 * and host names.
 */

import { describe, expect, test } from 'vitest';
import type { OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { queues, READ_BY, sum, useScene } from '../support/scene.js';
import type { Target } from '../support/testing.js';
import { testing } from '../support/testing.js';

ownNetwork();
// An address besides ::1 that is in no other group's name.
testing().addIpv6Address('lo', 'fd00::1');
const scene = useScene();

const PORT = 7100;
const v4 = (address: string): Target => ({ address, family: 4, port: PORT });
const v6 = (address: string): Target => ({ address, family: 6, port: PORT });

const TIERS: { tier: string; options: Partial<OpenOptions> }[] = [
  ...READ_BY.map((readBy) => ({
    tier: `ebpf, listeners read by ${readBy}`,
    options: { selector: 'ebpf', readBy } as const,
  })),
  { tier: 'cbpf', options: { selector: 'cbpf' } },
  { tier: 'none', options: { selector: 'none' } },
];

/** Two groups on one port; each is reached by its clients and by nobody else's. */
const PAIRS: { what: string; hosts: { host: string; v6Only?: boolean; clients: Target[] }[] }[] = [
  {
    what: 'an IPv4 address and all IPv4 addresses',
    hosts: [
      { host: '127.0.0.1', clients: [v4('127.0.0.1')] },
      { host: '0.0.0.0', clients: [v4('127.0.0.2'), v4('127.9.9.9')] },
    ],
  },
  {
    what: 'an IPv6 address and all IPv6 addresses',
    hosts: [
      { host: '::1', clients: [v6('::1')] },
      { host: '::', v6Only: true, clients: [v6('fd00::1')] },
    ],
  },
  {
    what: 'an IPv4 address and all addresses of both families',
    hosts: [
      { host: '127.0.0.1', clients: [v4('127.0.0.1')] },
      { host: '::', clients: [v4('127.0.0.2'), v6('::1')] },
    ],
  },
  {
    what: 'all IPv4 addresses and all IPv6 addresses',
    hosts: [
      { host: '0.0.0.0', clients: [v4('127.0.0.1'), v4('127.0.0.2')] },
      { host: '::', v6Only: true, clients: [v6('::1')] },
    ],
  },
  {
    what: 'all IPv4 addresses and all addresses of both families',
    hosts: [
      { host: '0.0.0.0', clients: [v4('127.0.0.1')] },
      { host: '::', clients: [v6('::1')] },
    ],
  },
  {
    what: 'two IPv4 addresses',
    hosts: [
      { host: '127.0.0.1', clients: [v4('127.0.0.1')] },
      { host: '127.0.0.2', clients: [v4('127.0.0.2')] },
    ],
  },
];

describe.each(named(TIERS, ({ tier }) => tier))('%s', (_, { options }) => {
  const cases = PAIRS.flatMap(({ what, hosts }) => [
    { what, hosts, order: 'in this order' },
    { what, hosts: [...hosts].reverse(), order: 'the other way round' },
  ]);

  test.each(named(cases, (row) => `groups on ${row.what}, opened ${row.order}: each gets its own clients`))(
    '%s',
    async (_, { hosts }) => {
      const groups: SocketGroup[] = [];
      for (const { host, v6Only } of hosts) {
        groups.push(
          await scene.open({
            host,
            port: PORT,
            sockets: 2,
            ...(v6Only === undefined ? {} : { v6Only }),
            ...options,
          }),
        );
      }

      for (const [index, { clients }] of hosts.entries()) {
        const before = groups.map((group) => sum(queues(group)));
        for (const target of clients) expect(scene.connect(target, 20).established).toBe(20);
        const got = groups.map((group, other) => sum(queues(group)) - before[other]!);
        expect(got[index]).toBe(20 * clients.length);
        expect(sum(got)).toBe(got[index]);
      }
    },
  );

  test('the more specific group ends: its clients reach the other one from then on', async () => {
    const all = await scene.open({ host: '0.0.0.0', port: PORT, sockets: 2, ...options });
    const one = await scene.open({ host: '127.0.0.1', port: PORT, sockets: 2, ...options });
    expect(scene.connect(v4('127.0.0.1'), 10).established).toBe(10);
    expect(sum(queues(one))).toBe(10);

    one.close();
    expect(scene.connect(v4('127.0.0.1'), 10).established).toBe(10);

    expect(sum(queues(all))).toBe(10);
  });

  test.each(
    named(
      [
        { given: undefined, address: '::', family: 6, reached: [v4('127.0.0.1'), v6('::1')] },
        { given: '', address: '::', family: 6, reached: [v4('127.0.0.1'), v6('::1')] },
        { given: '[::1]', address: '::1', family: 6, reached: [v6('::1')] },
        { given: '0:0:0:0:0:0:0:1', address: '::1', family: 6, reached: [v6('::1')] },
        {
          given: 'localhost',
          address: expect.stringMatching(/^(127\.0\.0\.1|::1)$/),
          family: expect.anything(),
        },
      ],
      (row) => `the host ${row.given} is the address that a numeric one would be`,
    ),
  )('%s', async (_, { given, address, family, reached }) => {
    const group = await scene.open({ ...options, port: PORT, host: given as string });

    expect(group.address).toEqual({ address, family, port: PORT });
    for (const target of reached ?? []) expect(scene.connect(target, 5).established).toBe(5);
  });

  test('a client of IPv4 is refused by a group that is for IPv6 only', async () => {
    const group = await scene.open({ host: '::', v6Only: true, port: PORT, sockets: 2, ...options });

    expect(scene.connect(v4('127.0.0.1'), 1).states).toEqual(['ECONNREFUSED']);
    expect(scene.connect(v6('::1'), 3).established).toBe(3);
    expect(sum(queues(group))).toBe(3);
  });

  test('any free port is one port for all sockets, and another one for the next group', async () => {
    const first = await scene.open({ port: 0, sockets: 5, ...options });
    const second = await scene.open({ port: 0, sockets: 5, ...options });

    expect(first.address.port).toBeGreaterThan(0);
    expect(second.address.port).not.toBe(first.address.port);
    expect(scene.connect(first, 50).established).toBe(50);
    expect(sum(queues(second))).toBe(0);
  });

  const REFUSED: { what: string; open: Partial<OpenOptions>; code: string; taken?: () => unknown }[] = [
    { what: 'an unknown name', open: { host: 'no.such.host.invalid' }, code: 'ERR_SPILLWAY_HOST_UNKNOWN' },
    {
      what: 'an address of another machine',
      open: { host: '192.0.2.1' },
      code: 'ERR_SPILLWAY_ADDRESS_UNAVAILABLE',
    },
    {
      what: 'an interface that does not exist',
      open: { bindToDevice: 'nosuch0' },
      code: 'ERR_SPILLWAY_ADDRESS_UNAVAILABLE',
    },
    {
      what: 'a port that somebody holds without sharing it',
      open: { port: PORT },
      code: 'ERR_SPILLWAY_ADDRESS_IN_USE',
      taken: () => scene.listener({ port: PORT, reusePort: false }),
    },
    {
      what: 'a port that another user holds',
      open: { port: PORT },
      code: 'ERR_SPILLWAY_ADDRESS_IN_USE',
      taken: () => scene.listener({ port: PORT, reusePort: true, uid: 12345 }),
    },
    {
      what: 'a port that another service of the same user shares',
      open: { port: PORT },
      code: 'ERR_SPILLWAY_ADDRESS_IN_USE',
      taken: () => scene.listener({ port: PORT, reusePort: true }),
    },
    { what: 'a port beyond the last one', open: { port: 65536 }, code: 'ERR_SPILLWAY_OPTION_RANGE' },
    { what: 'no socket at all', open: { sockets: 0 }, code: 'ERR_SPILLWAY_OPTION_RANGE' },
    {
      what: 'more sockets than a group can have',
      open: { sockets: 1025 },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
    },
  ];

  test.each(named(REFUSED, (row) => `${row.what} is refused, and nothing is half done`))(
    '%s',
    async (_, { open, code, taken }) => {
      taken?.();

      await expect(scene.open({ ...options, ...open })).rejects.toMatchObject({ code });

      if (!taken) expect((await scene.open({ ...options, port: PORT })).address.port).toBe(PORT);
    },
  );
});
