/** How a worker takes connections: from its own listener, late in a turn of its event loop, and from another's. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { native, packageRoot } from '../../lib/native.js';
import { FIRST_FD } from '../../lib/serve/protocol.js';
import { certificate } from '../support/certificate.js';
import { Clients } from '../support/clients.js';
import { ownNetwork } from '../support/network.js';
import { RawClient } from '../support/raw-client.js';
import { stop } from '../support/serving.js';
import { until } from '../support/until.js';
import { startWorker, type TestWorker } from '../support/worker-harness.js';

ownNetwork();

const ADDON = join(packageRoot, 'build/Release/spillway.node');

/** Milliseconds after which an order to help is not followed any more (native/help_channel.cc). */
const TOO_LATE = 20;

/** Turns of the event loop in {@link WATCHED} milliseconds above which it is a busy one; it makes thousands then. */
const BUSY = 150;
const WATCHED = 300;

const undo: (() => void)[] = [];
let gate: string;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-'));
  gate = join(folder, 'gate');
  undo.push(() => rmSync(folder, { recursive: true }));
});
afterEach(() => {
  for (const each of undo.splice(0).reverse()) each();
});

/** What a server says to whoever connects, and then ends. */
async function greeting(port: number): Promise<string> {
  const client = await RawClient.open(port);
  expect(await client.ends()).toBe('FIN');
  return client.text;
}

function connectMany(port: number, count: number): Clients {
  const clients = Clients.connect({ address: '127.0.0.1', port, family: 4 }, count);
  undo.push(() => clients.close());
  return clients;
}

/** Waits until all have heard this and nothing else, and no connection has failed. */
async function allHear(clients: Clients, text: string): Promise<void> {
  const heard = clients.fds.map(() => '');
  await until(`all hear "${text}"; they heard ${heard}, ${clients.states}`, () => {
    for (const [index, piece] of clients.heard().entries()) heard[index] += piece;
    return heard.every((each) => each === text);
  });
}

/**
 * The parts of programs: `serve()` greets whoever connects, at the worker's port; `hold()` blocks the event loop until
 * the test opens the gate; and the orders `turn` and `watch`.
 */
const PARTS = `
  import { existsSync } from 'node:fs';
  import net from 'node:net';
  const at = { host: '127.0.0.1', port: Number(process.env.PORT) };
  const serve = (greet = (socket) => socket.end('hello')) => net.createServer((socket) => {
    socket.on('error', () => {});
    greet(socket);
  }).listen(at);
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const hold = () => {
    tell({ held: true });
    while (!existsSync(process.env.GATE)) Atomics.wait(cell, 0, 0, 1);
  };
  const turns = () => performance.nodeTiming.uvMetricsInfo.loopCount;
  process.on('message', ({ order }) => {
    if (order === 'turn') tell({ turn: true });
    if (order === 'watch') {
      const before = turns();
      setTimeout(() => tell({ turns: turns() - before }), ${WATCHED});
    }
  });
`;

async function start(program: string): Promise<TestWorker> {
  const worker = await startWorker({ program: `${PARTS}${program}`, env: { GATE: gate } });
  await worker.says('listening');
  return worker;
}

const openGate = () => writeFileSync(gate, '');

/** Waits until the event loop has made a whole turn: what had come before it has been seen, and followed. */
async function turn(worker: TestWorker): Promise<void> {
  for (let count = 0; count < 2; count++) {
    const heard = worker.told.filter((each) => 'turn' in each).length;
    worker.order('turn');
    await worker.hears('turn', heard + 1);
  }
}

async function turnsWatched(worker: TestWorker): Promise<number> {
  worker.order('watch');
  return worker.hears('turns', worker.told.filter((each) => 'turns' in each).length + 1);
}

function openFds(worker: TestWorker): number[] {
  return readdirSync(`/proc/${worker.child.pid}/fd`).map(Number);
}

function socketCount(worker: TestWorker): number {
  return openFds(worker).filter((fd) => {
    try {
      return readlinkSync(`/proc/${worker.child.pid}/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

async function noSocketLeft(worker: TestWorker, before: number): Promise<void> {
  await until(`there are ${before} sockets, no more and no fewer`, () => socketCount(worker) === before);
}

/** The worker can open no descriptor of this number or above. */
function limitDescriptors(worker: TestWorker, limit: number): void {
  execFileSync('prlimit', ['--pid', String(worker.child.pid), `--nofile=${limit}:`]);
}

/** No more than it has: the listener that it inherits has the number before. */
const NONE = FIRST_FD + 1;
const MANY = 1024;

describe('for the program it is a server as ever:', () => {
  /** Every scenario runs with a listener of the master's and with one that libuv accepts from; both must agree. */
  const compare = (scenario: string) => `
    import { AsyncLocalStorage } from 'node:async_hooks';
    import { once } from 'node:events';
    import http from 'node:http';
    import net from 'node:net';
    import { setImmediate as immediate } from 'node:timers/promises';
    import tls from 'node:tls';
    const open = async (server) => {
      const client = net.connect(server.address().port, '127.0.0.1').setEncoding('utf8');
      client.text = '';
      client.on('data', (piece) => { client.text += piece; });
      client.on('error', ({ code }) => { client.text += code; });
      client.closed_ = once(client, 'close');
      await once(client, 'connect');
      return client;
    };
    const both = (server) => Promise.all([open(server), once(server, 'connection')]);
    const greeting = async (server) => {
      const client = await open(server);
      await client.closed_;
      return client.text;
    };
    const count = (server) => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
    // A name or an address keeps a server of Node waiting.
    const listening = (at) => async (server, more) => {
      await once(server.listen({ ...at, ...more }), 'listening');
      return server;
    };
    const scenario = async (at, listen = listening(at)) => { ${scenario} };
    const results = [];
    for (const at of [{ port: Number(process.env.PORT) }, { port: 0, exclusive: true }])
      results.push(await scenario({ host: '127.0.0.1', ...at }));
    tell({ results });
  `;

  const rows: { what: string; scenario: string; result: unknown }[] = [
    {
      what: 'it tells that it listens, and where, and whom it connects',
      scenario: `
        const server = net.createServer((socket) => socket.end('hello'));
        const before = [server.listening, server.address()];
        await listen(server);
        const { address, family, port } = server.address();
        const after = [server.listening, address, family, port > 0];
        let again;
        try { server.listen(at); } catch ({ code }) { again = code; }
        const [client, [socket]] = await both(server);
        const ends = [socket.server === server, socket.localPort === port, socket.remotePort === client.localPort];
        await client.closed_;
        server.close();
        return [...before, ...after, again, ...ends, client.text, server.address()];`,
      result: [
        ...[false, null, true, '127.0.0.1', 'IPv4', true, 'ERR_SERVER_ALREADY_LISTEN'],
        ...[true, true, true, 'hello', null],
      ],
    },
    {
      what: 'its connections are counted',
      scenario: `
        const server = await listen(net.createServer((socket) => socket.resume()));
        const counts = [await count(server)];
        const clients = [];
        for (let number = 0; number < 3; number++) {
          clients.push((await both(server))[0]);
          counts.push(await count(server));
        }
        server.close();
        for (const client of clients) client.end();
        await once(server, 'close');
        return [...counts, await count(server)];`,
      result: [0, 1, 2, 3, 0],
    },
    {
      what: 'more connections than it wants are closed, and told',
      scenario: `
        const server = await listen(net.createServer((socket) => socket.resume()));
        server.maxConnections = 1;
        const [first] = await both(server);
        const [second, [dropped]] = await Promise.all([open(server), once(server, 'drop')]);
        await second.closed_;
        const own = dropped.localPort === server.address().port && dropped.remotePort > 0;
        first.end();
        while (await count(server) > 0) await immediate();
        const [third] = await both(server);
        third.end();
        server.close();
        return [Object.keys(dropped).sort(), dropped.remoteAddress, own];`,
      result: [
        ['localAddress', 'localFamily', 'localPort', 'remoteAddress', 'remoteFamily', 'remotePort'],
        '127.0.0.1',
        true,
      ],
    },
    {
      what: 'pauseOnConnect leaves what is sent to whoever resumes',
      scenario: `
        const server = await listen(net.createServer({ pauseOnConnect: true }));
        const [client, [socket]] = await both(server);
        client.end('early');
        await once(client, 'finish');
        for (let turns = 0; turns < 5; turns++) await immediate();
        const paused = [socket.isPaused(), socket.bytesRead];
        socket.setEncoding('utf8').resume();
        const [text] = await once(socket, 'data');
        server.close();
        return [...paused, text];`,
      result: [true, 0, 'early'],
    },
    {
      what: 'it is closed at once, and says so when its last connection has ended',
      scenario: `
        const order = [];
        const server = await listen(net.createServer((socket) => socket.on('data', (text) => socket.end(text))));
        const [client] = await both(server);
        server.on('close', () => order.push('close'));
        server.close((error) => order.push(['callback', error?.code]));
        const closed = once(server, 'close');
        order.push(server.listening, server.address());
        server.close((error) => order.push(['second', error?.code]));
        await immediate();
        client.write('echo');
        await client.closed_;
        await closed;
        await immediate();
        server.close((error) => order.push(['late', error.code]));
        await immediate();
        return [...order, client.text];`,
      result: [
        ...[false, null, 'close', ['callback', null]],
        ...[['second', 'ERR_SERVER_NOT_RUNNING'], 'close', ['late', 'ERR_SERVER_NOT_RUNNING'], 'echo'],
      ],
    },
    {
      what: 'it can be closed from within the handler of a connection',
      scenario: `
        const server = await listen(net.createServer((socket) => { server.close(); socket.end('last'); }));
        const [text] = await Promise.all([greeting(server), once(server, 'close')]);
        return text;`,
      result: 'last',
    },
    {
      what: 'it can listen again where it has listened before',
      scenario: `
        const server = await listen(net.createServer((socket) => socket.end('hello')));
        const { port } = server.address();
        const texts = [];
        for (let round = 0; round < 3; round++) {
          texts.push(await greeting(server));
          server.close();
          await once(server, 'close');
          await listen(server, { port });
          texts.push(server.address().port === port);
        }
        server.close();
        return texts;`,
      result: ['hello', true, 'hello', true, 'hello', true],
    },
    {
      what: 'a signal closes it, also one that was aborted before',
      scenario: `
        const abort = new AbortController();
        const server = await listen(net.createServer(), { signal: abort.signal });
        const before = server.listening;
        abort.abort();
        await once(server, 'close');
        const late = net.createServer().listen({ ...at, signal: abort.signal });
        await once(late, 'close');
        return [before, server.listening, late.listening];`,
      result: [true, false, false],
    },
    {
      what: 'its handle tells whether it keeps the process alive',
      scenario: `
        const server = await listen(net.createServer());
        const { _handle: handle } = server;
        const has = [handle.hasRef()];
        server.unref();
        has.push(handle.hasRef());
        server.ref();
        has.push(handle.hasRef());
        const chained = server.unref() === server && server.ref() === server;
        server.close();
        await once(server, 'close');
        return [...has, chained];`,
      result: [true, false, true, true],
    },
    {
      what: 'what a handler leaves for later runs before the next connection comes',
      scenario: `
        const seen = [];
        let number = 0;
        const server = await listen(net.createServer((socket) => {
          const own = ++number;
          seen.push('connection ' + own);
          process.nextTick(() => seen.push('tick ' + own));
          Promise.resolve().then(() => seen.push('promise ' + own));
          socket.end();
        }));
        await Promise.all([greeting(server), greeting(server)]);
        server.close();
        return seen;`,
      result: ['connection 1', 'tick 1', 'promise 1', 'connection 2', 'tick 2', 'promise 2'],
    },
    {
      what: 'what its handlers throw is an uncaught exception, and it goes on serving',
      scenario: `
        const seen = [];
        const note = (error, origin) => seen.push([error.message, origin]);
        process.on('uncaughtException', note);
        const server = await listen(net.createServer((socket) => {
          socket.end('hello');
          process.nextTick(() => seen.push('tick'));
          if (seen.length === 0) throw new Error('a mistake');
        }));
        const texts = [await greeting(server), await greeting(server)];
        process.off('uncaughtException', note);
        server.close();
        return [seen, texts];`,
      result: [
        [['a mistake', 'uncaughtException'], 'tick', 'tick'],
        ['hello', 'hello'],
      ],
    },
    {
      what: 'AsyncLocalStorage has in its handlers what it had where it was told to listen, as long as it lives',
      scenario: `
        const storage = new AsyncLocalStorage();
        const seen = [];
        const server = http.createServer((request, response) => response.end(storage.getStore() ?? 'nothing'));
        server.on('connection', () => seen.push(storage.getStore()));
        await storage.run('listening', () => listen(server));
        for (let round = 0; round < 3; round++) {
          gc();
          await immediate();
          const target = { ...at, port: server.address().port, agent: false };
          const [response] = await storage.run('elsewhere', () => once(http.get(target), 'response'));
          seen.push((await response.setEncoding('utf8').toArray()).join(''));
        }
        server.close();
        return seen;`,
      result: ['listening', 'listening', 'listening', 'listening', 'listening', 'listening'],
    },
    {
      what: 'a server of HTTP keeps connections, and closes them',
      scenario: `
        const server = await listen(http.createServer((request, response) => {
          response.end(request.url + ' ' + request.socket.remotePort);
        }));
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        const texts = [];
        for (const path of ['/one', '/two']) {
          const [response] = await once(http.get({ ...at, port: server.address().port, path, agent }), 'response');
          texts.push((await response.setEncoding('utf8').toArray()).join('').split(' '));
        }
        server.close();
        server.closeAllConnections();
        await once(server, 'close');
        agent.destroy();
        const [[one, port], [two, same]] = texts;
        return [one, two, port === same];`,
      result: ['/one', '/two', true],
    },
    {
      what: 'a server of TLS shakes hands',
      scenario: `
        const { KEY: key, CERT: cert } = process.env;
        const server = await listen(tls.createServer({ key, cert }, (socket) => socket.end('secret')));
        const client = tls.connect({ port: server.address().port, host: '127.0.0.1', servername: 'localhost', ca: cert });
        const text = (await client.setEncoding('utf8').toArray()).join('');
        server.close();
        return [text, client.authorized];`,
      result: ['secret', true],
    },
  ];
  for (const { what, scenario, result } of rows) {
    test(what, async () => {
      const { key, cert } = scenario.includes('KEY') ? certificate() : {};
      const worker = await startWorker({
        program: compare(scenario),
        execArgv: ['--expose-gc'],
        env: { KEY: key, CERT: cert },
      });
      const [here, alone] = await worker.hears('results');
      expect(alone).toEqual(result);
      expect(here).toEqual(result);
      expect(worker.has('listening') && worker.has('elsewhere')).toBe(true);
      expect(worker.output).toBe('');
    });
  }

  test('no descriptor for it is an error that is emitted, and it can listen later', async () => {
    const worker = await start(`
      const first = serve();
      const server = net.createServer((socket) => socket.end('later'));
      server.on('error', ({ code }) => tell({ error: code }));
      process.on('message', ({ order }) => {
        if (order === 'close') first.close(() => tell({ closed: true }));
        if (order !== 'listen') return;
        try { server.listen(at); } catch ({ code }) { tell({ thrown: code }); }
      });`);
    worker.order('close');
    await worker.hears('closed');
    limitDescriptors(worker, NONE);
    worker.order('listen');
    await until('it has failed', () => worker.told.some((each) => 'error' in each || 'thrown' in each));
    limitDescriptors(worker, MANY);
    expect(worker.told.filter((each) => !('closed' in each))).toEqual([{ error: 'EMFILE' }]);
    worker.order('listen');
    expect(await greeting(worker.port)).toBe('later');
  });
});

describe('a process', () => {
  const SERVER = `
    import net from 'node:net';
    const at = { host: '127.0.0.1', port: Number(process.env.PORT) };
    const server = net.createServer((socket) => socket.end('hello'));
  `;
  const endings: { what: string; program: string; code: number; connect?: boolean; says?: string }[] = [
    {
      what: 'ends when all it has is a server that does not keep it alive',
      program: 'server.listen(at).unref();',
      code: 0,
    },
    {
      what: 'ends so also when it did not want that before it listened',
      program: 'server.unref().listen(at);',
      code: 0,
    },
    {
      what: 'ends when its server was closed',
      program: "server.listen(at).once('connection', () => server.close());",
      connect: true,
      code: 0,
    },
    {
      what: 'ends when it says so, with the server open',
      program: 'server.listen(at, () => process.exit(7));',
      code: 7,
    },
    {
      what: 'ends when it says so in the handler of a connection',
      program: "server.listen(at).on('connection', () => process.exit(7));",
      connect: true,
      code: 7,
    },
    {
      what: 'ends with what the handler of a connection throws',
      program: "server.listen(at).on('connection', () => { throw new Error('a mistake'); });",
      connect: true,
      code: 1,
      says: 'Error: a mistake\n    at Server.',
    },
  ];
  for (const { what, program, connect, code, says } of endings) {
    test(what, async () => {
      const worker = await startWorker({ program: `${SERVER}${program}` });
      await worker.says('listening');
      const client = connect ? await RawClient.open(worker.port) : undefined;
      undo.push(() => client?.socket.destroy());
      expect(await worker.exits()).toEqual({ code, signal: null });
      if (says) await until(`it says "${says}"`, () => worker.output.includes(says));
      else expect(worker.output).toBe('');
    });
  }

  for (const [what, program] of [
    ['a server', 'server.listen(at)'],
    ['a server that does again', 'server.listen(at).unref().ref()'],
    ['a server that does again, before it listens', 'server.unref().ref().listen(at)'],
  ] as const) {
    test(`stays when all it has is ${what}`, async () => {
      const worker = await startWorker({
        program: `${SERVER}${program}; process.once('beforeExit', () => tell({ leaves: true }));`,
      });
      await worker.says('listening');
      for (let count = 0; count < 3; count++) expect(await greeting(worker.port)).toBe('hello');
      expect(worker.told).toEqual([]);
    });
  }

  describe('without a free descriptor', () => {
    /** Of the milliseconds that an acceptor rests, some (native/acceptor.cc). */
    const RESTS = 50;

    test('stays when all it has is a server', async () => {
      const worker = await start("process.removeAllListeners('message'); serve();");
      limitDescriptors(worker, NONE);
      const clients = connectMany(worker.port, 1);
      await delay(RESTS);
      expect([worker.ended, worker.waitingAt(1)]).toEqual([undefined, 1]);
      limitDescriptors(worker, MANY);
      await allHear(clients, 'hello');
    });

    test('ends when that does not keep it alive any more', async () => {
      const worker = await start(`
        process.removeAllListeners('message');
        const server = serve((socket) => socket.on('data', () => {
          setTimeout(() => { server.unref(); socket.destroy(); }, ${RESTS});
        }));`);
      const first = await RawClient.open(worker.port);
      await until('it is accepted', () => worker.waitingAt(1) === 0);
      limitDescriptors(worker, NONE);
      connectMany(worker.port, 1);
      first.socket.write('!');
      expect(await worker.exits()).toEqual({ code: 0, signal: null });
    });
  });
});

/** Bytes that the server has not read yet of the client with that port (proc_net(5): rem_address, tx_queue:rx_queue). */
function unread(client: number): number | undefined {
  for (const line of readFileSync('/proc/thread-self/net/tcp', 'utf8').split('\n').slice(1)) {
    const [, , remote = '', , queues = ''] = line.trim().split(/\s+/);
    if (Number.parseInt(remote.split(':')[1] ?? '', 16) === client)
      return Number.parseInt(queues.split(':')[1] ?? '', 16);
  }
  return undefined;
}

describe('a connection that arrives while the event loop is busy', () => {
  test('is left to the kernel until all else of the turn is done', async () => {
    const worker = await start(`
      serve((socket) => {
        tell({ accepted: true });
        socket.on('data', () => { hold(); socket.end('done'); });
      });`);
    const first = await RawClient.open(worker.port);
    await worker.hears('accepted');
    await stop(worker.child.pid!);
    // Both are there when the loop looks, this one first.
    const second = await RawClient.open(worker.port);
    first.socket.write('hold');
    await until(
      'both have arrived',
      () => worker.waitingAt(1) === 1 && unread(first.socket.localPort!) === 4,
    );
    process.kill(worker.child.pid!, 'SIGCONT');
    await worker.hears('held');
    expect(worker.waitingAt(1)).toBe(1);
    expect(worker.told).toEqual([{ accepted: true }, { held: true }]);
    openGate();
    expect(await first.ends()).toBe('FIN');
    await worker.hears('accepted', 2);
    expect(worker.waitingAt(1)).toBe(0);
    second.socket.write('once more');
    expect(await second.ends()).toBe('FIN');
    expect([first.text, second.text]).toEqual(['done', 'done']);
  });

  test('waits there while the one before it keeps the loop busy', async () => {
    const worker = await start("serve((socket) => { hold(); socket.end('done'); });");
    const clients = connectMany(worker.port, 4);
    await worker.hears('held');
    expect(worker.waitingAt(1)).toBe(3);
    openGate();
    await allHear(clients, 'done');
  });

  test('is handed over in the order of arrival, and all of them are, however many there are at once', async () => {
    const worker = await start(`
      const order = [];
      serve((socket) => {
        socket.resume();
        socket.end('hello');
        if (order.push(socket.remotePort) === 30) tell({ order });
      });`);
    await stop(worker.child.pid!);
    const clients: RawClient[] = [];
    while (clients.length < 30) clients.push(await RawClient.open(worker.port));
    expect(worker.waitingAt(1)).toBe(30);
    const ports = clients.map(({ socket }) => socket.localPort);
    process.kill(worker.child.pid!, 'SIGCONT');
    expect(await worker.hears('order')).toEqual(ports);
    for (const client of clients) {
      expect(await client.ends()).toBe('FIN');
      expect(client.text).toBe('hello');
    }
  });

  test('is accepted together with others, unless a turn was long a moment ago: then each by itself', async () => {
    const worker = await start(`
      let met = [];
      process.on('message', ({ order }) => {
        if (order !== 'met') return;
        tell({ met });
        met = [];
      });
      serve((socket) => {
        met.push(turns());
        socket.on('data', () => {
          for (const end = performance.now() + 100; performance.now() < end; );
        });
      });`);
    const blocker = await RawClient.open(worker.port);
    undo.push(() => blocker.socket.destroy());
    let asked = 0;
    const met = async (): Promise<number[]> => {
      worker.order('met');
      return (await worker.hears('met', ++asked)) as number[];
    };
    const WAVE = 20;
    /** Of so many connections that are there at once, how many were accepted in a turn at most. */
    const together = async (meanwhile = () => {}): Promise<number> => {
      await stop(worker.child.pid!);
      const clients = connectMany(worker.port, WAVE);
      await until('all wait', () => worker.waitingAt(1) === WAVE);
      meanwhile();
      process.kill(worker.child.pid!, 'SIGCONT');
      await until('all are accepted', () => worker.waitingAt(1) === 0);
      const turns = await met();
      clients.close();
      expect(turns).toHaveLength(WAVE);
      return Math.max(...turns.map((turn) => turns.filter((other) => other === turn).length));
    };
    await until('the first one is accepted', async () => (await met()).length === 1);
    // Its start was a long turn.
    await until('many are accepted together', async () => (await together()) > 5);
    expect(await together(() => blocker.socket.write('block'))).toBe(1);
    await until('many are accepted together again', async () => (await together()) > 5);
  });
});

describe('what waits at a process that ends is left to the kernel', () => {
  const WAITING = 20;
  const endings: { what: string; program: string }[] = [
    {
      what: 'when it comes in its last turn',
      program: 'process.disconnect(); server.unref(); hold();',
    },
    {
      what: 'when it comes in its last turn, after events were looked for',
      program: 'process.disconnect(); server.unref(); setImmediate(hold);',
    },
    {
      what: 'when it comes after its last turn',
      program: "server.unref(); process.on('beforeExit', hold); process.disconnect();",
    },
    {
      what: 'when it says that it ends',
      program: 'hold(); process.exit();',
    },
    {
      what: 'when nobody catches an exception',
      program: "hold(); throw new Error('a mistake');",
    },
    {
      what: 'when it says so in the handler of another connection',
      program: "server.on('connection', () => process.exit()); hold();",
    },
  ];
  for (const { what, program } of endings) {
    test(what, async () => {
      const worker = await startWorker({
        program: `
          import { existsSync, writeFileSync } from 'node:fs';
          import net from 'node:net';
          const server = net.createServer().listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
          const cell = new Int32Array(new SharedArrayBuffer(4));
          // The channel may be closed by then.
          const hold = () => {
            writeFileSync(process.env.GATE + '-held', '');
            while (!existsSync(process.env.GATE)) Atomics.wait(cell, 0, 0, 1);
          };
          process.once('message', () => { ${program} });`,
        env: { GATE: gate },
      });
      await worker.says('listening');
      worker.order('end');
      await until('it does nothing else', () => existsSync(`${gate}-held`));
      const clients = connectMany(worker.port, WAITING);
      expect(worker.waitingAt(1)).toBe(WAITING);
      openGate();
      await worker.exits();
      // One that was the program's has ended with it.
      const taken = program.includes("'connection'") ? 1 : 0;
      await until('the end of that one is known', () => clients.established === WAITING - taken);
      expect(worker.waitingAt(1)).toBe(WAITING - taken);
    });
  }
});

test('while no descriptor is free connections wait, without a busy loop, and none is lost', async () => {
  const worker = await start(
    "serve((socket) => socket.on('data', (text) => socket.write(text)).write('hello'));",
  );
  const first = await RawClient.open(worker.port);
  await first.sees('hello');
  limitDescriptors(worker, NONE);
  const clients = connectMany(worker.port, 20);
  expect(await turnsWatched(worker)).toBeLessThan(BUSY);
  expect(worker.waitingAt(1)).toBe(20);
  first.socket.write(', you there');
  await first.sees('hello, you there');
  limitDescriptors(worker, MANY);
  await allHear(clients, 'hello');
  expect(await turnsWatched(worker)).toBeLessThan(BUSY);
  first.socket.destroy();
});

describe('a listener that was shut down', () => {
  test("is one 'error' of the server, which can be closed, and no busy loop", async () => {
    const worker = await start(`
      const server = serve();
      server.on('error', ({ code, syscall }) => tell({ error: [code, syscall] }));
      process.on('message', ({ order }) => {
        if (order === 'close') server.close((error) => tell({ closed: error?.code ?? 'well' }));
      });`);
    worker.shutdown(1);
    expect(await worker.hears('error')).toEqual(['EINVAL', 'accept']);
    expect(await turnsWatched(worker)).toBeLessThan(BUSY);
    worker.order('close');
    expect(await worker.hears('closed')).toBe('well');
    expect(await worker.says('closed')).toMatchObject({ id: 1 });
    expect(worker.told.filter((each) => 'error' in each)).toHaveLength(1);
  });

  test('ends a program that expects no error', async () => {
    const worker = await start('serve();');
    worker.shutdown(1);
    expect(await worker.exits()).toEqual({ code: 1, signal: null });
  });

  test('can be closed from within the handler of the error', async () => {
    const worker = await start(`
      const server = serve();
      server.on('error', () => server.close(() => tell({ closed: true })));`);
    const before = socketCount(worker);
    worker.shutdown(1);
    await worker.hears('closed');
    // The acceptor's, and the handle's.
    await noSocketLeft(worker, before - 2);
  });
});

describe('help', () => {
  /** A listener whose own worker does not come. */
  class Other {
    readonly #socket = new (native().Socket)('create', 4);
    readonly fd = this.#socket.fd;
    readonly port: number;
    constructor() {
      undo.push(() => this.#socket.close());
      this.#socket.bind('127.0.0.1', 0, 4);
      this.#socket.listen(100);
      this.port = this.#socket.localEndpoint().port;
    }
    get waiting(): number {
      return this.#socket.acceptQueue()?.length ?? 0;
    }
    shutdown(): void {
      this.#socket.shutdown();
    }
  }

  /**
   * Sends an order, and returns when it has been seen in time. A machine that is busy elsewhere may make it late; it is
   * ignored then, as it must be, and sent again. One that came in time is not sent twice.
   */
  async function order(worker: TestWorker, other: Other, waiting: number, port?: number): Promise<void> {
    const before = other.waiting;
    await until('an order comes in time', async () => {
      const sent = performance.now();
      worker.help(other.fd, waiting, port);
      await turn(worker);
      return performance.now() - sent < TOO_LATE || other.waiting !== before;
    });
  }

  const HELPS = "serve((socket) => { socket.resume(); socket.end('helped'); });";

  test('takes as many as it is asked to, and not one more', async () => {
    const worker = await start(HELPS);
    const before = socketCount(worker);
    const other = new Other();
    const clients = connectMany(other.port, 5);
    await order(worker, other, 3);
    await until('three are taken', () => other.waiting <= 2);
    await turn(worker);
    expect(other.waiting).toBe(2);
    const heard = clients.fds.map(() => '');
    await until('the three are served', () => {
      for (const [index, piece] of clients.heard().entries()) heard[index] += piece;
      return heard.filter((each) => each === 'helped').length >= 3;
    });
    // The two that wait go on waiting, with the descriptor of their listener closed.
    expect(heard).toEqual(['helped', 'helped', 'helped', '', '']);
    expect(clients.established).toBe(2);
    clients.close();
    await noSocketLeft(worker, before);
    expect(await greeting(worker.port)).toBe('helped');
  });

  test('takes what there is when that is less, and does not wait for more', async () => {
    const worker = await start(HELPS);
    const before = socketCount(worker);
    const other = new Other();
    const clients = connectMany(other.port, 2);
    await order(worker, other, 60);
    await allHear(clients, 'helped');
    clients.close();
    await noSocketLeft(worker, before);
    const late = connectMany(other.port, 3);
    expect(await turnsWatched(worker)).toBeLessThan(BUSY);
    expect(other.waiting).toBe(3);
    expect(late.established).toBe(3);
    await order(worker, other, 3);
    await allHear(late, 'helped');
  });

  test('goes on by itself when nothing else happens in the event loop', async () => {
    const worker = await start('serve((socket) => socket.resume());');
    const other = new Other();
    connectMany(other.port, 50);
    await order(worker, other, 50);
    // Some events a second come in any process.
    await until('all are taken', () => other.waiting === 0, 2000);
  });

  test('does not keep those of its own waiting', async () => {
    const worker = await start(
      'serve((socket) => { socket.resume(); socket.end(String(socket.localPort)); });',
    );
    const [one, two] = [new Other(), new Other()];
    const [atOne, atTwo] = [connectMany(one.port, 20), connectMany(two.port, 20)];
    const own = connectMany(worker.port, 20);
    await order(worker, one, 20);
    await order(worker, two, 20);
    const more = connectMany(worker.port, 20);
    await Promise.all([
      allHear(own, `${worker.port}`),
      allHear(more, `${worker.port}`),
      allHear(atOne, `${one.port}`),
      allHear(atTwo, `${two.port}`),
    ]);
  });

  test('takes one after another: what is behind one that keeps the loop busy waits on, where others can take it', async () => {
    const worker = await start(`
      serve((socket) => { hold(); socket.end('helped'); });`);
    const other = new Other();
    const clients = connectMany(other.port, 4);
    await until('an order comes in time', async () => {
      worker.help(other.fd, 4);
      const sent = performance.now();
      await until(
        'it is late or followed',
        () => other.waiting < 4 || performance.now() - sent > 5 * TOO_LATE,
      );
      return other.waiting < 4;
    });
    await worker.hears('held');
    expect(other.waiting).toBe(3);
    openGate();
    await allHear(clients, 'helped');
  });

  describe('leaves all as it is, and keeps no descriptor,', () => {
    const nothing: {
      what: string;
      program?: string;
      port?: number;
      before?: (worker: TestWorker, other: Other) => unknown;
    }[] = [
      { what: 'when asked for a port that it does not listen on', port: 2 },
      { what: 'of a worker that drains', before: (worker) => worker.drain() },
      {
        what: 'of a server that was closed',
        program: `
          const server = serve();
          process.on('message', ({ order }) => { if (order === 'close') server.close(() => tell({ closed: true })); });`,
        before: async (worker) => {
          worker.order('close');
          await worker.hears('closed');
        },
      },
      {
        what: 'from a listener that was shut down',
        program: "serve().on('error', () => tell({ error: true }));",
        before: (_, other) => other.shutdown(),
      },
    ];
    for (const { what, program = HELPS, port, before } of nothing) {
      test(what, async () => {
        const worker = await start(program);
        const other = new Other();
        await before?.(worker, other);
        await turn(worker);
        const sockets = socketCount(worker);
        const clients = connectMany(other.port, 3);
        const { waiting } = other;
        const states = clients.states;
        await order(worker, other, 3, port);
        await noSocketLeft(worker, sockets);
        expect(other.waiting).toBe(waiting);
        expect(clients.states).toEqual(states);
        expect(worker.told.filter((each) => !('turn' in each || 'closed' in each))).toEqual([]);
      });
    }

    test('in a worker that was stopped when it was asked', async () => {
      const worker = await start(HELPS);
      await turn(worker);
      const sockets = socketCount(worker);
      const other = new Other();
      const clients = connectMany(other.port, 3);
      await stop(worker.child.pid!);
      for (let count = 0; count < 10; count++) worker.help(other.fd, 3);
      await delay(TOO_LATE + 1);
      process.kill(worker.child.pid!, 'SIGCONT');
      await turn(worker);
      await noSocketLeft(worker, sockets);
      expect([other.waiting, clients.established]).toEqual([3, 3]);
      await order(worker, other, 3);
      await allHear(clients, 'helped');
    });

    test('in a worker whose event loop was blocked when it was asked', async () => {
      const worker = await start("serve((socket) => { hold(); socket.end('done'); });");
      await turn(worker);
      const sockets = socketCount(worker);
      const other = new Other();
      const clients = connectMany(other.port, 3);
      const own = greeting(worker.port);
      await worker.hears('held');
      for (let count = 0; count < 10; count++) worker.help(other.fd, 3);
      await delay(TOO_LATE + 1);
      openGate();
      expect(await own).toBe('done');
      await turn(worker);
      await noSocketLeft(worker, sockets);
      expect([other.waiting, clients.established]).toEqual([3, 3]);
      await order(worker, other, 3);
      await allHear(clients, 'done');
    });

    test('in a worker without room for the descriptor', async () => {
      const worker = await start(HELPS);
      await turn(worker);
      const sockets = socketCount(worker);
      const other = new Other();
      const clients = connectMany(other.port, 3);
      limitDescriptors(worker, NONE);
      await order(worker, other, 3);
      await noSocketLeft(worker, sockets);
      expect(other.waiting).toBe(3);
      limitDescriptors(worker, MANY);
      await order(worker, other, 3);
      await allHear(clients, 'helped');
    });

    test('in a worker with room for the listener and not for a connection', async () => {
      const worker = await start(HELPS);
      await turn(worker);
      const sockets = socketCount(worker);
      const other = new Other();
      const clients = connectMany(other.port, 3);
      const open = new Set(openFds(worker));
      let free = 0;
      let limit = 0;
      for (; free < 2; limit++) if (!open.has(limit)) free++;
      limitDescriptors(worker, limit - 1);
      await order(worker, other, 3);
      await noSocketLeft(worker, sockets);
      expect([other.waiting, clients.established]).toEqual([3, 3]);
      limitDescriptors(worker, MANY);
      expect(await greeting(worker.port)).toBe('helped');
      await order(worker, other, 3);
      await allHear(clients, 'helped');
    });
  });

  test('of more listeners than it can take from at a time keeps no descriptor, and loses nothing', async () => {
    const worker = await start(HELPS);
    await turn(worker);
    const sockets = socketCount(worker);
    const others = Array.from({ length: 30 }, () => new Other());
    const clients = others.map((other) => connectMany(other.port, 2));
    const waiting = () => others.filter((other) => other.waiting > 0);
    await until('all have been helped', async () => {
      for (const other of waiting().slice(0, 16)) worker.help(other.fd, 2);
      await turn(worker);
      return waiting().length === 0;
    });
    await Promise.all(clients.map((each) => allHear(each, 'helped')));
    for (const each of clients) each.close();
    await noSocketLeft(worker, sockets);
  });

  test('ends when the server is closed in the middle of it', async () => {
    const worker = await start(`
      const server = serve((socket) => { socket.resume(); socket.end('last'); server.close(() => tell({ closed: true })); });`);
    const sockets = socketCount(worker);
    const other = new Other();
    const clients = connectMany(other.port, 3);
    await order(worker, other, 3);
    await until('one is served', () => other.waiting <= 2);
    await turn(worker);
    expect(other.waiting).toBe(2);
    expect(clients.heard()).toEqual(['last', '', '']);
    clients.close();
    await worker.hears('closed');
    await noSocketLeft(worker, sockets - 2);
  });

  test('is not asked for any more once the master has gone, and that is no busy loop', async () => {
    const worker = await start(HELPS);
    await turn(worker);
    const sockets = socketCount(worker);
    worker.closeHelp();
    await noSocketLeft(worker, sockets - 1);
    expect(await turnsWatched(worker)).toBeLessThan(BUSY);
    expect(await greeting(worker.port)).toBe('helped');
  });
});

test('5000 connections in quick succession are all answered', async () => {
  const worker = await start('let count = 0; serve((socket) => socket.end(String(++count)));');
  // Fewer at a time than the accept queue has room for: nothing is dropped.
  const LANES = 50;
  const answers = new Set<string>();
  const lane = async () => {
    for (let count = 0; count < 5000 / LANES; count++) answers.add(await greeting(worker.port));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  expect(answers.size).toBe(5000);
});

describe('a thread that accepts', () => {
  const THREAD = `
    const { closeSync } = require('node:fs');
    const { parentPort, workerData } = require('node:worker_threads');
    const { Acceptor, Socket } = require(workerData.addon);
    // What is not referred to is collected, and closed.
    const keep = (acceptor) => (globalThis.kept = acceptor);
    const accept = (take) => keep(new Acceptor(workerData.fd, take));
  `;
  const threads: { what: string; program: string; connect?: number; terminate?: boolean; code: number }[] = [
    {
      what: 'is terminated while it waits',
      program: "const acceptor = accept(() => {}); acceptor.start(); parentPort.postMessage('ready');",
      terminate: true,
      code: 1,
    },
    {
      what: 'is terminated in the midst of looking at a connection',
      program: "accept((fd) => { closeSync(fd); parentPort.postMessage('ready'); for (;;); }).start();",
      connect: 1,
      terminate: true,
      code: 1,
    },
    {
      what: 'is terminated while it helps',
      program: `
        const own = new Socket('create', 4);
        own.bind('127.0.0.1', 0, 4);
        own.listen(1);
        const acceptor = keep(new Acceptor(own.fd, (fd) => { closeSync(fd); parentPort.postMessage('ready'); for (;;); }));
        acceptor.start();
        acceptor.help(new Socket('duplicate', workerData.fd).release(), 10);`,
      connect: 1,
      terminate: true,
      code: 1,
    },
    {
      what: 'is terminated with another connection waiting',
      program: "accept((fd) => { closeSync(fd); parentPort.postMessage('ready'); for (;;); }).start();",
      connect: 2,
      terminate: true,
      code: 1,
    },
    {
      what: 'ends itself in the midst of looking at a connection',
      program: 'accept((fd) => { closeSync(fd); process.exit(7); }).start();',
      connect: 1,
      code: 7,
    },
    {
      what: 'ends with its acceptor open, which does not keep it alive',
      program: 'const acceptor = accept(() => {}); acceptor.start(); acceptor.unref();',
      code: 0,
    },
    {
      what: 'ends when its acceptor was closed, in the midst of looking at a connection',
      program: `
        const acceptor = accept((fd) => { closeSync(fd); acceptor.close(); acceptor.close(); });
        acceptor.start();`,
      connect: 1,
      code: 0,
    },
    {
      what: 'ends with its acceptor closed before it could begin',
      program: 'const acceptor = accept(() => {}); acceptor.close();',
      code: 0,
    },
  ];
  for (const { what, program, connect = 0, terminate, code } of threads) {
    test(`and ${what} leaves nothing behind`, async () => {
      const socket = new (native().Socket)('create', 4);
      undo.push(() => socket.close());
      socket.bind('127.0.0.1', 0, 4);
      socket.listen(20);
      const { port } = socket.localEndpoint();
      const live = async () => {
        const clients = connect > 0 ? connectMany(port, connect) : undefined;
        const thread = new Worker(`${THREAD}${program}`, {
          eval: true,
          workerData: { addon: ADDON, fd: socket.fd },
          // What is accepted here was not opened by the thread, which says so otherwise.
          trackUnmanagedFds: false,
        });
        const exit = once(thread, 'exit');
        if (terminate) {
          await once(thread, 'message');
          void thread.terminate();
        }
        expect(await exit).toEqual([code]);
        clients?.close();
      };
      await live();
      const before = descriptors();
      for (let round = 0; round < 5; round++) await live();
      await until(`no descriptor is left: ${before}`, () => descriptors() <= before);
    });
  }

  function descriptors(): number {
    return readdirSync('/proc/self/fd').length;
  }
});
