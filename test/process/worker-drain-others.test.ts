/** HTTP/2, WebSockets and bare connections of a worker that drains. */
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { io } from 'socket.io-client';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { certificate } from '../support/certificate.js';
import { RawClient } from '../support/raw-client.js';
import { until } from '../support/until.js';
import { startWorker, type TestWorker } from '../support/worker-harness.js';

/** Milliseconds that nothing must happen in; the test cannot fail by being too slow. */
const A_WHILE = 150;

const undo: (() => void)[] = [];
afterEach(() => {
  for (const each of undo.splice(0)) each();
});

async function serve(program: string): Promise<TestWorker> {
  const worker = await startWorker({
    program: `const CERTIFICATE = ${JSON.stringify(certificate())}; ${program}`,
  });
  await worker.says('listening');
  return worker;
}

describe('HTTP/2', () => {
  const SERVER = (create: string) => `
    import http2 from 'node:http2';
    const waiting = [];
    process.on('message', ({ order }) => { if (order === 'finish') for (const finish of waiting.splice(0)) finish(); });
    const server = ${create};
    server.on('stream', (stream, { ':path': path }) => {
      stream.on('error', () => {});
      const finish = () => { stream.respond(); stream.end(path); };
      if (path === '/slow') { waiting.push(finish); tell({ slow: true }); }
      else setTimeout(finish, 5);
    });
    server.listen(process.env.PORT);`;

  const KINDS = [
    { name: 'plain', scheme: 'http', create: 'http2.createServer()' },
    { name: 'encrypted', scheme: 'https', create: 'http2.createSecureServer(CERTIFICATE)' },
    {
      name: 'encrypted, beside HTTP/1',
      scheme: 'https',
      create: 'http2.createSecureServer({ ...CERTIFICATE, allowHTTP1: true })',
    },
  ];

  async function session(worker: TestWorker, scheme: string): Promise<ClientHttp2Session> {
    const client = connectHttp2(`${scheme}://127.0.0.1:${worker.port}`, { rejectUnauthorized: false });
    undo.push(() => client.destroy());
    client.on('error', () => {});
    await once(client, 'connect');
    return client;
  }

  /** The body, or the code of the reason why the stream failed; undefined when the session opens no more. */
  async function get(client: ClientHttp2Session, path: string): Promise<string | undefined> {
    if (client.closed || client.destroyed) return undefined;
    const stream = client.request({ ':path': path }).setEncoding('utf8');
    let text = '';
    stream.on('data', (piece) => {
      text += piece;
    });
    let failed: string | undefined;
    stream.on('error', ({ message }) => {
      failed = message;
    });
    await new Promise<void>((resolve) => stream.on('close', resolve));
    return failed ?? text;
  }

  for (const { name, scheme, create } of KINDS) {
    test(`${name}: streams end, an idle session is closed, and the worker has drained`, async () => {
      const worker = await serve(SERVER(create));
      const [busy, idle] = [await session(worker, scheme), await session(worker, scheme)];
      expect(await get(idle, '/1')).toBe('/1');
      const slow = get(busy, '/slow');
      await worker.hears('slow');
      const goaways: number[] = [];
      busy.on('goaway', (code) => goaways.push(code));
      const idleClosed = once(idle, 'close');
      worker.drain();
      await idleClosed;
      await until('the client has been told', () => goaways.length > 0);
      expect(worker.has('drained')).toBe(false);
      worker.order('finish');
      expect(await slow).toBe('/slow');
      await worker.says('drained');
      expect(goaways.every((code) => code === 0)).toBe(true);
    });

    test(`${name}: of a stream of requests none is lost`, async () => {
      const worker = await serve(SERVER(create));
      const client = await session(worker, scheme);
      const answers: Promise<string | undefined>[] = [];
      while (!client.closed && !client.destroyed) {
        for (let index = 0; index < 10; index++) answers.push(get(client, '/quick'));
        if (answers.length === 200) worker.drain();
        await new Promise((resolve) => setImmediate(resolve));
      }
      const got = new Set(await Promise.all(answers));
      got.delete('/quick');
      got.delete(undefined);
      // What the client had not sent, or not been promised an answer to: it has not been processed.
      got.delete('Stream closed with error code NGHTTP2_REFUSED_STREAM');
      expect([...got]).toEqual([]);
      await worker.says('drained');
    });

    test(`${name}: a session that is new has its first request answered`, async () => {
      const worker = await serve(
        `${SERVER(create)} server.on('connection', () => tell({ accepted: true }));`,
      );
      const raw = connect(worker.port, '127.0.0.1');
      await worker.hears('accepted');
      worker.drain();
      await worker.says('closed');
      const client = connectHttp2(`${scheme}://127.0.0.1:${worker.port}`, {
        createConnection: () =>
          scheme === 'http'
            ? raw
            : connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'] }),
      });
      undo.push(() => client.destroy());
      expect(await get(client, '/first')).toBe('/first');
      await worker.says('drained');
    });

    test(`${name}: at the limit the session is over`, async () => {
      const worker = await serve(SERVER(create));
      const client = await session(worker, scheme);
      const slow = get(client, '/slow');
      await worker.hears('slow');
      worker.drain('reload', A_WHILE);
      await worker.says('drained');
      expect(await slow).not.toBe('/slow');
    });
  }
});

describe('a plain HTTP/2 session', () => {
  const frame = (type: number, stream: number, payload: number[], flags = 0): Buffer =>
    Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream, ...payload]);
  const PING = 6;
  const GOAWAY = 7;
  /** `GET http://h/`, by the static table of HPACK (RFC 7541, appendix A), as the whole of a stream. */
  const get = (stream: number) => frame(1, stream, [0x82, 0x86, 0x84, 0x41, 1, 'h'.charCodeAt(0)], 0x5);

  test('has a stream answered that was opened before the client knew of the end', async () => {
    const worker = await serve(`
      import http2 from 'node:http2';
      process.on('message', () => {});
      http2.createServer((request, response) => response.end('answer')).listen(process.env.PORT);`);
    const socket = connect(worker.port, '127.0.0.1');
    undo.push(() => socket.destroy());
    let received = Buffer.alloc(0);
    socket.on('data', (piece) => {
      received = Buffer.concat([received, piece as Buffer]);
    });
    const frames = () => {
      const found: { type: number; flags: number; payload: Buffer }[] = [];
      for (let at = 0; at + 9 <= received.length; ) {
        const length = received.readUIntBE(at, 3);
        const payload = received.subarray(at + 9, at + 9 + length);
        found.push({ type: received[at + 3]!, flags: received[at + 4]!, payload });
        at += 9 + length;
      }
      return found;
    };
    const answers = () => frames().filter(({ payload }) => payload.toString() === 'answer').length;
    const last = () =>
      frames().flatMap(({ type, payload }) => (type === GOAWAY ? [payload.readUInt32BE()] : []));
    socket.write(
      Buffer.concat([
        Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
        frame(4, 0, []),
        frame(4, 0, [], 1),
        get(1),
      ]),
    );
    await until('it is answered', () => answers() === 1);
    worker.drain();
    const ping = await until('a PING comes', () => frames().find(({ type }) => type === PING));
    expect(last()).toEqual([2 ** 31 - 1]);
    socket.write(get(3));
    await until('it is answered', () => answers() === 2);
    socket.write(frame(PING, 0, [...ping.payload], 1));
    await until('the session is closed', () => last().includes(3));
    socket.end();
    await worker.says('drained');
  });

  test('of a client that does not answer is closed all the same', async () => {
    const worker = await serve(`
      import http2 from 'node:http2';
      http2.createServer(() => tell({ asked: true })).on('session', () => tell({ session: true })).listen(process.env.PORT);`);
    const client = await RawClient.open(worker.port);
    undo.push(() => client.socket.destroy());
    client.socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, [])]));
    await worker.hears('session');
    worker.drain();
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });
});

describe('WebSockets', () => {
  const WS = `
    import http from 'node:http';
    import https from 'node:https';
    import { WebSocketServer } from 'ws';
    process.on('message', () => {});
    const server = CREATE;
    const sockets = new WebSocketServer({ server, ...OPTIONS });
    sockets.on('connection', (socket) => {
      tell({ connected: true });
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
      socket.on('close', (code) => tell({ serverCode: code }));
    });
    server.listen(process.env.PORT);`;

  for (const [reason, expected] of [
    ['reload', 1012],
    ['scale', 1012],
    ['stop', 1001],
  ] as const) {
    for (const tls of [false, true]) {
      test(`${tls ? 'encrypted' : 'plain'}, by ${reason}: the client is told ${expected}`, async () => {
        const worker = await serve(
          `const OPTIONS = { perMessageDeflate: ${tls} };` +
            WS.replace('CREATE', tls ? 'https.createServer(CERTIFICATE)' : 'http.createServer()'),
        );
        const client = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${worker.port}`, {
          rejectUnauthorized: false,
        });
        undo.push(() => client.terminate());
        await once(client, 'open');
        const big = Buffer.alloc(3_000_000, 'x');
        const echoes: Buffer[] = [];
        client.on('message', (data: Buffer) => echoes.push(data));
        client.send(big);
        await until('it has come back', () => echoes.length === 1);
        const closed = once(client, 'close');
        worker.drain(reason);
        expect(await closed).toEqual([expected, expect.anything()]);
        expect(await worker.hears('serverCode')).toBe(expected);
        await worker.says('drained');
        expect(echoes[0]?.equals(big)).toBe(true);
      });
    }
  }

  test('in the middle of what the server sends, the frames stay whole', async () => {
    const worker = await serve(
      `const OPTIONS = {};${WS.replace('CREATE', 'http.createServer()')}
       sockets.on('connection', (socket) => {
         const send = () => { if (socket.readyState === 1) { socket.send('y'.repeat(70_000)); setImmediate(send); } };
         send();
       });`,
    );
    const client = new WebSocket(`ws://127.0.0.1:${worker.port}`);
    undo.push(() => client.terminate());
    const lengths = new Set<number>();
    client.on('message', (data: Buffer) => lengths.add(data.length));
    const errors: Error[] = [];
    client.on('error', (error) => errors.push(error));
    const closed = once(client, 'close');
    await until('it flows', () => lengths.size > 0);
    worker.drain();
    expect(await closed).toEqual([1012, expect.anything()]);
    expect([...lengths]).toEqual([70_000]);
    expect(errors).toEqual([]);
    await worker.says('drained');
  });

  test('whose upgrade is under way are told when it has been answered', async () => {
    const worker = await serve(
      `const OPTIONS = { verifyClient: (info, answer) => { tell({ asked: true }); process.once('message', () => answer(true)); } };` +
        WS.replace('CREATE', 'http.createServer()'),
    );
    const client = new WebSocket(`ws://127.0.0.1:${worker.port}`);
    undo.push(() => client.terminate());
    const opened = once(client, 'open');
    const closed = once(client, 'close');
    await worker.hears('asked');
    worker.drain();
    await worker.says('closed');
    await new Promise((resolve) => setTimeout(resolve, A_WHILE));
    expect(worker.has('drained')).toBe(false);
    worker.order('answer');
    await opened;
    expect(await closed).toEqual([1012, expect.anything()]);
    await worker.says('drained');
  });

  test('that are passed on by a proxy get no frame in between, and are ended at the limit', async () => {
    const worker = await serve(`
      import http from 'node:http';
      import net from 'node:net';
      const server = http.createServer().on('upgrade', (request, socket) => {
        const backend = net.connect(Number(process.argv.at(-1)), '127.0.0.1', () => {});
        backend.pipe(socket).pipe(backend);
        socket.write('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n');
        tell({ upgraded: true });
      });
      const backend = net.createServer((socket) => socket.write(Buffer.from([0x81, 5, 0x61])));
      backend.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
        process.argv.push(String(backend.address().port));
        server.listen(process.env.PORT);
      });`);
    const client = await RawClient.open(worker.port);
    undo.push(() => client.socket.destroy());
    client.get('/', 'Upgrade: websocket\r\nConnection: Upgrade\r\n');
    await client.sees('\x81\x05a');
    worker.drain('reload', A_WHILE);
    expect(await client.ends()).toBe('FIN');
    expect(client.text.endsWith('\x81\x05a')).toBe(true);
    await worker.says('drained');
  });

  test('of a server that another one passes connections on to', async () => {
    const worker = await serve(`
      import net from 'node:net';
      import http from 'node:http';
      import { WebSocketServer } from 'ws';
      const inner = http.createServer();
      new WebSocketServer({ server: inner });
      net.createServer((socket) => inner.emit('connection', socket)).listen(process.env.PORT);`);
    const client = new WebSocket(`ws://127.0.0.1:${worker.port}`);
    undo.push(() => client.terminate());
    await once(client, 'open');
    const closed = once(client, 'close');
    worker.drain();
    expect(await closed).toEqual([1012, expect.anything()]);
    await worker.says('drained');
  });

  test('of a server that the program has for itself are left alone, as are events that mean other things', async () => {
    const worker = await serve(`
      import net from 'node:net';
      import http from 'node:http';
      import { WebSocketServer } from 'ws';
      const own = http.createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => tell({ own: own.address().port }));
      new WebSocketServer({ server: own });
      const server = net.createServer().listen(process.env.PORT);
      for (const event of ['upgrade', 'session', 'connection', 'secureConnection']) {
        server.once(event, (...args) => tell({ [event]: args.length }));
        server.emit(event);
        server.once(event, (...args) => tell({ [event]: args.length }));
        server.emit(event, 'text', {}, null);
      }`);
    expect(await worker.hears('session', 2)).toBe(3);
    expect(await worker.hears('secureConnection', 2)).toBe(3);
    expect(worker.told).toContainEqual({ upgrade: 0 });
    const url = `ws://127.0.0.1:${await worker.hears('own')}`;
    const codes: number[] = [];
    const connect = async () => {
      const client = new WebSocket(url);
      undo.push(() => client.terminate());
      client.on('close', (code) => codes.push(code));
      await once(client, 'open');
    };
    await connect();
    worker.drain();
    await worker.says('drained');
    await connect();
    await new Promise((resolve) => setTimeout(resolve, A_WHILE));
    expect(codes).toEqual([]);
  });

  test('do not keep the request that they began with', async () => {
    const worker = await startWorker({
      execArgv: ['--expose-gc'],
      program: `
        import http from 'node:http';
        let request;
        const open = [];
        const server = http.createServer().listen(process.env.PORT);
        server.on('upgrade', (upgrade, socket) => {
          request = new WeakRef(upgrade);
          open.push(socket);
          socket.write('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n');
        });
        process.on('message', () => setTimeout(() => { gc(); tell({ kept: request.deref() !== undefined, open: open.length }); }));`,
    });
    await worker.says('listening');
    const client = await RawClient.open(worker.port);
    undo.push(() => client.socket.destroy());
    client.get('/', 'Upgrade: websocket\r\nConnection: Upgrade\r\n');
    await client.sees('101');
    await until('it is gone', async () => {
      worker.order('look');
      const looks = worker.told.length + 1;
      await worker.hears('kept', looks);
      return worker.told.at(-1)?.kept === false;
    });
    expect(worker.told.at(-1)).toEqual({ kept: false, open: 1 });
  });

  test('a server without an upgrade listener answers such requests as ever', async () => {
    const worker = await serve(`
      import http from 'node:http';
      const server = http.createServer((request, response) => response.end('plain')).listen(process.env.PORT);
      tell({ listeners: server.eventNames().map(String).sort(), own: Object.keys(server).includes('emit') });`);
    expect(await worker.hears('listeners')).toEqual(['connection', 'listening', 'request']);
    expect(worker.told[0]).toMatchObject({ own: false });
    const client = await RawClient.open(worker.port);
    undo.push(() => client.socket.destroy());
    client.get('/', 'Upgrade: websocket\r\nConnection: Upgrade\r\n');
    await client.sees('plain');
  });

  for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
    test(`socket.io by ${transports.join(' and ')} sees the end of the transport, and may connect again`, async () => {
      const worker = await serve(`
        import http from 'node:http';
        import { Server } from 'socket.io';
        process.on('message', () => {});
        const server = http.createServer();
        const all = new Server(server);
        all.on('connection', (socket) => {
          socket.on('echo', (text, answer) => answer(text));
          socket.conn.on('upgrade', () => tell({ upgraded: true }));
        });
        server.listen(process.env.PORT);`);
      const client = io(`http://127.0.0.1:${worker.port}`, { transports, reconnection: false });
      undo.push(() => client.disconnect());
      await new Promise<void>((resolve) => client.on('connect', resolve));
      if (transports.length === 2) await worker.hears('upgraded');
      expect(await client.emitWithAck('echo', 'here')).toBe('here');
      const gone = new Promise((resolve) =>
        client.on('disconnect', (reason, details) =>
          resolve([reason, (details as { context?: { code?: number } })?.context?.code]),
        ),
      );
      // Polling has no close frame: its requests end one by one, and the last one at the limit.
      worker.drain('reload', transports.includes('websocket') ? 20_000 : A_WHILE);
      await worker.says('drained');
      if (transports.includes('websocket')) expect(await gone).toEqual(['transport close', 1012]);
    });
  }
});

describe('bare connections', () => {
  const SERVERS = [
    { name: 'net', tls: false, create: 'net.createServer' },
    { name: 'tls', tls: true, create: 'tls.createServer.bind(tls, CERTIFICATE)' },
  ];
  for (const { name, tls, create } of SERVERS) {
    const program = `
      import net from 'node:net';
      import tls from 'node:tls';
      const server = (${create})((socket) => {
        tell({ accepted: true });
        socket.on('error', () => {});
        socket.on('data', (data) => socket.write(data));
      }).listen(process.env.PORT);`;
    test(`${name}: are waited for`, async () => {
      const worker = await serve(program);
      const client = await RawClient.open(worker.port, { tls });
      await worker.hears('accepted');
      worker.drain('stop');
      await worker.says('closed');
      client.socket.write('still there?');
      await client.sees('still there?');
      expect(worker.has('drained')).toBe(false);
      client.socket.end();
      await client.ends();
      await worker.says('drained');
    });

    test(`${name}: are ended at the limit`, async () => {
      const worker = await serve(program);
      const client = await RawClient.open(worker.port, { tls });
      await worker.hears('accepted');
      worker.drain('reload', A_WHILE);
      expect(await client.ends()).toBe('FIN');
      await worker.says('drained');
    });
  }

  test('whose TLS handshake never ends are ended at the limit', async () => {
    const worker = await serve(`
      import https from 'node:https';
      const server = https.createServer(CERTIFICATE).listen(process.env.PORT);
      server.on('connection', () => tell({ accepted: true })).on('tlsClientError', () => {});`);
    const client = await RawClient.open(worker.port);
    await worker.hears('accepted');
    worker.drain('stop', A_WHILE);
    expect(await client.ends()).toBe('FIN');
    await worker.says('drained');
  });

  test('whose TLS handshake is under way count as open, and are served', async () => {
    const worker = await serve(`
      import https from 'node:https';
      const server = https.createServer(CERTIFICATE, (request, response) => response.end('served'));
      server.on('connection', () => tell({ accepted: true }));
      server.listen(process.env.PORT);`);
    const raw = connect(worker.port, '127.0.0.1');
    await worker.hears('accepted');
    worker.drain();
    await worker.says('closed');
    expect(worker.has('drained')).toBe(false);
    const client = new RawClient(connectTls({ socket: raw, rejectUnauthorized: false }));
    client.get('/');
    await client.sees('served');
    expect(client.text).toContain('Connection: close');
    await worker.says('drained');
  });
});
