/** HTTP/1 connections of a worker that drains. */
import { afterEach, describe, expect, test } from 'vitest';
import { certificate } from '../support/certificate.js';
import { RawClient } from '../support/raw-client.js';
import { program } from '../support/serving.js';
import { until } from '../support/until.js';
import { startWorker, type TestWorker } from '../support/worker-harness.js';

/** Milliseconds that nothing must happen in; the test cannot fail by being too slow. */
const A_WHILE = 150;

/** Answers `/slow` when it is told to, `/begun` in two parts, and everything else at once. */
const SERVER = `
  import http from 'node:http';
  import https from 'node:https';
  import net from 'node:net';
  const waiting = [];
  process.on('message', ({ order }) => {
    if (order === 'finish') for (const finish of waiting.splice(0)) finish();
  });
  const handle = (request, response) => {
    const end = () => response.end('end of ' + request.url);
    tell({ request: request.url });
    if (request.url === '/begun') response.write('begin,');
    if (request.url === '/slow' || request.url === '/begun') waiting.push(end);
    else end();
  };
  process.on('SIGTERM', () => server.close((error) => {
    tell({ closed: error?.code ?? 'without an error' });
    process.disconnect();
  }));
`;

const PROTOCOLS = [
  { name: 'http', tls: false, create: 'http.createServer(handle)' },
  { name: 'https', tls: true, create: 'https.createServer(CERTIFICATE, handle)' },
];

const clients: RawClient[] = [];
afterEach(() => {
  for (const { socket } of clients.splice(0)) socket.destroy();
});

/** A connection that the worker has accepted: what waits in the kernel's queue is its sibling's. */
async function open(worker: TestWorker, tls = false): Promise<RawClient> {
  const accepted = worker.told.filter(({ accepted }) => accepted).length;
  const client = await RawClient.open(worker.port, { tls });
  clients.push(client);
  await worker.hears('accepted', accepted + 1);
  return client;
}

async function serve(create = 'http.createServer(handle)', more = ''): Promise<TestWorker> {
  const worker = await startWorker({
    program: `${SERVER} const CERTIFICATE = ${JSON.stringify(certificate())};
      const server = ${create}; server.listen(process.env.PORT);
      server.on(server.setSecureContext ? 'secureConnection' : 'connection', () => tell({ accepted: true }));
      ${more}`,
  });
  await worker.says('listening');
  return worker;
}

for (const { name, tls, create } of PROTOCOLS) {
  describe(`${name}, drained for a reload`, () => {
    test('the response under way says that it is the last, and the program ends as ever', async () => {
      const worker = await serve(create);
      const client = await open(worker, tls);
      client.get('/slow');
      await worker.hears('request');
      worker.drain();
      await worker.says('closed');
      expect(worker.has('drained')).toBe(false);
      worker.order('finish');
      await client.sees('end of /slow');
      expect(client.text).toContain('\r\nConnection: close\r\n');
      expect(await client.ends()).toBe('FIN');
      await worker.says('drained');
      worker.child.kill('SIGTERM');
      expect(await worker.hears('closed')).toBe('without an error');
      expect(await worker.exits()).toEqual({ code: 0, signal: null });
    });

    test('a connection without a request stays, and the next response is the last', async () => {
      const worker = await serve(create);
      const client = await open(worker, tls);
      const silent = await open(worker, tls);
      client.get('/1');
      await client.sees('end of /1');
      worker.drain();
      await worker.says('closed');
      await new Promise((resolve) => setTimeout(resolve, A_WHILE));
      expect([client.end, silent.end, worker.has('drained')]).toEqual([undefined, undefined, false]);
      expect(client.text).not.toContain('Connection: close');
      client.get('/2');
      silent.get('/3');
      await client.sees('end of /2');
      await silent.sees('end of /3');
      for (const each of [client, silent]) {
        expect(each.text).toContain('\r\nConnection: close\r\n');
        expect(await each.ends()).toBe('FIN');
      }
      await worker.says('drained');
    });

    test('a response whose head is out ends, and the connection at the next', async () => {
      const worker = await serve(create);
      const client = await open(worker, tls);
      client.get('/begun');
      await client.sees('begin,');
      worker.drain();
      await worker.says('closed');
      worker.order('finish');
      await client.sees('end of /begun');
      expect(client.text).not.toContain('Connection: close');
      client.get('/last');
      await client.sees('Connection: close');
      expect(await client.ends()).toBe('FIN');
      await worker.says('drained');
    });

    test('at the limit idle connections get a FIN, and the rest is closed', async () => {
      const worker = await serve(create);
      const [idle, silent, busy] = [
        await open(worker, tls),
        await open(worker, tls),
        await open(worker, tls),
      ];
      idle.get('/1');
      busy.get('/begun');
      await idle.sees('end of /1');
      await busy.sees('begin,');
      worker.drain('reload', A_WHILE);
      expect(await Promise.all([idle.ends(), silent.ends()])).toEqual(['FIN', 'FIN']);
      await busy.ends();
      expect(busy.text).not.toContain('end of');
      await worker.says('drained');
    });
  });

  describe(`${name}, stopped`, () => {
    test('idle connections go at once, silent ones after a moment, those with a request behind it', async () => {
      const worker = await serve(create);
      const [idle, silent, fresh, busy] = [
        await open(worker, tls),
        await open(worker, tls),
        await open(worker, tls),
        await open(worker, tls),
      ];
      idle.get('/1');
      busy.get('/begun');
      await idle.sees('end of /1');
      await busy.sees('begin,');
      worker.drain('stop');
      await idle.ends();
      expect([silent.end, fresh.end, busy.end]).toEqual([undefined, undefined, undefined]);
      fresh.get('/first');
      await fresh.sees('end of /first');
      expect(await fresh.ends()).toBe('FIN');
      worker.order('finish');
      await busy.sees('end of /begun');
      await busy.ends();
      expect(await silent.ends()).toBe('FIN');
      await worker.says('drained');
    });
  });
}

describe('the last response of a connection says so', () => {
  const OWN = ['/a', '/b', '/c', '/d', '/e'];
  test('whatever the program says itself', async () => {
    const worker = await serve(`http.createServer((request, response) => {
      tell({ request: request.url });
      const keep = ['Connection', 'keep-alive'];
      ({
        '/a': () => response.setHeader(...keep).end('end'),
        '/b': () => response.writeHead(200, { connection: 'keep-alive', other: 'x' }).end('end'),
        '/c': () => response.writeHead(200, 'fine', [...keep, 'other', 'x']).end('end'),
        '/d': () => response.writeHead(200, [keep, ['other', 'x']]).end('end'),
        '/e': () => { response.flushHeaders(); response.end('end'); },
      })[request.url]();
    })`);
    const own: RawClient[] = [];
    for (const _path of OWN) own.push(await open(worker));
    worker.drain();
    await worker.says('closed');
    for (const [index, client] of own.entries()) {
      client.get(OWN[index]!);
      await client.sees('end');
      expect(client.text, OWN[index]).toMatch(/connection: close/i);
      expect(client.text, OWN[index]).not.toMatch(/connection: keep-alive/i);
      expect(await client.ends()).toBe('FIN');
    }
    await worker.says('drained');
  });

  for (const [when, first] of [
    ['before', true],
    ['after', false],
  ] as const) {
    test(`of requests that were pipelined ${when} the drain, all are answered`, async () => {
      const worker = await serve();
      const client = await open(worker);
      client.get('/slow');
      await worker.hears('request');
      if (first) {
        client.get('/last');
        await worker.hears('request', 2);
      }
      worker.drain();
      await worker.says('closed');
      if (!first) {
        client.get('/last');
        await worker.hears('request', 2);
      }
      worker.order('finish');
      await client.sees('end of /last');
      expect(client.text).toContain('end of /slow');
      // A response that was ready before the drain, or before its turn, cannot be changed any more.
      client.get('/really-last');
      expect(await client.ends()).toBe('FIN');
      expect(client.text.match(/Connection: close/g)).toHaveLength(1);
      await worker.says('drained');
    });
  }

  test('of five requests that come one behind the other, all are answered', async () => {
    const worker = await serve();
    const client = await open(worker);
    worker.drain();
    await worker.says('closed');
    client.get('/slow');
    await worker.hears('request');
    for (const path of ['/2', '/3', '/4', '/5']) client.get(path);
    await worker.hears('request', 5);
    worker.order('finish');
    await client.sees('end of /5');
    client.get('/6');
    expect(await client.ends()).toBe('FIN');
    expect(client.text.match(/end of \/\w+/g)).toHaveLength(6);
    expect(client.text.match(/Connection: close/g)).toHaveLength(1);
    await worker.says('drained');
  });

  test('of three requests that are answered in their turn, it is the third', async () => {
    const worker = await serve(
      `http.createServer((request, response) => {
        const before = last;
        last = new Promise((resolve) => response.on('finish', resolve));
        void before.then(() => setImmediate(() => response.end('end of ' + request.url)));
        if (++count === 3) begin();
      })`,
      `let count = 0;
      let begin;
      let last = new Promise((resolve) => { begin = resolve; });`,
    );
    const client = await open(worker);
    worker.drain();
    await worker.says('closed');
    for (const path of ['/1', '/2', '/3']) client.get(path);
    await client.sees('end of /3');
    expect(client.text.match(/Connection: \S+/g)).toHaveLength(3);
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });

  test('and what the program has put around its writeHead() stays', async () => {
    const worker = await serve(`http.createServer((request, response) => {
      const { writeHead } = response;
      response.writeHead = function (...args) {
        this.setHeader('set-cookie', request.url);
        return writeHead.apply(this, args);
      };
      handle(request, response);
    })`);
    const client = await open(worker);
    worker.drain();
    await worker.says('closed');
    client.get('/slow');
    await worker.hears('request');
    client.get('/2');
    await worker.hears('request', 2);
    worker.order('finish');
    await client.sees('end of /2');
    expect(client.text.match(/set-cookie: \S+/g)).toEqual(['set-cookie: /slow', 'set-cookie: /2']);
  });

  test('but not to a request whose body is still on its way: its client would be reset', async () => {
    const worker = await serve();
    const client = await open(worker);
    worker.drain();
    await worker.says('closed');
    client.socket.write('POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo');
    await client.sees('end of /early');
    expect(client.text).toContain('Connection: keep-alive');
    client.socket.write('dy');
    client.get('/next');
    await client.sees('end of /next');
    expect(client.text.match(/Connection: close/g)).toHaveLength(1);
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });

  test('also to one whose body nobody reads, when that is so each time', async () => {
    const worker = await serve();
    const client = await open(worker);
    worker.drain();
    await worker.says('closed');
    for (const path of ['/1', '/2']) {
      client.socket.write(`POST ${path} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody`);
      await client.sees(`end of ${path}`);
    }
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });

  for (const event of ['checkContinue', 'checkExpectation']) {
    test(`to a request that comes as '${event}'`, async () => {
      const worker = await serve(undefined, `server.on('${event}', handle);`);
      const client = await open(worker);
      client.get('/1');
      await client.sees('end of /1');
      worker.drain();
      await worker.says('closed');
      client.get('/2', `Expect: ${event === 'checkContinue' ? '100-continue' : 'miracles'}\r\n`);
      await client.sees('end of /2');
      expect(client.text).toContain('Connection: close');
    });
  }
});

describe('a server of a worker that drains', () => {
  test('keeps its address, and its first close() is the first', async () => {
    const worker = await serve(
      undefined,
      `process.on('message', ({ order }) => {
        if (order === 'look') tell({ listening: server.listening, address: server.address() });
        if (order === 'close') server.close((error) => tell({ error: error?.code ?? null }));
        if (order === 'again') server.close((error) => tell({ error: error?.code ?? null }));
      });
      server.on('close', () => tell({ event: 'close' }));`,
    );
    const client = await open(worker);
    client.get('/slow');
    await worker.hears('request');
    worker.drain();
    await worker.says('closed');
    worker.order('look');
    await worker.hears('listening');
    expect(worker.told.at(-1)).toMatchObject({ listening: true, address: { port: worker.port } });
    worker.order('close');
    worker.order('finish');
    expect(await worker.hears('error')).toBe(null);
    await worker.says('drained');
    expect(worker.told.filter(({ event }) => event)).toHaveLength(1);
    worker.order('again');
    await until('the second close has failed', () =>
      worker.told.some(({ error }) => error === 'ERR_SERVER_NOT_RUNNING'),
    );
  });

  test('that was closed before is waited for', async () => {
    const worker = await serve(
      undefined,
      `process.on('message', ({ order }) => order === 'close' && server.close());`,
    );
    const client = await open(worker);
    client.get('/slow');
    await worker.hears('request');
    worker.order('close');
    await worker.says('closed');
    worker.drain();
    worker.order('finish');
    await client.sees('Connection: close');
    await worker.says('drained');
  });

  test('listens again when the process is another: listen() waits, and can be taken back', async () => {
    const worker = await serve(
      undefined,
      `process.on('message', ({ order }) => {
        if (order !== 'listen') return;
        for (const port of [Number(process.env.PORT), 0]) {
          const late = http.createServer();
          late.on('listening', () => tell({ late: 'listens' })).on('error', () => tell({ late: 'failed' }));
          late.listen(port);
          tell({ state: [late.listening, late.address()] });
          late.on('close', () => tell({ late: 'closed' }));
          setTimeout(() => late.close(), ${A_WHILE});
        }
        const path = http.createServer().listen('\\0late-' + process.pid, () => path.close(() => tell({ path: true })));
      });`,
    );
    await open(worker);
    worker.drain();
    await worker.says('closed');
    worker.order('listen');
    expect(await worker.hears('state', 2)).toEqual([false, null]);
    await worker.hears('path');
    await worker.hears('late', 2);
    expect(worker.told.filter(({ late }) => late)).toEqual([{ late: 'closed' }, { late: 'closed' }]);
    expect(worker.questions).toEqual([]);
  });

  const ALONE = "import http from 'node:http'; const server = http.createServer().listen(process.env.PORT);";

  async function drained(more: string): Promise<TestWorker> {
    const worker = await startWorker({ program: ALONE + more });
    await worker.says('listening');
    worker.drain();
    await worker.says('drained');
    return worker;
  }

  test('keeps the process alive until SIGTERM, which has its own effect', async () => {
    const worker = await drained('');
    await new Promise((resolve) => setTimeout(resolve, A_WHILE));
    expect(worker.ended).toBe(undefined);
    worker.child.kill('SIGTERM');
    expect(await worker.exits()).toEqual({ code: null, signal: 'SIGTERM' });
  });

  test('keeps it alive for a handler of SIGTERM, until that closes it', async () => {
    const worker = await drained(`
      import { writeSync } from 'node:fs';
      process.on('SIGTERM', () => setTimeout(() => server.close(() => writeSync(1, 'closed')), 10));
      process.on('exit', (code) => writeSync(1, ' and ended with ' + code));`);
    await new Promise((resolve) => setTimeout(resolve, A_WHILE));
    worker.child.kill('SIGTERM');
    expect(await worker.exits()).toEqual({ code: 0, signal: null });
    await until('it has said so', () => worker.output === 'closed and ended with 0');
  });

  test('does not keep it alive when the program does not want that', async () => {
    const before = await drained("server.unref(); process.once('message', () => {});");
    before.order('go on');
    expect(await before.exits()).toEqual({ code: 0, signal: null });
    const after = await drained(`
      process.once('SIGTERM', () => { server.unref().ref(); process.once('SIGTERM', () => server.unref()); });`);
    after.child.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, A_WHILE));
    expect(after.ended).toBe(undefined);
    after.child.kill('SIGTERM');
    expect(await after.exits()).toEqual({ code: 0, signal: null });
  });

  test('cannot be sent to a child, and nothing worse comes of it', async () => {
    const worker = await serve(
      undefined,
      `import { fork } from 'node:child_process';
      process.on('message', () => {
        const child = fork('-', [], { execArgv: ['--eval', 'process.on("message", () => {})'] });
        child.send('server', server, (error) => { child.kill('SIGKILL'); tell({ sent: error?.code ?? null }); });
      });`,
    );
    worker.drain();
    await worker.says('drained');
    worker.order('send');
    expect(await worker.hears('sent')).toBe('EBADF');
  });
});

test('a primary of node:cluster whose workers have gone stays for its handler of SIGTERM', async () => {
  const worker = await startWorker({
    script: program('cluster-policy.mjs'),
    args: ['SCHED_RR', 'handles SIGTERM'],
  });
  await worker.says('listening');
  worker.drain();
  await worker.says('drained');
  await new Promise((resolve) => setTimeout(resolve, A_WHILE));
  expect(worker.ended).toBe(undefined);
  worker.child.kill('SIGTERM');
  expect(await worker.exits()).toEqual({ code: 5, signal: null });
});

describe('a worker', () => {
  test('without servers has drained at once, with a limit that is over too', async () => {
    const worker = await startWorker({ program: 'tell({ up: true }); process.on("message", () => {});' });
    await worker.hears('up');
    worker.drain('replace', 0);
    await worker.says('drained');
  });

  test('that stops looks at its connections once for all responses of a moment', async () => {
    const worker = await serve(
      undefined,
      `let looks = 0;
      const { closeIdleConnections } = server;
      server.closeIdleConnections = () => { looks += 1; closeIdleConnections.call(server); };
      process.on('message', ({ order }) => order === 'count' && tell({ looks }));`,
    );
    const all: RawClient[] = [];
    for (let index = 0; index < 20; index++) all.push(await open(worker));
    for (const client of all) client.get('/begun');
    await worker.hears('request', all.length);
    for (const client of all) await client.sees('begin,');
    worker.drain('stop');
    await worker.says('closed');
    worker.order('finish');
    for (const client of all) await client.ends();
    await worker.says('drained');
    worker.order('count');
    expect(await worker.hears('looks')).toBeLessThan(all.length / 2);
  });

  test('that stops closes a connection when the body of its last request has come', async () => {
    const worker = await serve();
    const client = await open(worker);
    worker.drain('stop');
    await worker.says('closed');
    client.socket.write('POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo');
    await client.sees('end of /early');
    client.socket.write('dy');
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });

  describe('without its channel', () => {
    const DISCONNECTS = `process.on('message', ({ order }) => order === 'disconnect' && process.disconnect());`;
    const left = async (more = ''): Promise<[TestWorker, RawClient]> => {
      const worker = await serve(undefined, `process.removeAllListeners('SIGTERM'); ${DISCONNECTS} ${more}`);
      const client = await open(worker);
      client.get('/waits');
      await worker.hears('request');
      worker.order('disconnect');
      await until('it has disconnected', () => !worker.child.connected);
      worker.child.kill('SIGTERM');
      return [worker, client];
    };
    const LATER = `
      server.removeAllListeners('request');
      server.on('request', (request, response) => {
        tell({ request: request.url });
        setTimeout(() => response.end('late'), ${3 * A_WHILE});
      });`;

    test('it drains on SIGTERM, and then the signal ends it', async () => {
      const [worker, client] = await left(LATER);
      await client.sees('late');
      expect(client.text).toContain('Connection: close');
      expect(await worker.exits()).toEqual({ code: null, signal: 'SIGTERM' });
    });

    test('and has a handler of its own, that ends it', async () => {
      const [worker, client] = await left(
        `process.on('SIGTERM', () => setTimeout(() => process.exit(7), ${6 * A_WHILE})); ${LATER}`,
      );
      await client.sees('late');
      expect(client.text).toContain('Connection: close');
      expect(await worker.exits()).toEqual({ code: 7, signal: null });
    });
  });

  test('that is asked again may have less time, and stop', async () => {
    const worker = await serve();
    const client = await open(worker);
    const busy = await open(worker);
    client.get('/1');
    busy.get('/begun');
    await client.sees('end of /1');
    await busy.sees('begin,');
    worker.drain('reload', 60_000);
    await worker.says('closed');
    worker.drain('stop', 1500);
    await client.ends();
    expect(worker.has('drained')).toBe(false);
    await worker.says('drained');
    expect(worker.events.filter(({ event }) => event === 'drained')).toHaveLength(1);
  });
});
