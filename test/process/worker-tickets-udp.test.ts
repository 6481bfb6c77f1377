/** TLS session tickets that all workers read, and UDP, which Spillway does not distribute. */
import { once } from 'node:events';
import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { certificate } from '../support/certificate.js';
import { startWorker, type TestWorker, TICKET_KEYS } from '../support/worker-harness.js';

const SERVER = `
  import tls from 'node:tls';
  import https from 'node:https';
  import http2 from 'node:http2';
  import net from 'node:net';
  const CERTIFICATE = ${JSON.stringify(certificate())};
  const keys = (server) => server.getTicketKeys().toString('base64');
  let server;
  process.on('message', ({ order, ...details }) => orders[order]?.(details));
  const orders = {
    keys: () => tell({ keys: keys(server) }),
    own: () => { server.setTicketKeys(Buffer.alloc(48, 1)); tell({ keys: keys(server) }); },
    context: () => { server.setSecureContext(CERTIFICATE); tell({ keys: keys(server) }); },
  };
  const go = (made) => { server = made; server.listen(process.env.PORT, () => tell({ keys: keys(server) })); };
`;

const OURS = TICKET_KEYS.toString('base64');

async function serve(create: string, plan = {}): Promise<TestWorker> {
  return startWorker({ program: `${SERVER} go(${create});`, ...plan });
}

/** A session that the server has given, to be resumed. */
async function ticket(port: number): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  // It comes with the data, in TLS 1.3.
  socket.resume();
  const [session] = (await once(socket, 'session')) as [Buffer];
  socket.destroy();
  return session;
}

async function resumes(port: number, session: Buffer): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, session });
  await once(socket, 'secureConnect');
  const reused = socket.isSessionReused();
  socket.destroy();
  return reused;
}

describe('ticket keys', () => {
  for (const create of [
    'tls.createServer(CERTIFICATE)',
    'https.createServer(CERTIFICATE)',
    'http2.createSecureServer(CERTIFICATE)',
  ]) {
    test(`of ${create} are the master's, also new ones`, async () => {
      const worker = await serve(create);
      expect(await worker.hears('keys')).toBe(OURS);
      const fresh = Buffer.alloc(48, 9);
      worker.ticketKeys(fresh);
      worker.order('keys');
      expect(await worker.hears('keys', 2)).toBe(fresh.toString('base64'));
      worker.order('context');
      expect(await worker.hears('keys', 3)).toBe(fresh.toString('base64'));
      expect(worker.questions).toEqual([{ ask: 'ticketKeys' }]);
    });
  }

  test('let a client resume with another worker', async () => {
    const create = "tls.createServer(CERTIFICATE, (socket) => socket.on('error', () => {}))";
    const [one, other] = [await serve(create), await serve(create)];
    await Promise.all([one.says('listening'), other.says('listening')]);
    expect(await resumes(other.port, await ticket(one.port))).toBe(true);
    // With other keys it could not.
    other.order('own');
    await other.hears('keys', 2);
    expect(await resumes(other.port, await ticket(one.port))).toBe(false);
  });

  test('that the program has chosen stay', async () => {
    const own = Buffer.alloc(48, 5).toString('base64');
    const worker = await serve(`tls.createServer({ ...CERTIFICATE, ticketKeys: Buffer.alloc(48, 5) })`);
    expect(await worker.hears('keys')).toBe(own);
    worker.ticketKeys(Buffer.alloc(48, 9));
    worker.order('keys');
    expect(await worker.hears('keys', 2)).toBe(own);
    expect(worker.questions).toEqual([]);
  });

  test('that the program chooses later stay too', async () => {
    const worker = await serve('tls.createServer(CERTIFICATE)');
    await worker.hears('keys');
    worker.order('own');
    const own = await worker.hears('keys', 2);
    expect(own).toBe(Buffer.alloc(48, 1).toString('base64'));
    worker.ticketKeys(Buffer.alloc(48, 9));
    worker.order('keys');
    expect(await worker.hears('keys', 3)).toBe(own);
  });

  for (const answer of [
    null,
    { ticketKeys: 'AAAA' },
    { error: { code: 'EAGAIN', message: 'later' } },
  ] as const) {
    test(`that cannot be had (${JSON.stringify(answer)}) do not stop the server`, async () => {
      const worker = await serve('tls.createServer(CERTIFICATE)', { answer: () => answer });
      expect(await worker.hears('keys')).not.toBe(OURS);
    });
  }

  test('are not asked for by a program without TLS', async () => {
    const worker = await startWorker({
      program: "import net from 'node:net'; net.createServer().listen(process.env.PORT);",
    });
    await worker.says('listening');
    expect(worker.questions).toEqual([]);
  });
});

describe('UDP', () => {
  const PROGRAM = `
    import dgram from 'node:dgram';
    const port = 20_000 + process.pid % 20_000;
    const open = (options, bind) => {
      const socket = dgram.createSocket(options);
      socket.on('error', ({ code, hint, message }) => { tell({ error: { code, hint, message } }); socket.close(); });
      socket.on('listening', () => { tell({ bound: socket.address().port }); socket.close(); });
      bind(socket);
      tell({ went: 'on' });
    };`;
  for (const [what, call] of [
    ['a port', "open('udp4', (socket) => socket.bind(port, () => tell({ called: true })))"],
    ['a port as text', "open('udp4', (socket) => socket.bind(String(port)))"],
    ['a port and an address', "open('udp6', (socket) => socket.bind(port, '::1'))"],
    ['options', "open('udp4', (socket) => socket.bind({ port, address: '127.0.0.1' }))"],
  ] as const) {
    test(`${what}: refused, as a bind that failed`, async () => {
      const worker = await startWorker({ program: `${PROGRAM} ${call};` });
      const { code, hint, message } = await worker.hears('error');
      expect(code).toBe('ERR_SPILLWAY_UDP');
      expect(message).toMatch(/^UDP port \d+ cannot be bound/);
      expect(hint).toContain('exclusive: true');
      await worker.exits();
      expect(worker.told.flatMap(Object.keys)).toEqual(['went', 'error']);
    });
  }

  for (const [what, call] of [
    ['any port', "open('udp4', (socket) => socket.bind())"],
    ['port 0', "open('udp4', (socket) => socket.bind(0))"],
    ['a port of this process alone', "open('udp4', (socket) => socket.bind({ port, exclusive: true }))"],
    ['a port that is shared', "open({ type: 'udp4', reuseAddr: true }, (socket) => socket.bind(port))"],
    ['nothing before it sends', "open('udp4', (socket) => socket.send('x', 9, '127.0.0.1'))"],
    ['nothing before it connects', "open('udp4', (socket) => socket.connect(9, '127.0.0.1'))"],
  ] as const) {
    test(`${what}: left alone`, async () => {
      const worker = await startWorker({ program: `${PROGRAM} ${call};` });
      expect(await worker.hears('bound')).toBeGreaterThan(0);
    });
  }

  test('a bind in a socket that has been closed throws as ever', async () => {
    const worker = await startWorker({
      program: `${PROGRAM} const socket = dgram.createSocket('udp4').close();
        try { socket.bind(port); } catch ({ code }) { tell({ code }); }`,
    });
    expect(await worker.hears('code')).toBe('ERR_SOCKET_DGRAM_NOT_RUNNING');
  });
});
