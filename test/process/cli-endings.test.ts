/** How commands and masters end when something has gone: a terminal, a reader, room on the disk, the master itself. */
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI, freePort, Run } from '../support/cli.js';
import {
  app,
  ask,
  call,
  complains,
  ending,
  environment,
  file,
  here,
  run,
  sockets,
  started,
  status,
} from '../support/service.js';
import { until } from '../support/until.js';

const service = async (...args: string[]) => {
  const port = await freePort();
  return { port, master: await started([app(), '-p', String(port), ...args]) };
};

test('a master whose terminal is closed ends with 0', async () => {
  const code = `
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
while b'is ready after' not in seen: seen += os.read(fd, 65536)
while b'process' not in seen.split(b'is ready after')[-1]: seen += os.read(fd, 65536)
os.close(fd)
print('exit', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
  const args = [process.execPath, CLI, 'start', app(), '-p', String(await freePort())];
  const result = await ending(new Run('python3', ['-c', code, ...args], environment()));
  expect(result.stdout).toBe('exit 0\n');
  expect(sockets()).toEqual([]);
});

test('a killed master leaves a lock file that hinders nobody; a graceful end leaves none', async () => {
  const { master } = await service();
  expect(sockets()).toEqual(['app.lock', 'app.sock']);
  master.child.kill('SIGKILL');
  await master.ended;
  expect(sockets()).toEqual(['app.lock', 'app.sock']);
  const next = await service();
  expect(readFileSync(join(here.sockets, 'app.lock'), 'latin1')).toBe(`${next.master.pid}\n`);
  expect((await call('stop')).code).toBe(0);
  expect(sockets()).toEqual([]);
});

test('logs -f ends with 0 when its reader has gone, with 1 when the master is killed', async () => {
  const { port, master } = await service();
  const said = join(here.folder, 'code');
  const line = `{ "$0" "$@"; echo $? > '${said}'; } | head -1`;
  const piped = new Run('sh', ['-c', line, process.execPath, CLI, 'logs', '-f'], environment());
  await piped.says('hello');
  await until('it has ended', async () => {
    await ask(port, '/?say=more');
    return existsSync(said) && readFileSync(said, 'utf8') !== '';
  });
  expect(readFileSync(said, 'utf8')).toBe('0\n');

  const follower = run(['logs', '-f']);
  await follower.says('hello');
  master.child.kill('SIGKILL');
  const { code, stderr } = await ending(follower);
  expect(code).toBe(1);
  expect(stderr).toContain('has ended without ending its output');
  expect(stderr).not.toMatch(/^ +at /m);
});

test('while a service ends it has a status, a second stop joins, and a reload is refused', async () => {
  const script = file(
    'slow.mjs',
    `import { createServer } from 'node:http';
     process.on('SIGTERM', () => setTimeout(() => process.exit(), 1500));
     setInterval(() => {}, 1000);
     createServer((_, response) => response.write('begun')).listen(process.env.PORT);`,
  );
  const master = await started([script, '-p', String(await freePort()), '--drain-timeout', '0']);
  const first = call('stop');
  await complains(master, 'slow ends:');
  expect((await status()).state).toBe('stopping');
  expect(await call('reload')).toMatchObject({ code: 1, stderr: expect.stringContaining('is ending') });
  expect((await call('stop')).code).toBe(0);
  expect((await first).code).toBe(0);
});

test('a full disk under stdout is one line on stderr and exit code 1; --json tells errors as well', async () => {
  await service();
  for (const verb of ['status', 'logs']) {
    const full = new Run(
      'sh',
      ['-c', 'exec "$0" "$@" >/dev/full', process.execPath, CLI, verb],
      environment(),
    );
    const { code, stderr } = await ending(full);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^spillway: stdout cannot be written: ENOSPC.*\n$/);
  }
  const { stdout } = await call('status', 'other', '--json');
  expect(JSON.parse(stdout).error.code).toBe('ERR_SPILLWAY_NOT_RUNNING');
});

test.each([
  ['no address', 'GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n', 400],
  ['no HTTP', 'nonsense\r\n\r\n', 400],
  ['a long header', `GET /v1/status HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(9000)}\r\n\r\n`, 431],
  ['an expectation', 'GET /v1/status HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n\r\n', 417],
])('%s is answered as JSON', async (_, text, code) => {
  await service();
  const socket = connect(join(here.sockets, 'app.sock')).setEncoding('utf8');
  let answer = '';
  socket.on('data', (part) => {
    answer += part;
  });
  socket.write(text);
  await until('it is closed', () => socket.destroyed);
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${code} `));
  expect(answer.toLowerCase()).toContain('connection: close');
  expect(answer).toContain('"code":"ERR_SPILLWAY_REQUEST"');
});
