/** What becomes of the lines that workers write. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, renameSync, truncateSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { hasCapability } from '../../lib/group/capability.js';
import { CLI, freePort, Run } from '../support/cli.js';
import {
  app,
  ask,
  call,
  complains,
  environment,
  file,
  here,
  isReady,
  started,
  status,
} from '../support/service.js';
import { until } from '../support/until.js';

test('every line has the slot in front, long ones come in parts, the last needs no newline', async () => {
  const port = await freePort();
  const script = file(
    'writer.mjs',
    `import { createServer } from 'node:http';
     console.log('one\\ntwo');
     console.error('three');
     process.stdout.write('é'.repeat(50_000) + '\\n');
     process.on('SIGTERM', () => { process.stdout.write('the end'); process.exit(); });
     setInterval(() => {}, 1000);
     createServer().listen(process.env.PORT);`,
  );
  const service = await started([script, '-p', String(port), '-i', '2']);
  service.child.kill('SIGTERM');
  await service.ended;
  const lines = service.stdout.split('\n');
  for (const slot of [0, 1]) {
    for (const text of ['one', 'two', 'the end']) expect(lines).toContain(`${slot} | ${text}`);
    const long = lines.filter((line) => line.startsWith(`${slot} | é`)).map((line) => line.slice(4));
    // 65536 bytes are 32768 of these characters, and none is torn.
    expect(long.map(({ length }) => length)).toEqual([32_768, 50_000 - 32_768]);
    expect(service.stderr).toContain(`${slot} | three\n`);
  }
  expect(service.stdout).not.toContain('\ufffd');
});

test('logs has the last lines, of all or of one worker, and follows', async () => {
  const port = await freePort();
  const service = await started([app(), '-p', String(port), '-i', '2']);
  expect((await call('logs')).stdout.split('\n').toSorted()).toEqual([
    '',
    '0 | hello from 0',
    '1 | hello from 1',
  ]);
  expect((await call('logs', '--worker', '1')).stdout).toBe('1 | hello from 1\n');
  expect((await call('logs', '-n', '0')).stdout).toBe('');
  const [line] = (await call('logs', '--json', '--worker', '0')).stdout.split('\n');
  expect(JSON.parse(line as string)).toMatchObject({ slot: 0, stream: 'stdout', text: 'hello from 0' });

  const follower = new Run(process.execPath, [CLI, 'logs', '-f', '-n', '1'], environment());
  await follower.says('hello from');
  await ask(port, '/?complain=help');
  await follower.says(/[01] \| help\n/);
  service.child.kill('SIGTERM');
  expect(await follower.ended).toEqual([0, null]);
});

test('--logs writes files per worker, which SIGUSR2 opens anew', async () => {
  const port = await freePort();
  const logs = join(here.folder, 'deep/logs');
  const service = await started([app(), '-p', String(port), '--logs', logs, '--name', 'shop']);
  const out = join(logs, 'shop-0.out.log');
  const err = join(logs, 'shop-0.err.log');
  await until('the first line is there', () => readFileSync(out, 'utf8') === 'hello from 0\n');
  await ask(port, '/?complain=one');
  await until('the complaint is there', () => readFileSync(err, 'utf8') === 'one\n');
  expect(service.stdout).toBe('');
  renameSync(out, `${out}.1`);
  await ask(port, '/?say=two');
  await until('the moved file goes on', () => readFileSync(`${out}.1`, 'utf8').endsWith('two\n'));
  service.child.kill('SIGUSR2');
  await until('the new file is there', () => existsSync(out));
  await ask(port, '/?say=three');
  await until('it is written to', () => readFileSync(out, 'utf8') === 'three\n');
  expect((await status()).logs).toBe(logs);
});

/** Starts the program with its stdout on a pipe, or on a socket such as the one to the journal, that the test reads. */
function withOutputOn(kind: 'pipe' | 'socket', port: number): { child: ChildProcess; output: Readable } {
  const args = [CLI, 'start', app(), '-p', String(port)];
  const env = { ...process.env, ...environment() };
  if (kind === 'socket') {
    // What Node calls a pipe is a pair of sockets.
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    return { child, output: child.stdout };
  }
  const path = join(here.folder, 'fifo');
  execFileSync('mkfifo', [path]);
  const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writing = openSync(path, 'w');
  const child = spawn(process.execPath, args, { stdio: ['ignore', writing, 'pipe'], env });
  closeSync(writing);
  return { child, output: new Socket({ fd: reading, readable: true, writable: false }) };
}

const KINDS = ['pipe', 'socket'] as const;

test.each(KINDS)(
  'a reader of a %s that does not read keeps no worker from serving, and is told what it has missed',
  async (kind) => {
    const port = await freePort();
    const { child, output } = withOutputOn(kind, port);
    const ended = once(child, 'exit');
    try {
      let [out, err] = ['', ''];
      child.stderr?.on('data', (part) => {
        err += part;
      });
      await until('it is ready', () => err.includes('app is ready'));
      // Nobody reads its stdout: 16 MiB are four times what is kept.
      for (let i = 0; i < 32; i++) await ask(port, `/?long=${512 * 1024 - 1}`);
      await until('lines are dropped', async () => (await status()).droppedLines > 0);
      expect(err).toContain('WARN: the reader of stdout is too slow: lines are dropped');
      expect((await ask(port)).slot).toBe('0');
      output.on('data', (part) => {
        out += part;
      });
      await until('the rest arrives', async () => {
        await ask(port, '/?say=again');
        return out.includes('again');
      });
      const [, told] = /^spillway: (\d+) lines were dropped here/m.exec(out) ?? [];
      expect(Number(told)).toBeGreaterThan(0);
      for (const line of out.split('\n').slice(0, -1))
        expect(line).toMatch(/^(0 \| (hello|x+$|again)|spillway: )/);
    } finally {
      child.kill('SIGTERM');
      output.resume();
      await ended;
      output.destroy();
    }
  },
);

test.each(KINDS)('a broken %s: the service goes on, and ends as it should', async (kind) => {
  const port = await freePort();
  const { child, output } = withOutputOn(kind, port);
  const ended = once(child, 'exit');
  await until('it serves', () => ask(port).catch(() => undefined));
  output.destroy();
  child.stderr?.destroy();
  for (let i = 0; i < 20; i++) await ask(port, '/?say=lost&complain=lost');
  expect((await call('reload')).code).toBe(0);
  expect((await ask(port)).slot).toBe('0');
  expect((await call('logs', '-n', '1')).stdout).toMatch(/^0 \| /);
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});

test('/dev/full as stdout: nothing ends, and the lines are counted', async () => {
  const port = await freePort();
  const shell = [
    '-c',
    `exec "$0" "$@" >/dev/full`,
    process.execPath,
    CLI,
    'start',
    app(),
    '-p',
    String(port),
  ];
  const service = new Run('sh', shell, environment());
  await isReady(service);
  await ask(port, '/?say=lost');
  await until('it is counted', async () => (await status()).droppedLines >= 2);
  service.child.kill('SIGTERM');
  expect(await service.ended).toEqual([0, null]);
});

const mayMount = hasCapability('CAP_SYS_ADMIN');
test.skipIf(!mayMount)(
  'a full disk: nothing ends, it is said once, and it goes on when there is room again',
  async () => {
    const port = await freePort();
    const disk = join(here.folder, 'disk');
    const mount = `mkdir "${disk}" && mount -t tmpfs -o size=64k none "${disk}" && exec "$@"`;
    const start = [process.execPath, CLI, 'start', app(), '-p', String(port), '--logs', disk];
    const service = new Run('unshare', ['-m', 'sh', '-c', mount, 'sh', ...start], environment());
    await isReady(service);
    const inside = join(`/proc/${service.pid}/root`, disk, 'app-0.out.log');
    for (let i = 0; i < 10; i++) await ask(port, '/?long=20000');
    await complains(service, /lines for .*app-0\.out\.log are lost until it can be written again: ENOSPC/);
    for (let i = 0; i < 10; i++) await ask(port, '/?long=20000');
    expect(service.stderr.match(/are lost until/g)).toHaveLength(1);
    expect((await status()).droppedLines).toBeGreaterThan(0);
    // As whoever looks after the disk would.
    truncateSync(inside, 0);
    await ask(port, '/?say=room');
    await complains(service, /app-0\.out\.log can be written again; \d+ lines were lost/);
    await until('the line is there', () => readFileSync(inside, 'utf8').split('\n').includes('room'));
    service.child.kill('SIGTERM');
    expect(await service.ended).toEqual([0, null]);
  },
);
