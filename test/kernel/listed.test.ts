/**
 * What the kernel lists on an address, asked by sock_diag and read from /proc in a network namespace of its own; both
 * must tell the same:
 *
 *   a listener on a link-local address, whose scope does not count
 *   a listener bound to a device
 *   half-open connections, from the SYN to the final ACK, also of a listener on all addresses
 */

import { fstatSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { halfOpenAt, listenersAt } from '../../lib/group/endpoint.js';
import { socketsInProc } from '../../lib/group/proc-net.js';
import { native } from '../../lib/native.js';
import { ownNetwork } from '../support/network.js';
import { Puppet } from '../support/puppet.js';
import { useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

const SYN_RECV = 3;
const LISTEN = 10;

ownNetwork();
testing().addIpv6Address('lo', 'fe80::7');
const scene = useScene();
let puppet: Puppet;

beforeAll(async () => {
  puppet = await Puppet.start();
});
afterAll(() => puppet.close());

test.each([
  { what: 'a link-local address', options: { host: 'fe80::7%lo' } },
  { what: 'an address, bound to a device', options: { host: '127.0.0.1', bindToDevice: 'lo' } },
  { what: 'all addresses, bound to a device', options: { host: '::', bindToDevice: 'lo' } },
] as const)('listeners on $what are told', async ({ options }) => {
  const group = await scene.open({ ...options, sockets: 3, selector: 'none' });
  const { address } = group;
  expect(native().socketsAt(address.address, address.port, address.family, 1 << LISTEN)).toEqual(
    socketsInProc(address, LISTEN),
  );
  expect(new Set(listenersAt(address).map(({ inode }) => inode))).toEqual(
    new Set(group.stats().sockets.map(({ fd }) => fstatSync(fd).ino)),
  );
});

describe.each([4, 6] as const)('IPv%i', (family) => {
  test('half-open connections are told until their handshake ends', async () => {
    const { address } = await scene.open({ host: puppet.address[family], sockets: 2, selector: 'none' });
    const elsewhere = await scene.open({ host: puppet.address[family], sockets: 2, selector: 'none' });
    const clients = await puppet.clients(3, { family, port: address.port });
    const other = await puppet.client({ family, port: elsewhere.address.port });
    for (const client of [...clients, other]) await client.syn();
    for (const client of [...clients, other]) await client.expect('SYN+ACK');

    const peers = () => new Set(halfOpenAt(address).map(({ peer }) => peer));
    const before = peers();
    expect(before.size).toBe(3);
    expect(before).toEqual(new Set(socketsInProc(address, SYN_RECV).map(({ peer }) => peer)));

    await clients[0]!.ack();
    const after = peers();
    expect(after.size).toBe(2);
    expect([...after].every((peer) => before.has(peer))).toBe(true);
  });
});

test.each([
  { host: '0.0.0.0', families: [4] },
  { host: '::', families: [6, 4] },
] as const)(
  'half-open connections of $host are told, of all families it serves',
  async ({ host, families }) => {
    const { address } = await scene.open({ host, sockets: 2, selector: 'none' });
    const clients = [];
    for (const family of families) clients.push(await puppet.client({ family, port: address.port }));
    for (const client of clients) await client.syn();
    for (const client of clients) await client.expect('SYN+ACK');

    const found = halfOpenAt(address).map(({ peer }) => peer);
    expect(new Set(found).size).toBe(families.length);
    const everywhere = { ...address, address: '' };
    expect(native().socketsAt('', address.port, address.family, 1 << SYN_RECV)).toEqual(
      socketsInProc(everywhere, SYN_RECV),
    );

    for (const client of clients) await client.ack();
    expect(halfOpenAt(address)).toEqual([]);
  },
);
