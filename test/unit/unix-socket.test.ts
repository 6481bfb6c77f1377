/** Unix sockets of the addon: a question and its answer, descriptors, credentials, notices. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { native, packageRoot } from '../../lib/native.js';
import { until } from '../support/until.js';

const ADDON = join(packageRoot, 'build/Release/spillway.node');
const LONGEST_MESSAGE = 64 * 1024;
const LONGEST_REPLY = 1024 * 1024;
/** Milliseconds for an exchange that shall not end by its time. */
const LONG = 20_000;

const { exchange, notify, peerCredentials, sendWithDescriptor } = native();

/** What the server is asked for: the request is its JSON text. */
interface Order {
  /** Bytes of the reply. */
  size?: number;
  /** Descriptors to send before it, one message of one byte each. */
  descriptors?: number[];
  /** What it does then; default `end`. */
  after?: 'end' | 'hold' | 'trickle';
}

/**
 * A server in a thread of its own, since exchange() blocks this one. On the socket `deaf` it throws connections away
 * unread.
 */
const SERVER = `
const { createServer } = require('node:net');
const { workerData, parentPort } = require('node:worker_threads');
const { sendWithDescriptor } = require(workerData.addon);
createServer({ allowHalfOpen: true }, (socket) => {
  let request = '';
  socket.on('error', () => {});
  socket.on('data', (text) => { request += text; });
  socket.on('end', () => {
    const { size = 0, descriptors = [], after = 'end' } = request ? JSON.parse(request) : {};
    for (const fd of descriptors) sendWithDescriptor(socket._handle.fd, Buffer.from('d'), fd);
    if (size) socket.write('x'.repeat(size));
    if (after === 'end') socket.end();
    if (after === 'trickle') {
      const timer = setInterval(() => socket.write('.'), 10);
      socket.on('close', () => clearInterval(timer));
    }
  });
}).listen(workerData.path, () => parentPort.postMessage('listening'));
createServer({ pauseOnConnect: true }, (socket) => {
  // Nobody reads, so that the request is in the socket's queue when it is closed.
  setTimeout(() => socket.destroy(), 20);
}).listen(workerData.deaf, () => parentPort.postMessage('listening'));
`;

const folder = mkdtempSync(join(tmpdir(), 'spillway-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Node takes a zero for the first byte of an abstract name, where we write `@`. */
const forNode = (path: string) => path.replace(/^@/, '\0');
let names = 0;
const abstract = () => `@spillway-test-${process.pid}-${names++}`;

const path = abstract();
const deaf = abstract();
let server: Worker;
beforeAll(async () => {
  const workerData = { addon: ADDON, path: forNode(path), deaf: forNode(deaf) };
  server = new Worker(SERVER, { eval: true, workerData });
  await once(server, 'message');
  await once(server, 'message');
});
afterAll(() => server.terminate());

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const openDescriptors = () => readdirSync('/proc/self/fd').length;
const order = (what: Order) => Buffer.from(JSON.stringify(what));

/** Runs a Python program; resolves with it and the lines it prints, once it has printed the first. */
async function python(
  code: string,
  ...args: string[]
): Promise<{ child: ChildProcessByStdio<null, Readable, null>; lines: string[] }> {
  const child = spawn('python3', ['-uc', code, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  cleanUps.push(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  await until('the Python program is up', () => lines.length > 0);
  return { child, lines };
}

describe('exchange()', () => {
  test.each([0, 1, 70_000, LONGEST_REPLY])('gives back a reply of %d bytes, whole', (size) => {
    const { reply, fd } = exchange(path, order({ size }), LONG);
    expect(fd).toBe(-1);
    expect(reply.equals(Buffer.alloc(size, 'x'))).toBe(true);
  });

  test('takes a request that does not fit into the socket at once, and an empty one', () => {
    const long = Buffer.from(JSON.stringify({ size: 3, padding: 'p'.repeat(2_000_000) }));
    expect(exchange(path, long, LONG).reply.toString()).toBe('xxx');
    expect(exchange(path, new Uint8Array(), LONG).reply.toString()).toBe('');
  });

  test('sends the part of a buffer that it is given', () => {
    const around = Buffer.concat([Buffer.from('garbage'), order({ size: 2 }), Buffer.from('garbage')]);
    expect(exchange(path, around.subarray(7, -7), LONG).reply.toString()).toBe('xx');
  });

  test.each([
    ['a file', join(folder, 'answers')],
    // Nothing follows the name there, while this version of net.Server may fill it up with zeros.
    ['an abstract name of exactly its length', abstract()],
  ])('reaches a socket with %s', async (_, to) => {
    const code = `
import socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX); s.bind("\\0" + name[1:] if name[0] == "@" else name); s.listen(1); print("up")
c, _ = s.accept()
while c.recv(4096): pass
c.sendall(b"an answer")
`;
    await python(code, to);
    expect(exchange(to, Buffer.from('?'), LONG).reply.toString()).toBe('an answer');
  });

  describe('with a peer', () => {
    /** Says what it is asked, on the name as it is or filled up with zeros. */
    const ECHO = `
import socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX); s.bind(("\\0" + name[1:]).ljust(int(sys.argv[2]), "\\0")); s.listen(5); print("up")
while True:
    c, _ = s.accept()
    text = c.recv(4096)
    print("asked " + text.decode())
    # Whoever does not want to speak to this one has gone.
    try: c.sendall(text)
    except BrokenPipeError: pass
    c.close()
`;
    const FILLED_UP = '108';

    test('speaks to no other process, and does not tell it anything', async () => {
      const name = abstract();
      const { child, lines } = await python(ECHO, name, '0');
      const before = openDescriptors();
      expect(() => exchange(name, Buffer.from('secret'), LONG, process.pid)).toThrow(
        expect.objectContaining({ code: 'EPERM', syscall: 'connect', detail: name }),
      );
      expect(openDescriptors()).toBe(before);
      expect(exchange(name, Buffer.from('for you'), LONG, child.pid).reply.toString()).toBe('for you');
      await until('it has been asked twice', () => lines.length === 3);
      expect(lines).toEqual(['up', 'asked ', 'asked for you']);
    });

    test('finds it behind somebody who has taken its name without the zeros', async () => {
      const name = abstract();
      await python(ECHO, name, '0');
      const { child } = await python(ECHO, name, FILLED_UP);
      expect(exchange(name, Buffer.from('?'), LONG, child.pid).reply.toString()).toBe('?');
      expect(() => exchange(name, Buffer.from('?'), LONG, process.pid)).toThrow(/^EPERM/);
    });

    test('is told apart from a name of nobody', () => {
      expect(() => exchange(abstract(), Buffer.from('?'), LONG, process.pid)).toThrow(/^ECONNREFUSED/);
    });
  });

  test('keeps the first of the descriptors that come, close-on-exec, and closes the others', () => {
    const listener = new (native().Socket)('create', 4);
    cleanUps.push(() => listener.close());
    listener.bind('127.0.0.1', 0, 4);
    listener.listen(5);
    const other = openSync('/dev/null', 'r');
    cleanUps.push(() => closeSync(other));
    const before = openDescriptors();

    const { reply, fd } = exchange(path, order({ descriptors: [listener.fd, other, other], size: 2 }), LONG);

    expect(openDescriptors()).toBeGreaterThan(before);
    expect(reply.toString()).toBe('dddxx');
    expect(fd).not.toBe(listener.fd);
    expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe(readlinkSync(`/proc/self/fd/${listener.fd}`));
    const flags = Number.parseInt(
      /flags:\t(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!,
      8,
    );
    expect(flags & 0o2000000).toBe(0o2000000);
    const received = new (native().Socket)('duplicate', fd);
    cleanUps.push(() => received.close());
    expect(received.localEndpoint()).toEqual(listener.localEndpoint());
    closeSync(fd);
  });

  test('keeps one of many descriptors in a single message', async () => {
    const code = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind("\\0" + sys.argv[1][1:]); s.listen(1); print("up")
c, _ = s.accept()
while c.recv(4096): pass
socket.send_fds(c, [b"many"], [os.open("/dev/zero", os.O_RDONLY)] + [0] * 252)
`;
    const name = abstract();
    await python(code, name);
    const before = new Set(readdirSync('/proc/self/fd'));
    const { reply, fd } = exchange(name, Buffer.from('?'), LONG);
    cleanUps.push(() => closeSync(fd));
    expect(reply.toString()).toBe('many');
    expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe('/dev/zero');
    const added = readdirSync('/proc/self/fd').filter((number) => !before.has(number));
    // Reading the folder takes a descriptor as well, whose number may have been seen before.
    expect(added.filter((number) => existsSync(`/proc/self/fd/${number}`))).toEqual([String(fd)]);
  });

  test('says so when there is no room for a descriptor, instead of losing it', () => {
    const code = `
const { exchange } = require(process.argv[1]);
const { closeSync, openSync } = require('node:fs');
let last;
try { for (;;) last = openSync('/dev/null', 'r'); } catch {}
closeSync(last);
let code;
try { exchange(process.argv[2], Buffer.from(process.argv[3]), ${LONG}); } catch (error) { code = error.code + ' ' + error.syscall; }
closeSync(last - 1);
console.log(code);
`;
    const ask = JSON.stringify({ descriptors: [1], size: 1 });
    const end = spawnSync(
      '/bin/sh',
      ['-c', 'ulimit -n 60; exec "$@"', 'sh', process.execPath, '-e', code, ADDON, path, ask],
      {
        encoding: 'utf8',
      },
    );
    expect(end).toMatchObject({ status: 0, stderr: '', stdout: 'EMFILE recvmsg(SCM_RIGHTS)\n' });
  });

  describe('that fails', () => {
    const noSuchFile = join(folder, 'nobody');
    const FAILURES = [
      { what: 'an abstract name of nobody', to: abstract(), code: 'ECONNREFUSED', detail: true },
      { what: 'a file that is not there', to: noSuchFile, code: 'ENOENT', detail: true },
      { what: 'a name that is too long', to: `@${'n'.repeat(108)}`, code: 'ENAMETOOLONG', detail: true },
      { what: 'a path that is too long', to: `/${'n'.repeat(107)}`, code: 'ENAMETOOLONG', detail: true },
      { what: 'the longest name', to: `@${'n'.repeat(107)}`, code: 'ECONNREFUSED', detail: true },
      { what: 'the longest path', to: `/${'n'.repeat(106)}`, code: 'ENOENT', detail: true },
      { what: 'no path', to: '', code: 'EINVAL' },
      { what: 'no name', to: '@', code: 'EINVAL' },
      { what: 'a path with a zero in it', to: '/tmp/\0', code: 'EINVAL' },
    ] as const;

    test.each(FAILURES)('$what: $code', ({ to, code, ...more }) => {
      const before = openDescriptors();
      const detail = 'detail' in more ? { detail: to } : {};
      expect(() => exchange(to, Buffer.from('?'), LONG)).toThrow(
        expect.objectContaining({ code, syscall: 'connect', errno: expect.any(Number), ...detail }),
      );
      expect(openDescriptors()).toBe(before);
    });

    test('a reply of more than a mebibyte: EMSGSIZE', () => {
      expect(() => exchange(path, order({ size: LONGEST_REPLY + 1 }), LONG)).toThrow(/^EMSGSIZE/);
    });

    test('a server that goes without reading: ECONNRESET, also in the middle of a long request', () => {
      expect(() => exchange(deaf, order({}), LONG)).toThrow(/^ECONNRESET/);
      expect(() => exchange(deaf, Buffer.alloc(4_000_000), LONG)).toThrow(/^(ECONNRESET|EPIPE)/);
    });

    test.each([
      ['never answers', { after: 'hold' }],
      ['never ends its reply', { after: 'trickle' }],
    ] as const)('a server that %s: ETIMEDOUT at the time given', (_, what) => {
      const begin = performance.now();
      expect(() => exchange(path, order(what), 150)).toThrow(
        expect.objectContaining({ code: 'ETIMEDOUT', syscall: 'recvmsg' }),
      );
      expect(performance.now() - begin).toBeGreaterThanOrEqual(150);
      expect(performance.now() - begin).toBeLessThan(5000);
    });

    test('a server that does not read a long request: ETIMEDOUT', async () => {
      const name = join(folder, 'deaf');
      await listenOnly(name, 5);
      expect(() => exchange(name, Buffer.alloc(4_000_000), 100)).toThrow(
        expect.objectContaining({ code: 'ETIMEDOUT', syscall: 'send' }),
      );
    });

    test('a server whose backlog is full: ETIMEDOUT, at the time given', async () => {
      const name = join(folder, 'full');
      await listenOnly(name, 0);
      const client = createConnection(name);
      cleanUps.push(() => client.destroy());
      await once(client, 'connect');
      for (const timeout of [0, 150]) {
        const begin = performance.now();
        expect(() => exchange(name, Buffer.from('?'), timeout)).toThrow(
          expect.objectContaining({ code: 'ETIMEDOUT', syscall: 'connect' }),
        );
        expect(performance.now() - begin).toBeGreaterThanOrEqual(timeout);
        expect(performance.now() - begin).toBeLessThan(5000);
      }
    });

    /** A listener that never accepts. */
    async function listenOnly(name: string, backlog: number): Promise<void> {
      const code = `
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(int(sys.argv[2])); print("up")
while True: time.sleep(1000)
`;
      await python(code, name, String(backlog));
    }
  });

  test('leaves no descriptor, however it ends', async () => {
    const fd = openSync('/dev/null', 'r');
    cleanUps.push(() => closeSync(fd));
    const before = openDescriptors();
    const attempt = (to: string, what: Order, timeout: number) => {
      try {
        const { fd: received } = exchange(to, order(what), timeout);
        if (received >= 0) closeSync(received);
        return 'done';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    };
    for (let round = 0; round < 20; round++) {
      expect(attempt(path, { descriptors: [fd, fd] }, LONG)).toBe('done');
      expect(attempt(path, { descriptors: [fd], size: LONGEST_REPLY + 1 }, LONG)).toBe('EMSGSIZE');
      // Enough for the descriptor to come, mostly; the end never does.
      expect(attempt(path, { descriptors: [fd], after: 'trickle' }, 20)).toBe('ETIMEDOUT');
      expect(attempt(deaf, {}, LONG)).toBe('ECONNRESET');
    }
    // The server's ends of the connections are among ours, and it has them closed a little later.
    await until('nothing is left open', () => openDescriptors() <= before);
  });
});

/** Two connected sockets of this process; the server's side does not read. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server: Server = createServer({ pauseOnConnect: true });
  const name = forNode(abstract());
  server.listen(name);
  const near = createConnection(name);
  const [far] = (await once(server, 'connection')) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  for (const socket of [near, far]) socket.on('error', () => {});
  cleanUps.push(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

const fdOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;

describe('sendWithDescriptor()', () => {
  test('sends up to 64 KiB as a whole, without a descriptor if there is none', async () => {
    const { near, far } = await pair();
    const message = Buffer.alloc(LONGEST_MESSAGE, 'm');
    sendWithDescriptor(fdOf(near), message, -1);
    let text = '';
    far.on('data', (chunk) => {
      text += chunk;
    });
    far.resume();
    await until('all has come', () => text.length === LONGEST_MESSAGE);
    expect(text).toBe(message.toString());
  });

  test('never waits: EAGAIN when the other end does not read', async () => {
    const { near } = await pair();
    const fill = () => {
      for (let count = 0; count < 1000; count++)
        sendWithDescriptor(fdOf(near), Buffer.alloc(LONGEST_MESSAGE), -1);
    };
    expect(fill).toThrow(/^EAGAIN/);
  });

  test.each([
    ['a message that is too long', LONGEST_MESSAGE + 1, -1, 'EMSGSIZE'],
    ['an empty message', 0, 0, 'EINVAL'],
    ['a descriptor that is not open', 1, 99_999, 'EBADF'],
  ] as const)('%s is refused', async (_, size, descriptor, code) => {
    const { near } = await pair();
    expect(() => sendWithDescriptor(fdOf(near), Buffer.alloc(size), descriptor)).toThrow(
      expect.objectContaining({ code, syscall: 'sendmsg' }),
    );
  });

  test('to an end that has closed it is an error and no signal', async () => {
    const { near, far } = await pair();
    far.destroy();
    await once(far, 'close');
    expect(() => sendWithDescriptor(fdOf(near), Buffer.from('x'), 0)).toThrow(/^EPIPE/);
  });
});

describe('peerCredentials()', () => {
  test('tells who has connected', async () => {
    const server = createServer();
    const name = join(folder, 'who');
    server.listen({ path: name, readableAll: true, writableAll: true });
    await once(server, 'listening');
    chmodSync(folder, 0o755);
    cleanUps.push(() => server.close());
    const accepted = once(server, 'connection');
    const code = `
import os, socket, sys, time
os.setresgid(4321, 4321, 4321) if os.geteuid() == 0 else None
os.setresuid(1234, 1234, 1234) if os.geteuid() == 0 else None
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(os.getuid(), os.getgid())
while True: time.sleep(1000)
`;
    const { child, lines } = await python(code, name);
    const [socket] = (await accepted) as [Socket];
    cleanUps.push(() => socket.destroy());
    const [uid, gid] = lines[0]!.split(' ').map(Number);
    expect(peerCredentials(fdOf(socket))).toEqual({ pid: child.pid, uid, gid });
  });

  test('of what is no connected Unix socket there are none', () => {
    const tcp = new (native().Socket)('create', 4);
    cleanUps.push(() => tcp.close());
    const file = openSync('/dev/null', 'r');
    cleanUps.push(() => closeSync(file));
    expect(() => peerCredentials(tcp.fd)).toThrow(/^ENOTCONN/);
    expect(() => peerCredentials(file)).toThrow(/^ENOTSOCK/);
    expect(() => peerCredentials(-1)).toThrow(/^EBADF/);
  });
});

describe('notify()', () => {
  /** Prints what it receives, as JSON; without `read` it leaves all in its queue. */
  const RECEIVER = `
import json, socket, sys, time
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + name[1:] if name[0] == "@" else name)
print("up")
while sys.argv[2] == "read": print(json.dumps(s.recv(65536).decode()))
while True: time.sleep(1000)
`;

  test.each([
    ['an abstract name', abstract()],
    ['a file', join(folder, 'notify')],
  ])('sends one datagram per call to %s', async (_, to) => {
    const { lines } = await python(RECEIVER, to, 'read');
    const before = openDescriptors();
    const texts = ['READY=1\nSTATUS=Ω', 'STOPPING=1'];
    for (const text of texts) notify(to, text);
    expect(openDescriptors()).toBe(before);
    await until('both have come', () => lines.length === 3);
    expect(lines.slice(1).map((line) => JSON.parse(line))).toEqual(texts);
  });

  test('waits a second, and no longer, for a receiver that does not read', async () => {
    const to = abstract();
    await python(RECEIVER, to, 'leave');
    const before = openDescriptors();
    let begin = 0;
    const fill = () => {
      for (let count = 0; count < 10_000; count++) {
        begin = performance.now();
        notify(to, 'WATCHDOG=1');
      }
    };
    expect(fill).toThrow(expect.objectContaining({ code: 'EAGAIN', syscall: 'sendmsg', detail: to }));
    expect(performance.now() - begin).toBeGreaterThanOrEqual(1000);
    expect(performance.now() - begin).toBeLessThan(5000);
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ['nobody', abstract(), 'ECONNREFUSED'],
    ['a file that is not there', '/nonexistent/notify', 'ENOENT'],
    ['a name that is too long', `@${'n'.repeat(108)}`, 'ENAMETOOLONG'],
  ])('to %s fails', (_, to, code) => {
    const before = openDescriptors();
    expect(() => notify(to, 'READY=1')).toThrow(expect.objectContaining({ code, syscall: 'sendmsg' }));
    expect(openDescriptors()).toBe(before);
  });
});
