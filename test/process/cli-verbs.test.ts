/** The commands that talk to a running master. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePort, undescribed } from '../support/cli.js';
import { app, ask, call, endsBy, file, here, sockets, started, status } from '../support/service.js';
import { gone } from '../support/serving.js';
import { until } from '../support/until.js';

async function service(...args: string[]) {
  const port = await freePort();
  return { port, service: await started([app(), '-p', String(port), ...args]) };
}

test('status, reload, scale, restart and stop, each as a person and as a program reads it', async () => {
  const { port, service: master } = await service('-i', '2', '--', 'one', 'two words');
  const first = await status();
  expect(first).toMatchObject({
    name: 'app',
    pid: master.pid,
    state: 'running',
    wanted: 2,
    config: null,
    logs: null,
  });
  expect(undescribed('status', first)).toEqual([]);
  expect((await ask(port)).args).toEqual(['one', 'two words']);

  const text = await call('status');
  expect(text.code).toBe(0);
  expect(text.stdout).toMatch(/^app {2}running {2}2 of 2 workers serve/);
  expect(text.stdout).toMatch(/worker +state +pid +uptime +restarts +cpu +memory +open +queue +chosen/);
  expect(text.stdout).toMatch(new RegExp(`^ +1 +running +${first.workers[1]?.pid} `, 'm'));
  expect(text.stdout).not.toContain('\u001b');

  const reload = await call('reload', '--json');
  const result = JSON.parse(reload.stdout);
  expect(result).toMatchObject({ reloaded: true, workers: 2, needRestart: [] });
  expect(undescribed('reload', result)).toEqual([]);
  const reloaded = await status();
  const pids = new Set(first.workers.map(({ pid }) => pid));
  expect(reloaded.workers.filter(({ state }) => state === 'running').some(({ pid }) => pids.has(pid))).toBe(
    false,
  );
  expect((await call('reload', '--together')).stdout).toMatch(/^app is reloaded: 2 new workers after /);

  expect((await call('scale', 'app', '3')).stdout).toBe('app is scaled from 2 to 3 workers\n');
  expect((await call('scale', '+1')).stdout).toBe('app is scaled from 3 to 4 workers\n');
  const less = await call('scale', '-3', '--json');
  expect(JSON.parse(less.stdout)).toMatchObject({ from: 4, to: 1 });
  expect(undescribed('scale', JSON.parse(less.stdout))).toEqual([]);
  expect((await status()).wanted).toBe(1);
  expect(await call('scale', '0')).toMatchObject({ code: 2, stderr: expect.stringContaining('1 to 1024') });

  const restart = await call('restart', '--json');
  expect(JSON.parse(restart.stdout)).toMatchObject({ restarted: true, workers: 1 });
  expect(undescribed('restart', JSON.parse(restart.stdout))).toEqual([]);

  const below = (await status()).workers.map(({ pid }) => pid as number);
  const stop = await call('stop', '--json');
  expect(JSON.parse(stop.stdout)).toMatchObject({ stopped: true, pid: master.pid });
  expect(undescribed('stop', JSON.parse(stop.stdout))).toEqual([]);
  // All of it has gone at that moment, not soon.
  expect(sockets()).toEqual([]);
  for (const pid of below) await gone(pid);
  expect(await master.ended).toEqual([0, null]);
});

test('without a master every command says so, with exit code 1', async () => {
  for (const args of [['status'], ['reload'], ['scale', '2'], ['restart'], ['stop'], ['logs']]) {
    const { code, stdout, stderr } = await call(...args);
    expect({ code, stdout }, args[0]).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('spillway: no master runs');
    expect(stderr).toContain('ERR_SPILLWAY_NOT_RUNNING');
  }
});

test('with several masters a name is needed, and the error lists them', async () => {
  await service('--name', 'shop');
  await service('--name', 'blog');
  const { code, stderr } = await call('status');
  expect(code).toBe(2);
  expect(stderr).toContain('several masters run: blog, shop');
  expect((await status('shop')).name).toBe('shop');
  const other = await call('status', 'forum');
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining('Running: blog, shop.') });
});

test('a reload whose program is broken fails with the reason; the workers of before serve', async () => {
  const { port } = await service('-i', '2');
  const before = (await status()).workers.map(({ pid }) => pid);
  file('app.mjs', 'throw new Error("broken");');
  const { code, stderr } = await call('reload');
  expect(code).toBe(1);
  expect(stderr).toMatch(/^spillway: .*exited with code 1/);
  expect(stderr).toContain('ERR_SPILLWAY_RELOAD');
  expect((await status()).workers.map(({ pid }) => pid)).toEqual(before);
  expect(before).toContain((await ask(port)).pid);
});

test('a reload reads the config file again: what can be taken over is, the rest is named', async () => {
  const port = await freePort();
  const config = (colour: string, more = '') =>
    file(
      'shop.config.cjs',
      `module.exports = { name: 'shop', script: './app.mjs', port: ${port}, env: { COLOUR: '${colour}' }${more} };`,
    );
  const master = await started([config('red')]);
  expect((await ask(port)).colour).toBe('red');

  config('blue', ', args: "a b", kill_timeout: 1000, instances: 3');
  const reload = await call('reload', '--json');
  expect(JSON.parse(reload.stdout).needRestart).toEqual(['instances', 'killTimeout']);
  await until('the new worker answers', async () => (await ask(port)).colour === 'blue');
  expect((await ask(port)).args).toEqual(['a', 'b']);

  config('green', ', instances: "many"');
  const failed = await call('reload');
  expect(failed.code).toBe(2);
  expect(failed.stderr).toContain("shop.config.cjs: instances: cannot be 'many'");
  file('shop.config.cjs', 'module.exports = {');
  expect((await call('reload')).stderr).toMatch(/shop\.config\.cjs:1: SyntaxError/);
  expect((await ask(port)).colour).toBe('blue');

  config('red');
  expect((await call('reload')).code).toBe(0);
  await until('the first value is back', async () => (await ask(port)).colour === 'red');
  expect((await ask(port)).args).toEqual([]);
  expect(await endsBy(master, () => master.child.kill('SIGTERM'))).toBe(0);
});

test('any executable is served by the systemd convention, and can be reloaded', async () => {
  const port = await freePort();
  const script = join(import.meta.dirname, '../support/programs/listen-fds.py');
  const master = await started([
    'python3',
    '--exec',
    '-p',
    String(port),
    '--name',
    'py',
    '--drain-timeout',
    '1s',
    '--',
    script,
  ]);
  expect((await call('reload', 'py')).code).toBe(0);
  expect((await status('py')).workers.some(({ state }) => state === 'running')).toBe(true);
  expect(await endsBy(master, () => master.child.kill('SIGTERM'))).toBe(0);
});

const isRoot = process.getuid?.() === 0;
test.skipIf(!isRoot)(
  '--user names whom the workers run as, and what they find about themselves',
  async () => {
    // Everything above it must be open to that user.
    const { chmodSync } = await import('node:fs');
    chmodSync(here.folder, 0o755);
    const { port } = await service('--user', 'nobody:nogroup');
    expect((await ask(port)).uid).toBe(65_534);
  },
);
