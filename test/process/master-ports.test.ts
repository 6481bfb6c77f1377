/** Ports that nobody has declared: who holds them, when they end, and who may have them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { missingCapabilities } from '../../lib/group/capability.js';
import type { Master } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import { tell } from '../support/apps/client.js';
import { freePort } from '../support/cli.js';
import { order, program, startMaster } from '../support/serving.js';
import { until } from '../support/until.js';

const script = program('opens.mjs');

/** Its program is ready when it says so, and listens when it is told to. */
function start(options: Partial<MasterOptions> = {}): Promise<Master> {
  const undeclared = { script, host: undefined, port: undefined, waitReady: true, minUptime: 0 };
  return startMaster({ ...undeclared, ...options } as Partial<MasterOptions>);
}

const running = (master: Master) => master.workers.filter(({ state }) => state !== 'draining');
const worker = (master: Master, slot: number) => running(master).find((each) => each.slot === slot)!;
const portsOf = (master: Master) => master.groups.map(({ address }) => address.port);
const answering = async (port: number) => Number((await tell({ host: '127.0.0.1', port }, 'http')).slot);

/** What a client meets there: a connection, or the code of its error. */
function knock(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)));
    socket.on('connect', () => resolve('connected'));
    socket.on('connect', () => socket.destroy());
  });
}

const isGone = (master: Master, port: number) =>
  until('the port has ended', () => !portsOf(master).includes(port));

describe('a port that was not declared', () => {
  for (const [how, atOnce] of [
    ['when it has closed', false],
    ['at once', true],
  ] as const) {
    test(`is closed and opened again by its only program, ${how}`, async () => {
      const master = await start({ workers: 1 });
      const port = await freePort();
      const [only] = master.workers;
      await order(master, only!, 'open', { port });
      for (let round = 0; round < 20; round++) {
        expect(await order(master, only!, 'reopen', { port, atOnce })).toMatchObject({ port });
        expect(await answering(port)).toBe(0);
        expect(portsOf(master)).toEqual([port]);
      }
      await order(master, only!, 'close', { port });
      await isGone(master, port);
      expect(await knock(port)).toBe('ECONNREFUSED');
    });
  }

  test('goes from one worker to another at one moment', async () => {
    const master = await start();
    const port = await freePort();
    let [has, gets] = [0, 1];
    await order(master, worker(master, has), 'open', { port });
    for (let round = 0; round < 20; round++) {
      const closed = order(master, worker(master, has), 'close', { port });
      expect(await order(master, worker(master, gets), 'open', { port })).toMatchObject({ port });
      await closed;
      expect(await answering(port)).toBe(gets);
      [has, gets] = [gets, has];
    }
  });

  test('is the same one when it was asked for as port 0, and then by its number', async () => {
    const master = await start();
    const { port } = (await order(master, worker(master, 0), 'open', { port: 0 })) as { port: number };
    expect(await order(master, worker(master, 1), 'open', { port })).toMatchObject({ port });
    expect(portsOf(master)).toEqual([port]);
    // What the other one has under another name does not stand in the way of port 0.
    const other = await order(master, worker(master, 1), 'open', { port: 0 });
    expect(other.port).toBeGreaterThan(0);
    expect(other.port).not.toBe(port);
    await order(master, worker(master, 0), 'close', { port: 0 });
    expect(await answering(port)).toBe(1);
  });

  test('ends when new workers listen elsewhere', async () => {
    const [before, after] = [await freePort(), await freePort()];
    const master = await start({ args: [`at=${before}`] });
    expect(portsOf(master)).toEqual([before]);
    await master.reload({ change: { args: [`at=${after}`] } });
    expect(portsOf(master)).toContain(after);
    await isGone(master, before);
    expect(await knock(before)).toBe('ECONNREFUSED');
    expect(portsOf(master)).toEqual([after]);
  });

  test('ends when it was closed while another slot had no worker', async () => {
    const master = await start({ minUptime: 60_000, restartDelay: 100 });
    const port = await freePort();
    for (const slot of [0, 1]) await order(master, worker(master, slot), 'open', { port });
    const restarting = once(master, 'worker:restart');
    worker(master, 1).kill('SIGKILL');
    await restarting;
    await order(master, worker(master, 0), 'close', { port });
    expect(portsOf(master)).toEqual([port]);
    await isGone(master, port);
    expect(await knock(port)).toBe('ECONNREFUSED');
  });

  test('ends when nobody follows in the slot of the last who had it', async () => {
    const master = await start({ autoRestart: false });
    const port = await freePort();
    await order(master, worker(master, 1), 'open', { port });
    worker(master, 1).kill('SIGKILL');
    await isGone(master, port);
  });

  describe('stays, with what waits in its queue, while nobody has it because its only worker', () => {
    const WAYS: [string, (master: Master) => unknown][] = [
      ['is restarted', (master) => master.restart()],
      ['crashes', (master) => master.workers[0]!.kill('SIGKILL')],
      ['is replaced', (master) => master.reload()],
    ];
    test.each(WAYS)('%s', async (_, end) => {
      const ports = [await freePort(), await freePort()] as const;
      // It is ready with the first, and asks for the second later.
      const master = await start({ workers: 1, waitReady: false, args: [`at=${ports}`, 'late=50'] });
      await until('both are open', () => portsOf(master).length === 2);
      const groups = [...master.groups];
      const [before] = master.workers;
      await end(master);
      await until('another is ready', () =>
        master.workers.some(({ state, pid }) => state === 'running' && pid !== before!.pid),
      );
      const answers = await Promise.all(ports.map((port) => tell({ host: '127.0.0.1', port }, 'http')));
      for (const { pid } of answers) expect(pid).not.toBe(before!.pid);
      expect(master.groups).toEqual(groups);
    });
  });
});

test('a worker that listens on what is not open is told of, once', async () => {
  const master = await start({ workers: 1 });
  const errors: Error[] = [];
  master.on('error', (error) => errors.push(error));
  const [only] = master.workers;
  for (const id of [4711, 4712]) {
    await order(master, only!, 'say', { message: { cmd: 'NODE_SPILLWAY', event: 'listening', id } });
  }
  await until('it is told', () => errors.length > 0);
  expect(errors).toEqual([
    expect.objectContaining({
      code: 'ERR_SPILLWAY_WORKER',
      message: `worker 0 (process ${only!.pid}) says that it listens on a port that is not open`,
    }),
  ]);
});

test("nobody can give back what is another worker's", async () => {
  const master = await start();
  const [port, other] = [await freePort(), await freePort()];
  await order(master, worker(master, 0), 'open', { port });
  for (let grant = 0; grant < 10; grant++) {
    const message = { cmd: 'NODE_SPILLWAY', event: 'closed', id: 1, grant };
    await order(master, worker(master, 1), 'say', { message });
  }
  // What nobody has ends at one moment.
  await order(master, worker(master, 1), 'open', { port: other });
  await order(master, worker(master, 1), 'close', { port: other });
  await isGone(master, other);
  expect(await answering(port)).toBe(0);
});

const able = missingCapabilities(['CAP_SETUID', 'CAP_SETGID', 'CAP_KILL']).length === 0;
describe.skipIf(!able)('workers of another user', () => {
  const NOBODY = { uid: 65_534, gid: 65_534, env: { HOME: '/' } };

  const first = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'));

  test.skipIf(first === 0)('get no port that only a privilege opens', async () => {
    const master = await start({ ...NOBODY, workers: 1 });
    const [only] = master.workers;
    expect(await order(master, only!, 'open', { port: first - 1 })).toEqual({
      code: 'EACCES',
      message: expect.stringMatching(/^listen EACCES: permission denied 127\.0\.0\.1:\d+ \(.*declare it/),
    });
    expect(portsOf(master)).toEqual([]);
    expect(await order(master, only!, 'open', { port: 0 })).toMatchObject({ address: '127.0.0.1' });
  });

  test("and others of theirs cannot pose as the master's desk", async () => {
    const master = await start({ ...NOBODY, workers: 1 });
    const TAKES = `
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
name = [line.split()[-1] for line in open("/proc/net/unix") if sys.argv[1] in line][0].rstrip("@")
for spelling in [name, name.ljust(108, "\\0")]:
    try:
        socket.socket(socket.AF_UNIX).bind("\\0" + spelling[1:]); print("taken")
    except OSError as error: print(error.errno)
`;
    const child = spawn('python3', ['-c', TAKES, `@spillway-${process.pid}-`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    // EADDRINUSE.
    expect(await text(child.stdout)).toBe('98\n98\n');
    expect(await order(master, master.workers[0]!, 'open', { port: 0 })).toMatchObject({
      address: '127.0.0.1',
    });
  });
});
