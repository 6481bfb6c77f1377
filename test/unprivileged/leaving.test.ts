/**
 * Sockets that leave a group below the `ebpf` selector, with what makes it hard: handshakes under way, owners that
 * throw, no descriptor left, a group that is closed meanwhile, and a long history of comings and goings.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readdirSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { SocketGroup } from '../../lib/group/group.js';
import { native, packageRoot } from '../../lib/native.js';
import { Limits } from '../support/descriptors.js';
import { until } from '../support/until.js';

const host = '127.0.0.1';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function open(options: Partial<Parameters<typeof SocketGroup.open>[0]> = {}): Promise<SocketGroup> {
  const group = await SocketGroup.open({ host, sockets: 2, backlog: 50, ...options });
  cleanUps.push(() => group.close());
  return group;
}

/** A client whose handshake is finished as far as it knows; tells what it was answered, or how it ended. */
async function connect(group: SocketGroup, to = host): Promise<{ socket: Socket; answer: Promise<string> }> {
  const socket = createConnection(group.address.port, to);
  cleanUps.push(() => socket.destroy());
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  const answer = new Promise<string>((done) => {
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'error'));
    socket.once('end', () => done(text));
  });
  await once(socket, 'connect');
  return { socket, answer };
}

const connectMany = (group: SocketGroup, count: number, to = host) =>
  Promise.all(Array.from({ length: count }, () => connect(group, to)));

const answers = (clients: readonly { answer: Promise<string> }[]) =>
  Promise.all(clients.map(({ answer }) => answer));

/** Takes a connection and says so to its client. */
function serve(fd: number): void {
  new Socket({ fd }).end('served');
}

const queues = (group: SocketGroup) => group.stats().sockets.map(({ queue }) => queue);

/** Passes of the event loop during a time. */
async function loopsDuring(milliseconds: number): Promise<number> {
  const loops = () =>
    (performance.nodeTiming as unknown as { uvMetricsInfo: { loopCount: number } }).uvMetricsInfo.loopCount;
  const before = loops();
  await wait(milliseconds);
  return loops() - before;
}

describe.each(['cbpf', 'none'] as const)('%s', (selector) => {
  /** Clients that have said nothing yet, at a listener that waits for that; a sibling is there to take them over. */
  async function silentClients(options: Partial<Parameters<typeof SocketGroup.open>[0]> = {}, to = host) {
    const group = await open({ selector, sockets: 1, deferAccept: 30, onConnection: serve, ...options });
    const clients = await connectMany(group, 5, to);
    await group.add();
    return { group, clients };
  }

  test.each([
    { at: '127.0.0.1', to: '127.0.0.1' },
    { at: '0.0.0.0', to: '127.0.0.1' },
    { at: '0.0.0.0', to: '127.0.0.2' },
    { at: '::1', to: '::1' },
    { at: '::', to: '::1' },
    { at: '::', to: '127.0.0.1' },
  ])('half-open clients of $to at $at are served by the one who leaves', async ({ at, to }) => {
    const { group, clients } = await silentClients({ host: at }, to);
    const leaving = group.remove(0);
    for (const { socket } of clients) socket.write('hello');
    expect(await answers(clients)).toEqual(Array(5).fill('served'));
    await leaving;
  });

  test('an owner that throws at one connection gets the rest all the same', async () => {
    const descriptors = () => readdirSync('/proc/self/fd').length;
    let calls = 0;
    const onConnection = (fd: number) => {
      if (calls++ === 1) throw new Error('not this one');
      serve(fd);
    };
    const group = await open({ selector, sockets: 1, onConnection });
    const clients = await connectMany(group, 5);
    await group.add();
    const before = descriptors();
    await expect(group.remove(0)).rejects.toThrow(/not this one/);
    const given = await answers(clients);
    expect(calls).toBe(5);
    expect(given.filter((answer) => answer === 'served')).toHaveLength(4);
    for (const { socket } of clients) socket.destroy();
    await until('nothing is left open', () => descriptors() < before - 4);
  });

  test('several errors are told together', async () => {
    const group = await open({
      selector,
      sockets: 1,
      onConnection: () => {
        throw new Error('none of them');
      },
    });
    const clients = await connectMany(group, 3);
    await group.add();
    await expect(group.remove(0)).rejects.toMatchObject({
      cause: { errors: Array(3).fill(expect.any(Error)) },
    });
    // Closed, not left open for ever.
    await answers(clients);
  });

  test('without a free descriptor the queue waits until there is one', async () => {
    const group = await open({ selector, sockets: 1, onConnection: serve });
    const clients = await connectMany(group, 5);
    await group.add();
    const limits = new Limits();
    cleanUps.push(() => limits.end());
    await limits.lower();
    const leaving = group.remove(0);
    await wait(20);
    await limits.raise();
    await leaving;
    expect(await answers(clients)).toEqual(Array(5).fill('served'));
  });

  test('close() ends a pending remove(): the port is free at once, and nothing is handed over any more', async () => {
    let handed = 0;
    const { group, clients } = await silentClients({
      onConnection: (fd) => {
        handed++;
        closeSync(fd);
      },
    });
    const { port } = group.address;
    const leaving = group.remove(0);
    group.close();
    // Refused while any listener of the port is left.
    await open({ selector, port });
    for (const { socket } of clients) socket.write('hello');
    await leaving;
    expect(handed).toBe(0);
  });

  test('an owner that closes the group while it is given connections gets no further one', async () => {
    let handed = 0;
    const group = await open({
      selector,
      sockets: 1,
      onConnection: (fd) => {
        handed++;
        group.close();
        closeSync(fd);
      },
    });
    await connectMany(group, 5);
    await group.add();
    await group.remove(0);
    expect(handed).toBe(1);
  });

  test('a pending remove() goes on after a change of selector', async () => {
    const other = selector === 'cbpf' ? 'none' : 'cbpf';
    const { group, clients } = await silentClients();
    const leaving = group.remove(0);
    group.setOption('selector', other);
    for (const { socket } of clients) socket.write('hello');
    expect(await answers(clients)).toEqual(Array(5).fill('served'));
    await leaving;
    expect(group.stats().selector).toBe(other);
  });

  test('one that leaves is given nothing new by the selector that takes over', async () => {
    const other = selector === 'cbpf' ? 'none' : 'cbpf';
    const { group, clients } = await silentClients();
    const leaving = group.remove(0);
    group.setOption('selector', other);
    group.setOption('deferAccept', 0);
    await connectMany(group, 20);
    expect(queues(group)).toEqual([20]);
    for (const { socket } of clients) socket.write('hello');
    await leaving;
  });

  test('a listener that was shut down elsewhere costs nothing', async () => {
    const group = await open({ selector });
    const held = new (native().Socket)('duplicate', group.fd(0));
    cleanUps.push(() => held.close());
    held.shutdown();
    // It is looked at once, and for some milliseconds in case there is more.
    await wait(100);
    expect(await loopsDuring(300)).toBeLessThan(50);
  });

  test('looks do not multiply with the sockets that are added while something is queued', async () => {
    const group = await open({ selector, capacity: 16 });
    await connect(group);
    for (let count = 0; count < 8; count++) {
      await group.add();
      await connectMany(group, 8);
    }
    const timers = vi.spyOn(globalThis, 'setTimeout');
    await wait(100);
    const looks = timers.mock.calls.filter(([, milliseconds]) => milliseconds === 1).length;
    expect(looks).toBeGreaterThan(5);
    expect(looks).toBeLessThan(150);
  });

  test('a backlog that a program changed on its listener is put back', async () => {
    const group = await open({ selector, backlog: 8 });
    const inherited = [0, 1].map((slot) => new (native().Socket)('duplicate', group.fd(slot)));
    cleanUps.push(() => {
      for (const socket of inherited) socket.close();
    });
    for (const socket of inherited) socket.listen(511);
    await connect(group);
    await until('the limits are back', () => inherited.every((socket) => socket.acceptQueue()?.limit === 8));
  });
});

test('each slot is told from the others after any history of sockets and selectors', async () => {
  const group = await open({ selector: 'cbpf', sockets: 4, onConnection: serve });
  const history: (() => unknown)[] = [
    () => group.remove(1),
    () => group.add(),
    () => group.replace(0),
    () => group.setOption('selector', 'none'),
    () => group.remove(2),
    () => group.replace(0),
    () => group.setOption('selector', 'cbpf'),
    () => group.add(),
    () => group.remove(0),
    () => group.setOption('selector', 'none'),
    () => group.setOption('selector', 'cbpf'),
    () => group.add(),
  ];
  for (const step of history) await step();
  for (const slot of [0, 1, 2, 3]) {
    group.setOption('enabled', true, slot);
    for (const other of [0, 1, 2, 3]) if (other !== slot) group.setOption('enabled', false, other);
    const before = queues(group);
    await connectMany(group, 3);
    expect(queues(group).map((queue, index) => queue - before[index]!)).toEqual(
      [0, 1, 2, 3].map((index) => (index === slot ? 3 : 0)),
    );
  }
});

test('a callback of the queue watch that throws is the uncaught exception of its process', () => {
  const program = `
    const { Socket, QueueWatch } = require(${JSON.stringify(join(packageRoot, 'build/Release/spillway.node'))});
    process.once('uncaughtException', (error) => { console.log('uncaught:', error.message); process.exit(0); });
    const listener = new Socket('create', 4);
    listener.bind('127.0.0.1', 0, 4);
    listener.listen(8);
    const watch = new QueueWatch(() => { throw new Error('from the callback'); });
    watch.add(listener);
    watch.arm();
    require('node:net').connect(listener.localEndpoint().port, '127.0.0.1');
    setTimeout(() => { console.log('nothing'); process.exit(1); }, 5000);`;
  expect(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' })).toBe(
    'uncaught: from the callback\n',
  );
});
