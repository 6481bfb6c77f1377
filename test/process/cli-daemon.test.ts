/** `--daemon`: what the command that starts it sees, and what goes on without it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { freePort } from '../support/cli.js';
import { app, ask, call, ending, file, here, run, sockets, status } from '../support/service.js';
import { gone, status as processStatus } from '../support/serving.js';
import { until } from '../support/until.js';

afterEach(async () => {
  if (sockets().length > 0) await call('stop');
});

test('it returns when the service is ready, which goes on in a session of its own with its logs in files', async () => {
  const port = await freePort();
  const { code, stdout, stderr } = await call('start', app(), '-p', String(port), '--daemon');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { pid, workers } = await status();
  expect(stdout).toContain(`app is ready: process ${pid}, http://localhost:${port}`);
  const logs = join(here.state, 'spillway/app');
  expect(stdout).toContain(`Logs: ${logs}\n`);
  expect(processStatus(pid, 'NSsid')).toBe(String(pid));
  expect((await ask(port)).slot).toBe('0');
  await until(
    'the output is in its file',
    () => readFileSync(join(logs, 'app-0.out.log'), 'utf8') === 'hello from 0\n',
  );
  expect(readFileSync(join(logs, 'app.log'), 'utf8')).toContain('app is ready after');
  expect((await ask(port)).env).not.toContain('SPILLWAY_DAEMON_FD');

  process.kill(pid, 'SIGHUP');
  await until('it has reloaded', () => readFileSync(join(logs, 'app.log'), 'utf8').includes('reload: done'));
  expect((await call('stop')).code).toBe(0);
  for (const each of [pid, ...workers.map((worker) => worker.pid as number)]) await gone(each);
});

test('a start that fails has the exit code and reason of the foreground, and the words of the program', async () => {
  const script = file('throws.mjs', 'throw new Error("out of luck");');
  const failed = await call('start', script, '-p', String(await freePort()), '--daemon');
  expect(failed.code).toBe(3);
  expect(failed.stderr).toContain('0 | Error: out of luck');
  expect(failed.stderr).toMatch(/^spillway: worker 0 .*exited with code 1/m);
  expect(sockets()).toEqual([]);

  const unknown = await call('start', app(), '--user', 'no-such-user', '--daemon');
  expect(unknown).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("there is no user 'no-such-user'"),
  });
  const unwritable = await call('start', app(), '--logs', '/proc/logs', '--daemon');
  expect(unwritable).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_SPILLWAY_LOGS') });

  const port = String(await freePort());
  const ready = JSON.parse((await call('start', app(), '-p', port, '--daemon', '--json')).stdout);
  expect(ready).toMatchObject({
    name: 'app',
    pid: (await status()).pid,
    logs: join(here.state, 'spillway/app'),
  });
  const second = await call('start', app(), '-p', port, '--daemon');
  expect(second).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("a master named 'app' runs already"),
  });
});

test('Ctrl-C while it waits ends the service too', async () => {
  const script = file('idle.mjs', 'setInterval(() => {}, 1000);');
  const command = run(['start', script, '--daemon', '--name', 'idle', '--drain-timeout', '1s']);
  const pid = await until('the service runs', async () => {
    const { code, stdout } = await call('status', '--json');
    const found = code === 0 ? JSON.parse(stdout) : undefined;
    return found?.workers?.[0]?.pid && (found.pid as number);
  });
  command.child.kill('SIGINT');
  const { code, stderr } = await ending(command);
  expect({ code, stderr }).toEqual({ code: 0, stderr: 'idle was told to end before it was ready\n' });
  await gone(pid);
  expect(sockets()).toEqual([]);
});

test('under a keeper it returns when the service is ready as well', async () => {
  const port = await freePort();
  const { code, stdout } = await call('start', app(), '-p', String(port), '--daemon', '--monitor');
  expect(code).toBe(0);
  expect(stdout).toContain('is ready');
  expect((await ask(port)).slot).toBe('0');
  expect((await status()).kept).toBe(true);
  expect((await call('stop')).code).toBe(0);
});
