/**
 * What a group keeps right while things go wrong around it. Scenarios:
 *
 *   the process that opened the group ends, and others still hold its listeners
 *   clients that believe they are connected find only disabled slots
 *   a listener is shut down by another holder
 *   adopted listeners that are bound in a particular way
 *   options that are refused half-way, selectors that are changed for the same or for another one
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { native } from '../../lib/native.js';
import { ownNetwork } from '../support/network.js';
import { queues, READ_BY, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();

/** Lets new connections go to one slot alone. */
function only(group: SocketGroup, slot: number): void {
  const slots = group.stats().sockets.map((socket) => socket.slot);
  group.setOption('enabled', true, slot);
  for (const other of slots) if (other !== slot) group.setOption('enabled', false, other);
}

test('when the opener ends, whoever still holds the listeners goes on being chosen by the program', () => {
  // The opener leaves its listeners to a sleeping child, prints where they listen, and ends by itself.
  const opener = `
    import { SocketGroup } from '${new URL('../../dist/lib/group/group.js', import.meta.url)}';
    import { spawn } from 'node:child_process';
    const group = await SocketGroup.open({ host: '127.0.0.1', sockets: 2, backlog: 8, selector: 'ebpf' });
    const holder = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', group.fd(0), group.fd(1)], detached: true });
    holder.unref();
    console.log(JSON.stringify({ port: group.address.port, pid: holder.pid }));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', opener]);
  const { port, pid } = JSON.parse(stdout.toString());
  try {
    const clients = scene.connect({ address: '127.0.0.1', family: 4, port }, 18);
    expect(clients.established).toBe(18);
  } finally {
    process.kill(pid, 'SIGKILL');
  }
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test('queued connections of a leaving listener go to a disabled slot rather than to nobody', async () => {
    const group = await scene.open({ sockets: 2, backlog: 8, readBy });
    only(group, 0);
    expect(scene.connect(group, 3).established).toBe(3);
    group.setOption('enabled', false);

    testing().shutdown(group.fd(0));

    expect(queues(group)).toEqual([0, 3]);
    expect(group.stats().decisions?.migration).toMatchObject({ failed: 0, reset: 0 });
    expect(scene.connect(group, 1).unanswered).toBe(1);
  });
});

test('a listener that was shut down elsewhere is not revived by a new backlog, and counts as no sibling', async () => {
  const group = await scene.open({ sockets: 2, backlog: 8, selector: 'ebpf' });
  testing().shutdown(group.fd(1));
  group.setOption('backlog', 16);
  expect(group.stats().sockets.map(({ listening, limit }) => [listening, limit])).toEqual([
    [true, 16],
    [false, 0],
  ]);
  scene.connect(group, 3);
  await expect(group.remove(0)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_SIBLING' });
  expect(queues(group)[0]).toBe(3);
});

describe('adopted listeners that take IPv6 clients only, or both families', () => {
  function v6Listener(port = 0): number {
    const { SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY } = native()
      .constants as Record<string, number>;
    const socket = new (native().Socket)('create', 6);
    socket.setInt(SOL_SOCKET!, SO_REUSEADDR!, 1);
    socket.setInt(SOL_SOCKET!, SO_REUSEPORT!, 1);
    socket.setInt(IPPROTO_IPV6!, IPV6_V6ONLY!, 1);
    socket.bind('::', port, 6);
    socket.listen(1);
    return scene.own(socket.release());
  }

  test('IPv6-only ones stay so with their sink and with a socket that is added', async () => {
    const reserved = await scene.open({ host: '::', sockets: 1, v6Only: true });
    const { port } = reserved.address;
    reserved.close();
    const group = await scene.of([v6Listener(port), v6Listener(port)], { selector: 'ebpf' });
    const ipv4 = { address: '127.0.0.1', family: 4, port } as const;
    const ipv6 = { address: '::1', family: 6, port } as const;

    expect(group.getOption('v6Only')).toBe(true);
    expect(scene.connect(ipv4, 1).states).toEqual(['ECONNREFUSED']);
    await group.add();
    expect(scene.connect(ipv4, 1).states).toEqual(['ECONNREFUSED']);
    expect(scene.connect(ipv6, 6).established).toBe(6);
    expect(scene.connect(ipv6, 1).unanswered).toBe(1);
    expect(group.stats()).toMatchObject({ dropped: 1, decisions: { syn: { failed: 0 } } });
  });

  test('dual-stack ones may join a group that was told so by name', async () => {
    const group = await scene.open({ host: '::', sockets: 1, v6Only: false });
    const other = scene.listener({ address: '::', family: 6, port: group.address.port });
    expect(await group.add({ fd: other })).toBe(1);
  });

  test('IPv6-only ones cannot be mixed with dual-stack ones', async () => {
    const group = await scene.open({ host: '::', sockets: 1 });
    const other = v6Listener(group.address.port);
    await expect(group.add({ fd: other })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_BAD_FD',
      message: expect.stringContaining('v6Only'),
    });
  });
});

test('options that are refused half-way leave adopted sockets as they were', async () => {
  const fd = scene.listener();
  await expect(
    scene.of([fd], { noDelay: true, userTimeout: 777, congestion: 'nonesuch' }),
  ).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_RANGE' });
  const group = await scene.of([fd]);
  expect([group.getOption('noDelay'), group.getOption('userTimeout')]).toEqual([false, 0]);
});

test("'auto' with the best selector in force changes nothing, not even the counters", async () => {
  const group = await scene.open({ sockets: 2, backlog: 8, selector: 'ebpf' });
  scene.connect(group, 5);
  group.setOption('selector', 'auto');
  expect(group.stats().decisions?.syn.first).toBe(5);
});

test('slots keep their meaning over sockets that left, were replaced or added, and changes of selector', async () => {
  const taken: number[] = [];
  const group = await scene.open({
    sockets: 4,
    backlog: 100,
    selector: 'ebpf',
    onConnection: (fd) => taken.push(scene.own(fd)),
  });
  await group.remove(0);
  await group.replace(2);
  expect([await group.add(), await group.add()]).toEqual([0, 4]);
  for (const selector of ['cbpf', 'none', 'cbpf', 'ebpf', 'cbpf'] as const) {
    group.setOption('enabled', true);
    group.setOption('selector', selector);
    if (selector === 'none') continue;
    for (const { slot } of group.stats().sockets) {
      only(group, slot);
      const before = queues(group)[slot] ?? 0;
      scene.connect(group, 3);
      expect(queues(group)[slot], `slot ${slot} under ${selector}`).toBe(before + 3);
    }
    group.setOption('enabled', true);
    await group.replace(1);
  }
});
