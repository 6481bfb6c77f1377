/** The protocol of sd_notify(3), against a real datagram socket. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import { CLI, freePort, Run } from '../support/cli.js';
import { Load } from '../support/load.js';
import { app, ask, call, environment, here, started, status } from '../support/service.js';
import { gone, program } from '../support/serving.js';
import { until } from '../support/until.js';

/** Prints every datagram as one line of JSON, as systemd would get it. */
const RECEIVER = `
import json, socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1].replace('@', '\\0', 1))
print('bound', flush=True)
while True:
    print(json.dumps(receiver.recv(65536).decode().split('\\n')), flush=True)
`;

async function receiver(path: string): Promise<{ process: Run; heard: () => string[][] }> {
  const process = new Run('python3', ['-c', RECEIVER, path]);
  await process.says('bound');
  const heard = () =>
    process.stdout
      .split('\n')
      .slice(1, -1)
      .map((line) => JSON.parse(line) as string[]);
  return { process, heard };
}

/** The last line of the receiver may be there in part: only whole datagrams count. */
function hears(systemd: { heard: () => string[][] }, assignment: string): Promise<unknown> {
  return until(`systemd hears ${assignment}`, () =>
    systemd.heard().some((each) => each.includes(assignment)),
  );
}

test.each(['a path', 'an abstract name'])(
  'READY, RELOADING with its time stamp, STOPPING and WATCHDOG, by %s',
  async (kind) => {
    const path = kind === 'a path' ? join(here.folder, 'notify') : `@spillway-test-${process.pid}`;
    const systemd = await receiver(path);
    const port = await freePort();
    const service = await started([app(), '-p', String(port)], {
      NOTIFY_SOCKET: path,
      WATCHDOG_USEC: '100000',
    });
    await hears(systemd, 'READY=1');
    expect(systemd.heard()[0]).toEqual(['READY=1', 'STATUS=serving with 1 worker', `MAINPID=${service.pid}`]);
    const beats = () => systemd.heard().filter(([first]) => first === 'WATCHDOG=1').length;
    await until('it has beaten four times', () => beats() >= 4);

    const { env } = await ask(port);
    expect(env.filter((name) => /^(NOTIFY_SOCKET|WATCHDOG_)/.test(name))).toEqual([]);

    const before = process.hrtime.bigint() / 1000n;
    expect((await call('reload')).code).toBe(0);
    const after = process.hrtime.bigint() / 1000n;
    await until('READY=1 follows RELOADING=1', () => {
      const said = systemd.heard().map(([first]) => first);
      return said.includes('RELOADING=1') && said.lastIndexOf('READY=1') > said.indexOf('RELOADING=1');
    });
    const reloading = systemd.heard().find(([first]) => first === 'RELOADING=1') ?? [];
    const stamp = BigInt(
      /^MONOTONIC_USEC=(\d+)$/.exec(reloading.find((each) => each.startsWith('MONO')) ?? '')?.[1] ?? 0,
    );
    expect(stamp).toBeGreaterThanOrEqual(before);
    expect(stamp).toBeLessThanOrEqual(after);

    service.child.kill('SIGTERM');
    await service.ended;
    await hears(systemd, 'STOPPING=1');
  },
);

test('a watchdog of another process is left alone', async () => {
  const path = join(here.folder, 'notify');
  const systemd = await receiver(path);
  const service = await started([app(), '-p', String(await freePort())], {
    NOTIFY_SOCKET: path,
    WATCHDOG_USEC: '20000',
    WATCHDOG_PID: '1',
  });
  service.child.kill('SIGTERM');
  await service.ended;
  await hears(systemd, 'STOPPING=1');
  expect(systemd.heard().map(([first]) => first)).toEqual(['READY=1', 'STOPPING=1']);
});

/** A service that is called `kept`, under somebody who does what systemd does. */
function underSystemd(...options: string[]): Run {
  const player = join(import.meta.dirname, '../support/systemd.py');
  const command = [process.execPath, CLI, 'start', program('esm-server.mjs'), ...options];
  const line = [player, join(here.folder, 'notify'), ...command, '--name', 'kept', '--monitor'];
  return new Run('python3', line, environment());
}

test('what outlives a master is kept in the store of systemd, which starts the next one', async () => {
  const port = await freePort();
  const systemd = underSystemd('-i', '3', '-p', String(port), '--host', '127.0.0.1');
  const masters = () =>
    systemd.stdout
      .split('\n')
      .slice(0, -1)
      .map((each) => (JSON.parse(each) as { started: number }).started);
  const serving = (count: number) =>
    until(`master ${count} serves`, async () => {
      const now = masters().length === count ? await status('kept').catch(() => undefined) : undefined;
      return now?.pid === masters().at(-1) && now?.state === 'running' ? now : undefined;
    });
  const pidsOf = ({ workers }: ServiceStatus) => workers.map(({ pid }) => pid).sort();

  const before = await serving(1);
  expect(before.kept).toBe(true);
  const load = await Load.start({ port, mode: 'per-request', rate: 80 });
  for (let count = 2; count <= 6; count++) {
    process.kill(masters().at(-1)!, 'SIGKILL');
    expect(pidsOf(await serving(count))).toEqual(pidsOf(before));
  }
  expect((await call('reload', 'kept')).code).toBe(0);
  process.kill(masters().at(-1)!, 'SIGKILL');
  const after = await serving(7);
  expect(after.workers).toHaveLength(3);
  await load.goesOn(20);
  expect((await load.stop()).failures).toEqual([]);

  systemd.child.kill('SIGTERM');
  expect(await systemd.ended).toEqual([0, null]);
  for (const pid of pidsOf(after)) await gone(pid!);
});

test('workers end when systemd gives up what it has kept', async () => {
  const systemd = underSystemd('-i', '2', '-p', String(await freePort()));
  const { pid, workers } = await until('it serves', async () => {
    const now = await status('kept').catch(() => undefined);
    return now?.state === 'running' ? now : undefined;
  });
  systemd.child.kill('SIGKILL');
  process.kill(pid, 'SIGKILL');
  for (const worker of workers) await gone(worker.pid!);
});

test('a keeper passes on what the master says, that of the next one as well', async () => {
  const path = join(here.folder, 'notify');
  const systemd = await receiver(path);
  const line = [CLI, 'start', program('esm-server.mjs'), '-i', '1', '-p', String(await freePort())];
  const service = new Run(process.execPath, [...line, '--name', 'kept', '--monitor'], {
    ...environment(),
    NOTIFY_SOCKET: path,
    WATCHDOG_USEC: '2000000',
  });
  const said = (what: string) => systemd.heard().filter((each) => each.includes(what)).length;
  await hears(systemd, 'READY=1');
  await until('it beats', () => said('WATCHDOG=1') > 2);
  expect(
    systemd
      .heard()
      .flat()
      .filter((each) => /^(MAINPID|FD)/.test(each)),
  ).toEqual([]);
  const { pid } = await status('kept');
  expect(pid).not.toBe(service.pid);
  process.kill(pid, 'SIGKILL');
  await until('the next one is ready', () => said('READY=1') === 2);
  service.child.kill('SIGTERM');
  expect(await service.ended).toEqual([0, null]);
  await hears(systemd, 'STOPPING=1');
});
