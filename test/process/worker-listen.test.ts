/** What listen() of an unmodified program does in a worker. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Answer, InheritedListener } from '../../lib/serve/protocol.js';
import { program } from '../support/serving.js';
import { until } from '../support/until.js';
import { BACKLOG, FIRST_GRANT, startWorker, type TestWorker } from '../support/worker-harness.js';

/** The text that a server sends to whoever connects. */
async function greeting(port: number, host = '127.0.0.1'): Promise<string> {
  const socket = connect(port, host).setEncoding('utf8');
  let text = '';
  socket.on('data', (piece) => {
    text += piece;
  });
  await once(socket, 'close');
  return text;
}

/** The worker can open so many more descriptors. */
function limitDescriptors({ child: { pid } }: TestWorker, more: number): void {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let limit = 0;
  for (let free = 0; free < more; limit++) if (!open.has(limit)) free++;
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`]);
}

/** Listens, tells its address at once, whether it had to wait, and what came of it. */
const LISTENS = `
  import net from 'node:net';
  export const listen = (name, ...args) => {
    const server = net.createServer((socket) => socket.end(name));
    server.on('error', ({ message, code, errno, syscall, address, port }) =>
      tell({ [name]: { error: { message, code, errno, syscall, address, port } } }));
    server.on('listening', () => tell({ [name]: { address: server.address(), atOnce } }));
    server.listen(...args);
    const atOnce = server.address();
    return server;
  };
`;

describe('a port that was not declared', () => {
  const ANY = expect.any(Number);
  const free = 40_000 + (process.pid % 20_000);
  for (const [call, question, address] of [
    ['0', { address: '::', family: 6, port: 0, v6Only: false, nth: 0 }, '::'],
    ['', { address: '::', port: 0 }, '::'],
    ['{ port: undefined }', { address: '::', port: 0 }, '::'],
    ['null', { address: '::', port: 0 }, '::'],
    [`${free}`, { address: '::', port: free }, '::'],
    [`'${free}', '127.0.0.1'`, { address: '127.0.0.1', family: 4, port: free }, '127.0.0.1'],
    ["Object.freeze({ port: 0, host: '127.0.0.1' })", { address: '127.0.0.1', port: 0 }, '127.0.0.1'],
    ["{ port: 0, host: '::1' }", { address: '::1', family: 6 }, '::1'],
    ["{ port: 0, host: '::', ipv6Only: true }", { address: '::', v6Only: true }, '::'],
    ["{ port: 0, host: '127.0.0.1', reusePort: true }", { address: '127.0.0.1' }, '127.0.0.1'],
    ["{ port: 0, host: '127.1' }", { address: '127.0.0.1' }, '127.0.0.1'],
    ["0, '127.0.0.1', 3", { address: '127.0.0.1' }, '127.0.0.1'],
  ] as const) {
    test(`is asked for by listen(${call})`, async () => {
      const worker = await startWorker({ declared: [], program: `${LISTENS} listen('it', ${call});` });
      const { address: bound, atOnce } = await worker.hears('it');
      expect(worker.questions).toEqual([{ ask: 'listener', ...QUESTION, ...question, nth: 0 }]);
      expect(bound.address).toBe(address);
      // Only a name keeps it waiting.
      expect(atOnce).toEqual(call.includes('127.1') ? null : bound);
      expect(await worker.says('listening')).toMatchObject({ id: 1 });
      expect(worker.limitOf(1)).toBe(BACKLOG);
      expect(await greeting(bound.port, address.includes(':') ? '::1' : '127.0.0.1')).toBe('it');
    });
    const QUESTION = { address: ANY, family: ANY, port: ANY, v6Only: false, nth: ANY };
  }

  test('of number 0 is another one for every server there is, counted by address', async () => {
    const worker = await startWorker({
      declared: [],
      program: `${LISTENS}
        listen('a', 0, '127.0.0.1'); listen('b', 0, '127.0.0.1'); listen('c', 0, '::1');
        const d = listen('d', 0, '127.0.0.1');
        d.once('listening', () => d.close(() => d.listen(0, '127.0.0.1')));`,
    });
    await worker.hears('d', 2);
    expect(worker.questions.map((each) => 'nth' in each && each.nth)).toEqual([0, 1, 0, 2, 2]);
    const ports = await Promise.all(['a', 'b', 'c'].map((name) => worker.hears(name)));
    expect(new Set(ports.map(({ address }) => address.port)).size).toBe(3);
  });

  test('is asked for anew when its server was closed, and nothing of it is kept meanwhile', async () => {
    const worker = await startWorker({
      declared: [],
      program: `${LISTENS}
        import { readdirSync, readlinkSync } from 'node:fs';
        const sockets = () => readdirSync('/proc/self/fd').filter((fd) => {
          try { return readlinkSync('/proc/self/fd/' + fd).startsWith('socket:'); } catch { return false; }
        }).length;
        const before = sockets();
        const server = listen('it', 0, '127.0.0.1');
        server.once('listening', () => {
          const { port } = server.address();
          server.close(() => {
            tell({ kept: sockets() - before });
            server.listen(port, '127.0.0.1');
          });
        });`,
    });
    const { address } = await worker.hears('it', 2);
    expect(await worker.hears('kept')).toBe(0);
    expect(worker.questions).toMatchObject([{ port: 0 }, { port: address.port, address: '127.0.0.1' }]);
    expect(worker.events).toMatchObject([
      { event: 'listening', id: 1, grant: FIRST_GRANT + 1 },
      { event: 'closed', id: 1, grant: FIRST_GRANT + 1 },
      { event: 'listening', id: 2, grant: FIRST_GRANT + 2 },
    ]);
    // The first is still this desk's, which shares the port with it.
    worker.shutdown(1);
    expect(await greeting(address.port)).toBe('it');
  });

  test('that the master has taken away before it could be used goes back, and is an error', async () => {
    const worker: TestWorker = await startWorker({
      program: `${LISTENS} process.once('message', () => listen('it', 8080)); tell({ ready: true });`,
      answer: () => {
        const [{ fd, ...listener }] = worker.listeners as [InheritedListener];
        return { listener: { ...listener, id: 7 }, grant: 9, fd } as Answer;
      },
    });
    await worker.hears('ready');
    worker.shutdown(1);
    worker.order('go');
    expect((await worker.hears('it')).error).toMatchObject({ code: 'EADDRINUSE' });
    expect(worker.events).toMatchObject([{ event: 'closed', id: 7, grant: 9 }]);
  });

  test('for which no descriptor is left goes back, is an error, and can be asked for again', async () => {
    const worker = await startWorker({
      program: `${LISTENS} process.on('message', () => listen('it', 8080, '127.0.0.1')); tell({ ready: true });`,
    });
    await worker.hears('ready');
    // The question takes two, of which one is the listener's; a server needs more than the other one.
    limitDescriptors(worker, 2);
    worker.order('listen');
    const { error } = await worker.hears('it');
    limitDescriptors(worker, 1000);
    expect(error).toEqual({
      message: 'listen EMFILE: too many open files 127.0.0.1:8080',
      code: 'EMFILE',
      errno: -24,
      syscall: 'listen',
      address: '127.0.0.1',
      port: 8080,
    });
    expect(await worker.says('closed')).toMatchObject({ grant: FIRST_GRANT + 2 });
    // The first is still this desk's, which shares the port with the next.
    worker.shutdown(2);
    worker.order('listen');
    await worker.says('listening');
    expect(await greeting(8080)).toBe('it');
  });

  test('is an IPv4 one where there is no IPv6', async () => {
    const worker = await startWorker({
      declared: [],
      program: `${LISTENS} listen('it', 0);`,
      answer: (question) =>
        'address' in question && question.address === '::'
          ? { error: { code: 'EAFNOSUPPORT', message: 'no such family' } }
          : undefined,
    });
    expect((await worker.hears('it')).address.address).toBe('0.0.0.0');
  });

  const refused: { what: string; call: string; answer: Answer | null; error: object }[] = [
    {
      what: 'as the kernel does',
      call: "80, '127.0.0.1'",
      answer: { error: { code: 'EADDRINUSE', message: 'somebody else' } },
      error: {
        message: 'listen EADDRINUSE: address already in use 127.0.0.1:80',
        code: 'EADDRINUSE',
        errno: -98,
        syscall: 'listen',
        address: '127.0.0.1',
        port: 80,
      },
    },
    {
      what: 'for want of a right',
      call: '80',
      answer: { error: { code: 'EACCES', message: '', errno: -13, syscall: 'bind' } },
      error: { message: 'bind EACCES: permission denied :::80', code: 'EACCES', errno: -13, syscall: 'bind' },
    },
    {
      what: "for want of a right, with the master's advice",
      call: "80, '127.0.0.1'",
      answer: { error: { code: 'EACCES', message: 'no', advice: 'declare it' } },
      error: { message: 'listen EACCES: permission denied 127.0.0.1:80 (declare it)', code: 'EACCES' },
    },
    {
      what: "with the master's own reason",
      call: '80',
      answer: { error: { code: 'ERR_SPILLWAY_LIMIT', message: 'too many ports' } },
      error: { message: 'listen ERR_SPILLWAY_LIMIT: too many ports :::80', code: 'ERR_SPILLWAY_LIMIT' },
    },
    {
      what: 'by a master that hangs up',
      call: "80, '127.0.0.1'",
      answer: null,
      error: { message: expect.stringContaining(`the master of this worker, process ${process.pid}`) },
    },
  ];
  for (const { what, call, answer, error } of refused) {
    test(`that is refused ${what} is an 'error' of the server, not at once`, async () => {
      const worker = await startWorker({
        declared: [],
        program: `${LISTENS} listen('it', ${call}); tell({ went: 'on' });`,
        answer: () => answer,
      });
      expect((await worker.hears('it')).error).toMatchObject(error);
      expect(Object.keys(worker.told[0] as object)).toEqual(['went']);
    });
  }

  test('without a master that answers is an error that names it', async () => {
    const worker = await startWorker({
      declared: [],
      program: `${LISTENS} process.once('message', () => listen('it', 8080)); tell({ ready: true });`,
    });
    await worker.hears('ready');
    worker.closeDesk();
    worker.order('go');
    const { error } = await worker.hears('it');
    expect(error).toMatchObject({ code: 'ECONNREFUSED', address: '::', port: 8080 });
    expect(error.message).toContain(`process ${process.pid}, has not answered`);
  });
});

describe('the kernel itself is asked', () => {
  for (const [what, call] of [
    ['for a port of this process alone', "{ port: 0, host: '127.0.0.1', exclusive: true }"],
    ['for a path', "'\\0spillway-test-' + process.pid"],
    ['for a handle', 'net.createServer().listen({ port: 0, exclusive: true })._handle'],
  ] as const) {
    test(what, async () => {
      const worker = await startWorker({ declared: [], program: `${LISTENS} listen('it', ${call});` });
      await worker.hears('it');
      expect(worker.questions).toEqual([]);
      expect(worker.has('listening')).toBe(false);
      expect(worker.has('elsewhere')).toBe(call.includes('exclusive'));
    });
  }
});

describe('two servers of one program', () => {
  test('get each its listener, and are told apart when a connection is handed over', async () => {
    const worker = await startWorker({
      declared: [{ address: '127.0.0.1' }, { address: '127.0.0.2' }],
      program: `${LISTENS}
        process.on('message', ({ order, ports }) => {
          if (order !== 'listen') return;
          listen('one', ports[0]); listen('two', ports[1], '127.0.0.2');
        });
        tell({ ready: true });`,
    });
    await worker.hears('ready');
    worker.order('listen', { ports: worker.listeners.map(({ port }) => port) });
    await worker.says('listening', 2);
    expect(await greeting(worker.listeners[0]!.port)).toBe('one');
    expect(await greeting(worker.listeners[1]!.port, '127.0.0.2')).toBe('two');
    const accepted: Socket[] = [];
    const other = createServer((socket) => accepted.push(socket)).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const port = (other.address() as { port: number }).port;
    for (const [id, name] of [
      [2, 'two'],
      [1, 'one'],
    ] as const) {
      const text = greeting(port);
      await until('it is here', () => accepted.length === 1);
      worker.handOver(accepted.pop()!, 10 + id, id);
      expect(await text).toBe(name);
    }
    const none = greeting(port).catch((error) => error.code);
    await until('it is here', () => accepted.length === 1);
    worker.handOver(accepted.pop()!, 99, 9);
    expect(['', 'ECONNRESET']).toContain(await none);
    expect(await worker.says('refused')).toMatchObject({ connection: 99 });
    expect(worker.events.filter(({ event }) => event === 'accepted')).toMatchObject([
      { connection: 12 },
      { connection: 11 },
    ]);
    other.close();
  });

  for (const [first, second] of [
    ['port', 'port'],
    ['port', "port, '127.0.0.1'"],
    ["port, '127.0.0.1'", "port, '0.0.0.0'"],
    ["port, '127.0.0.1'", "{ port, host: '127.0.0.1', reusePort: true }"],
    ["port, '127.0.0.1'", "port, '127.1'"],
  ] as const) {
    test(`on one port, (${first}) and (${second}): the second is refused as ever`, async () => {
      const worker = await startWorker({
        program: `${LISTENS} const port = Number(process.env.PORT);
          listen('first', ${first}); listen('second', ${second});`,
      });
      expect((await worker.hears('second')).error).toMatchObject({
        code: 'EADDRINUSE',
        errno: -98,
        syscall: 'listen',
        port: worker.port,
      });
      expect(worker.questions).toEqual([]);
      expect(await greeting(worker.port)).toBe('first');
    });
  }

  test('on one port of two addresses: the second is asked for', async () => {
    const worker = await startWorker({
      declared: [{ address: '0.0.0.0' }],
      program: `${LISTENS} const { PORT } = process.env;
        listen('first', PORT, '127.0.0.1'); listen('second', PORT, '127.0.0.2');`,
    });
    await worker.hears('second');
    expect(worker.questions).toMatchObject([{ address: '127.0.0.2', port: worker.port }]);
  });
});

test('a listener that the master has taken away is asked for anew', async () => {
  const worker = await startWorker({
    program: `${LISTENS} const server = listen('it', process.env.PORT, '127.0.0.1');
      process.on('message', () => server.close(() => server.listen(process.env.PORT, '127.0.0.1')));`,
  });
  await worker.says('listening');
  worker.shutdown(1);
  worker.order('again');
  expect(await worker.says('listening', 2)).toMatchObject({ id: 2 });
  expect(worker.questions).toMatchObject([{ address: '127.0.0.1', port: worker.port }]);
  expect(await greeting(worker.port)).toBe('it');
});

test('a listener that the master gives under another address cannot be listened on twice', async () => {
  const worker = await startWorker({
    program: `${LISTENS} const { PORT } = process.env;
      listen('first', PORT, '127.0.0.1'); listen('second', PORT, '127.0.0.2');`,
    answer: () => ({ listener: worker.listeners[0]!, grant: 5, fd: worker.listeners[0]!.fd }),
  });
  expect((await worker.hears('second')).error).toMatchObject({ code: 'EADDRINUSE', address: '127.0.0.2' });
  // What it could not use goes back, and the one that it has is another.
  expect(worker.events).toEqual([
    { cmd: expect.any(String), event: 'listening', id: 1 },
    { cmd: expect.any(String), event: 'closed', id: 1, grant: 5 },
  ]);
});

describe('a name that has to be resolved', () => {
  test('is taken back by close() and by a signal, and fails as ever', async () => {
    const worker = await startWorker({
      declared: [],
      program: `${LISTENS}
        const closed = listen('closed', 0, '127.1');
        closed.close(() => tell({ closing: true }));
        const abort = new AbortController();
        listen('aborted', { port: 0, host: '127.1', signal: abort.signal }).on('close', () => tell({ aborting: true }));
        abort.abort();
        listen('unknown', 0, 'x'.repeat(64) + '.invalid');`,
    });
    await worker.hears('closing');
    await worker.hears('aborting');
    expect((await worker.hears('unknown')).error.code).toMatch(/ENOTFOUND|EAI_/);
    expect(worker.questions).toEqual([]);
    expect(worker.told.flatMap(Object.keys).sort()).toEqual(['aborting', 'closing', 'unknown']);
  });
});

describe('a program that uses node:cluster', () => {
  for (const policy of ['SCHED_RR', 'SCHED_NONE']) {
    test(`with ${policy} distributes what its primary's listener gets`, async () => {
      const worker = await startWorker({
        script: program('cluster-policy.mjs'),
        args: [policy],
      });
      await worker.says('listening');
      expect(worker.questions).toEqual([]);
      const pid = await greeting(worker.port);
      expect(Number(pid)).not.toBe(worker.child.pid);
      worker.drain();
      await worker.says('drained');
      expect(await worker.says('closed')).toMatchObject({ id: 1 });
      await until('its workers have gone', () => !alive(Number(pid)));
    });
  }
});

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('children and threads of the program are no workers', async () => {
  const worker = await startWorker({
    program: `
      import { fork } from 'node:child_process';
      import { fileURLToPath } from 'node:url';
      import { Worker } from 'node:worker_threads';
      const file = ${JSON.stringify(program('is-worker.mjs'))};
      const entry = ${JSON.stringify(new URL('../../dist/lib/worker.js', import.meta.url).href)};
      // Without what made this text a program.
      const execArgv = process.execArgv.slice(0, 2);
      const { worker } = await import(entry);
      tell({ own: worker.isWorker, variables: Object.keys(process.env).filter((name) => /^(LISTEN_|SPILLWAY_WORKER)/.test(name)) });
      fork(file, [entry], { execArgv }).on('message', (forked) => tell({ forked }));
      new Worker(file, { argv: [entry], execArgv }).on('message', (thread) => tell({ thread }));
      setInterval(() => {}, 1000);`,
  });
  await worker.hears('own');
  expect(worker.told[0]).toEqual({ own: true, variables: [] });
  expect(await worker.hears('forked')).toEqual({ isWorker: false, listening: 'EADDRINUSE' });
  expect(await worker.hears('thread')).toEqual({ isWorker: false, listening: 'EADDRINUSE' });
});

test('the event loop beats', async () => {
  const worker = await startWorker({ program: 'setInterval(() => {}, 5); tell({ ready: true });' });
  await worker.hears('ready');
  await until('it has beaten', () => worker.hints.state !== 'silent');
});

test('a master that has gone ends the start', async () => {
  // Process 1 was its parent at no time.
  const SPILLWAY_WORKER = JSON.stringify({
    slot: 0,
    master: 1,
    desk: '@x',
    hints: 5,
    help: 6,
    listeners: [],
  });
  const orphan = await startWorker({ program: 'tell({ ran: true })', env: { SPILLWAY_WORKER } });
  expect(await orphan.exits()).toEqual({ code: 1, signal: null });
  expect(orphan.told).toEqual([]);
});

describe('the object `worker`', () => {
  const ENTRY = JSON.stringify(new URL('../../dist/lib/worker.js', import.meta.url).href);

  test('tells and is told', async () => {
    const worker = await startWorker({
      program: `
        const { worker } = await import(${ENTRY});
        process.on('message', () => {});
        worker.ready(); worker.ready();
        const removed = worker.onDrain(() => tell({ removed: true }));
        removed();
        worker.onDrain(() => { throw new Error('a mistake'); });
        worker.onDrain(async (reason) => {
          tell({ reason, draining: worker.draining });
          await new Promise((resolve) => process.once('message', resolve));
          worker.onDrain((late) => tell({ late }));
        });
        process.on('warning', ({ message }) => tell({ warning: message }));
        tell({ slot: worker.slot, listeners: worker.listeners, before: worker.draining });`,
    });
    const { address, family, port } = worker.listeners[0]!;
    await worker.hears('slot');
    expect(worker.told[0]).toEqual({ slot: 3, listeners: [{ address, family, port }], before: false });
    worker.drain('scale');
    expect(await worker.hears('reason')).toBe('scale');
    expect(await worker.hears('warning')).toBe('a mistake');
    expect(worker.has('drained')).toBe(false);
    worker.order('go on');
    expect(await worker.hears('late')).toBe('scale');
    await worker.says('drained');
    expect(worker.events.map(({ event }) => event)).toEqual(['ready', 'drained']);
    expect(worker.told.flatMap(Object.keys)).not.toContain('removed');
  });

  test('does nothing outside of a worker', async () => {
    const { worker } = await import('../../lib/worker.js');
    expect({ ...worker }).toMatchObject({ isWorker: false, slot: undefined, listeners: [], draining: false });
    worker.ready();
    worker.onDrain(() => {})();
    expect(() => worker.onDrain('no' as never)).toThrow(TypeError);
  });
});

test('a program that disconnects, or has a process.send of its own, goes on', async () => {
  const worker = await startWorker({
    program: `
      import net from 'node:net';
      const send = process.send;
      process.send = () => { throw new Error('not yours'); };
      net.createServer((socket) => { socket.end('here'); if (process.connected) process.disconnect(); }).listen(process.env.PORT);`,
  });
  await worker.says('listening');
  expect(await greeting(worker.port)).toBe('here');
  await until('it has disconnected', () => !worker.child.connected);
  expect(await greeting(worker.port)).toBe('here');
  worker.child.kill('SIGTERM');
  expect(await worker.exits()).toEqual({ code: null, signal: 'SIGTERM' });
});
