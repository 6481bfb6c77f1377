/** The control socket as others meet it: strangers, garbage, and what a killed master has left. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { CLI, freePort, Run } from '../support/cli.js';
import { named } from '../support/named.js';
import {
  app,
  call,
  complains,
  ending,
  endsBy,
  environment,
  here,
  run,
  sockets,
  started,
  status,
} from '../support/service.js';
import { gone } from '../support/serving.js';
import { until } from '../support/until.js';

const socketPath = () => join(here.sockets, 'app.sock');
const isRoot = process.getuid?.() === 0;

async function service(...args: string[]): Promise<Run> {
  return started([app(), '-p', String(await freePort()), ...args]);
}

interface Reply {
  status: number | undefined;
  body: string;
}

function ask(method: string, path: string, body?: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const query = request({ socketPath: socketPath(), method, path, agent: false }, (response) => {
      let text = '';
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode, body: text }));
    });
    query.on('error', reject);
    query.end(body);
  });
}

/** Sends bytes; resolves with everything that came back when the other end closes. */
function send(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(socketPath(), () => socket.write(bytes));
    socket.on('data', (part) => {
      text += part;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
}

describe('the socket', () => {
  test('belongs to its user alone, and so does its folder', async () => {
    await service();
    expect(lstatSync(here.sockets).mode & 0o777).toBe(0o700);
    expect(lstatSync(socketPath()).mode & 0o777).toBe(0o600);
  });

  test.skipIf(!isRoot)('does not answer another user, even where the modes would let one in', async () => {
    const master = await service();
    for (const folder of [here.folder, here.runtime, here.sockets]) chmodSync(folder, 0o777);
    chmodSync(socketPath(), 0o666);
    const curl = ['curl', '-sS', '--unix-socket', socketPath(), 'http://spillway/v1/status'];
    const stranger = new Run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...curl]);
    const [code] = await stranger.ended;
    expect(code).not.toBe(0);
    expect(stranger.stdout).toBe('');
    const self = new Run(curl[0] as string, curl.slice(1));
    expect(await self.ended).toEqual([0, null]);
    expect(JSON.parse(self.stdout)).toMatchObject({ name: 'app', pid: master.pid });
  });

  test('is not put into a folder that is a link, or that others can enter', async () => {
    const elsewhere = join(here.folder, 'elsewhere');
    mkdirSync(elsewhere, { mode: 0o700 });
    symlinkSync(elsewhere, here.sockets);
    const linked = await call('start', app(), '-p', String(await freePort()));
    expect(linked).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is not a folder (a link is not followed)'),
    });
    expect(readdirSync(elsewhere)).toEqual([]);

    const open = { XDG_RUNTIME_DIR: elsewhere };
    mkdirSync(join(elsewhere, 'spillway'));
    chmodSync(join(elsewhere, 'spillway'), 0o755);
    const entered = await ending(run(['start', app(), '-p', String(await freePort())], open));
    expect(entered).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('can be entered by others (mode 755)'),
    });
  });

  test.skipIf(!isRoot)("is not looked for in somebody else's folder", async () => {
    for (const folder of [here.folder, here.runtime]) chmodSync(folder, 0o777);
    mkdirSync(here.sockets);
    chmodSync(here.sockets, 0o777);
    const command = [process.execPath, CLI, 'status'];
    const stranger = new Run(
      'setpriv',
      ['--reuid=65534', '--regid=65534', '--clear-groups', ...command],
      environment(),
    );
    const { code, stderr } = await ending(stranger);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('belongs to the user with id 0'),
    });
  });

  test('a path that is too long for the kernel is told before anything is started', async () => {
    const long = join(here.folder, 'x'.repeat(100));
    const result = await ending(run(['start', app()], { XDG_RUNTIME_DIR: long }));
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('and the kernel takes 107') });
  });
});

test('what a killed master has left is replaced, and its workers are gone', async () => {
  const first = await service('-i', '2');
  const pids = (await status()).workers.map(({ pid }) => pid as number);
  first.child.kill('SIGKILL');
  await first.ended;
  expect(existsSync(socketPath())).toBe(true);
  expect((await call('status')).code).toBe(1);
  for (const pid of pids) await gone(pid);
  const second = await service();
  expect((await status()).pid).toBe(second.pid);
  expect(await endsBy(second, () => second.child.kill('SIGTERM'))).toBe(0);
});

test('a file of that name that is no socket is not touched', async () => {
  mkdirSync(here.sockets, { mode: 0o700 });
  writeFileSync(socketPath(), 'mine');
  const result = await call('start', app(), '-p', String(await freePort()));
  expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('is not a socket') });
  expect(lstatSync(socketPath()).isFile()).toBe(true);
});

test('a socket that somebody listens on without our lock is not taken away', async () => {
  mkdirSync(here.sockets, { mode: 0o700 });
  const holder = createServer().listen(socketPath());
  await new Promise((resolve) => holder.once('listening', resolve));
  try {
    const result = await call('start', app(), '-p', String(await freePort()));
    expect(result.stderr).toContain(`a master named 'app' runs already: process ${process.pid}`);
    expect(result.code).toBe(1);
  } finally {
    holder.close();
  }
});

describe('requests', () => {
  const CASES = [
    { what: 'a path that is none', method: 'GET', path: '/v1/nothing', status: 404, says: '/v1/nothing' },
    { what: 'another version', method: 'GET', path: '/v9/status', status: 404, says: '/v9/status' },
    {
      what: 'a verb that changes something by GET',
      method: 'GET',
      path: '/v1/stop',
      status: 405,
      says: 'does not take GET',
    },
    {
      what: 'a body that is no JSON',
      method: 'POST',
      path: '/v1/reload',
      body: '{',
      status: 400,
      says: 'not JSON',
    },
    {
      what: 'a body that is a list',
      method: 'POST',
      path: '/v1/reload',
      body: '[]',
      status: 400,
      says: 'not a JSON object',
    },
    {
      what: 'a key that is none',
      method: 'POST',
      path: '/v1/stop',
      body: '{"now":1}',
      status: 400,
      says: "no 'now'",
    },
    {
      what: 'a value that is none',
      method: 'POST',
      path: '/v1/scale',
      body: '{"workers":"2"}',
      status: 400,
      says: 'integer',
    },
    {
      what: 'neither of two',
      method: 'POST',
      path: '/v1/scale',
      body: '{}',
      status: 400,
      says: 'workers and by',
    },
    {
      what: 'too many workers',
      method: 'POST',
      path: '/v1/scale',
      body: '{"workers":5000}',
      status: 400,
      says: '1 to 1024',
    },
    {
      what: 'a huge body',
      method: 'POST',
      path: '/v1/reload',
      body: ' '.repeat(100_000),
      status: 413,
      says: '65536 bytes',
    },
    { what: 'lines below zero', method: 'GET', path: '/v1/logs?lines=-1', status: 400, says: 'lines takes' },
  ];
  let master: Run;
  beforeEach(async () => {
    master = await service();
  });

  test('that make no sense are told what is wrong', async () => {
    for (const [, { what, method, path, body, status: expected, says }] of named(CASES, ({ what }) => what)) {
      const reply = await ask(method, path, body);
      expect(reply.status, what).toBe(expected);
      expect(JSON.parse(reply.body).error.message, what).toContain(says);
    }
    expect((await status()).pid).toBe(master.pid);
  });

  test('garbage, huge headers and half messages do no harm, nor keep the master from ending', async () => {
    expect(await send(Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 37) % 256)))).toContain(
      '400 Bad Request',
    );
    expect(await send('\r\n\r\n\0\0\0')).toMatch(/^(HTTP\/1.1 400|$)/);
    expect(await send(`GET /v1/status HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toContain(
      '431',
    );
    expect(await send('GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n')).toMatch(/HTTP\/1.1 (400|404|500)/);
    const open: Socket[] = [];
    for (const text of [
      '',
      'GET /v1/st',
      'POST /v1/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{"a',
    ]) {
      const socket = connect(socketPath());
      socket.on('error', () => {});
      socket.write(text);
      open.push(socket);
    }
    // Cut off by themselves: what is not complete after some seconds.
    const slow = open[1] as Socket;
    expect((await status()).state).toBe('running');
    expect(await endsBy(master, () => master.child.kill('SIGTERM'))).toBe(0);
    await until('all are closed', () =>
      open.every((socket) => socket.closed || socket.destroyed || socket.resume()),
    );
    slow.destroy();
  });

  test('a request that never becomes complete is cut off', async () => {
    const reply = await send('GET /v1/status HTTP/1.1\r\nhost:');
    expect(reply).toContain('408 Request Timeout');
  });

  test('a client that goes away does not undo what it has asked for', async () => {
    const socket = connect(socketPath());
    socket.end('POST /v1/scale HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n\r\n{"workers":3}', () =>
      socket.destroy(),
    );
    await complains(master, 'scaled from 1 to 3 workers');
    expect((await status()).wanted).toBe(3);
  });

  test('a stop answers before the master ends', async () => {
    const reply = await ask('POST', '/v1/stop');
    expect(reply.status).toBe(200);
    expect(JSON.parse(reply.body)).toMatchObject({ stopped: true, pid: master.pid });
    expect(await master.ended).toEqual([0, null]);
    expect(sockets()).toEqual([]);
  });
});
