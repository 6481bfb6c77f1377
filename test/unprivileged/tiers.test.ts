/**
 * What works without any capability: the tiers `cbpf` and `none`, and clear words about what does not. The runner
 * starts these tests as a user without capabilities.
 */
import { readdirSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { effectiveCapabilities } from '../../lib/group/capability.js';
import { SocketGroup } from '../../lib/group/group.js';
import { native } from '../../lib/native.js';
import { until } from '../support/until.js';

const host = '127.0.0.1';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function open(options: Partial<Parameters<typeof SocketGroup.open>[0]> = {}): Promise<SocketGroup> {
  const group = await SocketGroup.open({ host, sockets: 4, backlog: 8, ...options });
  cleanUps.push(() => group.close());
  return group;
}

/** One client; resolves when the kernel has finished its handshake. */
function connect(group: SocketGroup, to = host): Promise<Socket> {
  const client = createConnection(group.address.port, to);
  cleanUps.push(() => client.destroy());
  return new Promise((done, failed) => {
    client.once('connect', () => done(client));
    client.once('error', failed);
  });
}

/** Lets new connections go to one slot alone. */
function only(group: SocketGroup, slot: number): void {
  group.setOption('enabled', true, slot);
  for (let other = 0; other < group.size; other++)
    if (other !== slot) group.setOption('enabled', false, other);
}

const queues = (group: SocketGroup) => group.stats().sockets.map(({ queue }) => queue);
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

test('this process has no capability at all', () => {
  expect(effectiveCapabilities()).toBe(0n);
});

describe('the selector', () => {
  test("'auto' takes cbpf, and says once what is missing for a better one", async () => {
    const group = await open();
    expect(group.getOption('selector')).toBe('cbpf');
    expect(group.getOption('policy')).toBe('hash');
    expect(group.notice).toMatch(/CAP_BPF and CAP_PERFMON/);
  });

  test("'ebpf' by name is an error that names the capabilities and how to grant them", async () => {
    await expect(open({ selector: 'ebpf' })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE',
      message: expect.stringContaining('missing CAP_BPF and CAP_PERFMON'),
      hint: expect.stringMatching(/AmbientCapabilities=CAP_BPF CAP_PERFMON/),
    });
  });

  test("'auto' with an option only ebpf gives is an error that says why ebpf does not work", async () => {
    await expect(open({ policy: 'least-queue' })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_TIER',
      message: expect.stringMatching(/least-queue.*ebpf.*CAP_BPF/s),
    });
  });

  test('a failed change keeps the one in force', async () => {
    const group = await open();
    expect(() => group.setOption('selector', 'ebpf')).toThrowError(/CAP_BPF/);
    expect(group.getOption('selector')).toBe('cbpf');
    await connect(group);
    expect(sum(queues(group))).toBe(1);
  });
});

describe('cbpf', () => {
  test('one connection after the other uses every queue slot of the group before the first drop', async () => {
    const group = await open();
    for (let count = 1; count <= 36; count++) {
      await connect(group);
      // The promise of this tier is "within milliseconds": the looks of this very process, a millisecond apart, come
      // before the end of this wait.
      if (queues(group).includes(9)) await wait(10);
    }
    expect(queues(group)).toEqual([9, 9, 9, 9]);
    expect(group.stats().kernelDrops).toBe(0);
  });

  test('a listener with a full queue is passed by, and chosen again when it has room', async () => {
    const group = await open({ sockets: 2, selector: 'cbpf' });
    group.setOption('enabled', false, 1);
    for (let count = 0; count < 9; count++) await connect(group);
    expect(queues(group)).toEqual([9, 0]);
    group.setOption('enabled', true, 1);
    for (let count = 0; count < 5; count++) await connect(group);
    expect(queues(group)).toEqual([9, 5]);
  });

  test('weights are kept: a socket with nine times the weight gets about nine times as much', async () => {
    const group = await open({ sockets: 2, backlog: 511 });
    group.setOption('weight', 9, 0);
    for (let count = 0; count < 300; count++) await connect(group);
    // 270 expected; six standard deviations of the binomial distribution are 31.
    expect(queues(group)[0]).toBeGreaterThan(238);
    expect(queues(group)[1]).toBeGreaterThan(0);
  });

  test('one socket must stay enabled', async () => {
    const group = await open({ sockets: 2 });
    group.setOption('enabled', false, 0);
    expect(() => group.setOption('enabled', false, 1)).toThrowError(
      expect.objectContaining({ code: 'ERR_SPILLWAY_OPTION_TIER' }),
    );
    expect(group.getOption('enabled', 1)).toBe(true);
  });

  test('slots may be filled by name, disabled at first, with empty ones between them', async () => {
    const group = await open({ sockets: 2, backlog: 100, capacity: 8 });
    expect(await group.add({ slot: 7, enabled: false })).toBe(7);
    expect(await group.add({ slot: 4 })).toBe(4);
    expect([group.size, group.stats().sockets.map(({ slot }) => slot)]).toEqual([8, [0, 1, 4, 7]]);
    for (let count = 0; count < 100; count++) await connect(group);
    const [, , fourth, seventh] = queues(group);
    expect(fourth).toBeGreaterThan(0);
    expect(seventh).toBe(0);
    group.setOption('enabled', true, 7);
    for (const slot of [0, 1, 4]) group.setOption('enabled', false, slot);
    for (let count = 0; count < 5; count++) await connect(group);
    expect(queues(group)[3]).toBe(5);
  });

  test('a backlog that a program changed on its listener is put back', async () => {
    const group = await open({ sockets: 2 });
    // What a worker does with the inherited descriptor; listen(2) acts on the shared socket.
    const inherited = new (native().Socket)('duplicate', group.fd(0));
    cleanUps.push(() => inherited.close());
    inherited.listen(511);
    await connect(group);
    await until('the limit is back', () => inherited.acceptQueue()?.limit === 8);
  });
});

describe.each(['cbpf', 'none'] as const)('%s: a socket that leaves', (selector) => {
  /** Options that take every connection handed over and answer it, so that its client knows. */
  function taking() {
    const from: number[] = [];
    const onConnection = (fd: number, slot: number) => {
      from.push(slot);
      const connection = new Socket({ fd });
      connection.end(`from ${slot}`);
    };
    return { from, onConnection };
  }

  const answer = (client: Socket) =>
    new Promise<string>((done, failed) => {
      let text = '';
      client.on('data', (chunk) => {
        text += chunk;
      });
      client.once('end', () => done(text));
      client.once('error', failed);
    });

  test.each(['remove', 'replace'] as const)('%s() hands over its whole queue', async (how) => {
    const { from, onConnection } = taking();
    const group = await open({ selector, onConnection });
    const clients: Socket[] = [];
    while (Math.max(...queues(group)) < 5) clients.push(await connect(group));
    const slot = queues(group).indexOf(5);
    const before = sum(queues(group));
    let answered = 0;
    for (const client of clients)
      void answer(client).then((text) => (answered += text === `from ${slot}` ? 1 : 0));
    await group[how](slot);
    await until('everyone who was queued there is answered', () => answered === 5);
    expect(from).toEqual(Array(5).fill(slot));
    expect(group.stats().migrated).toBe(5);
    expect(sum(queues(group))).toBe(before - 5);
    for (let count = 0; count < 10; count++) await connect(group);
    expect(sum(queues(group))).toBe(before + 5);
  });

  test('every socket may be replaced in turn, again and again, and each slot keeps its place', async () => {
    const { onConnection } = taking();
    const group = await open({ selector, onConnection, sockets: 3 });
    for (let round = 0; round < 5; round++) {
      for (const slot of [1, 0, 2]) await group.replace(slot);
    }
    if (selector === 'none') return;
    for (const slot of [0, 1, 2]) {
      only(group, slot);
      const before = queues(group);
      for (let count = 0; count < 3; count++) await connect(group);
      expect(queues(group).map((queue, index) => queue - (before[index] ?? 0))).toEqual(
        [0, 1, 2].map((index) => (index === slot ? 3 : 0)),
      );
    }
  });

  test('cannot leave when nobody would take its queue', async () => {
    const group = await open({ selector });
    await expect(group.remove(0)).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_TIER',
      message: expect.stringContaining('onConnection'),
    });
    expect(group.stats().sockets).toHaveLength(4);
  });

  test.each(['127.0.0.1', '::1'])(
    'of() takes a list in any order, on %s, and knows which socket is which',
    async (at) => {
      const source = await open({ selector, sockets: 3, host: at });
      const duplicates = [2, 0, 1].map((slot) => new (native().Socket)('duplicate', source.fd(slot)));
      source.close();
      cleanUps.push(() => {
        for (const socket of duplicates) socket.close();
      });
      const group = await SocketGroup.of(
        duplicates.map(({ fd }) => fd),
        { selector },
      );
      cleanUps.push(() => group.close());
      if (selector === 'none') return;
      for (const slot of [0, 1, 2]) {
        only(group, slot);
        await connect(group, at);
        expect(queues(group)[slot]).toBe(1);
      }
    },
  );

  test('a listener that another holder shuts down is no longer named', async () => {
    const { onConnection } = taking();
    const group = await open({ selector, onConnection, sockets: 3 });
    const held = new (native().Socket)('duplicate', group.fd(0));
    cleanUps.push(() => held.close());
    held.shutdown();
    expect(group.stats().sockets.map(({ listening }) => listening)).toEqual([false, true, true]);
    if (selector === 'none') return;
    only(group, 2);
    for (let count = 0; count < 5; count++) await connect(group);
    expect(queues(group)).toEqual([0, 0, 5]);
  });
});

test('nothing is left open after a group is closed', async () => {
  const count = () => readdirSync('/proc/self/fd').length;
  (await SocketGroup.open({ host, sockets: 4 })).close();
  const before = count();
  for (let round = 0; round < 20; round++) (await SocketGroup.open({ host, sockets: 8 })).close();
  // An epoll descriptor is closed with its handle, in the next turn of the loop.
  await until('the descriptors are closed', () => count() <= before);
});
