/** The load counts: every way in which a request can end, against servers that do exactly that. */
import { once } from 'node:events';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Session } from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { OUTCOMES, type Outcome } from '../support/load/protocol.js';
import { Load, type LoadOptions, totalsOf } from '../support/load.js';

const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{"pid":17,"slot":"3" }\n';

const open: Server[] = [];
const sockets = new Set<Socket>();

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of open.splice(0)) server.close();
});

async function listening(server: Server): Promise<number> {
  open.push(server.listen(0, '127.0.0.1'));
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A server that does something of its own with the nth request of each connection. */
function onRequest(act: (socket: Socket, nth: number) => void): Promise<number> {
  return listening(
    createServer((socket) => {
      let nth = 0;
      socket.on('data', () => act(socket, nth++));
    }),
  );
}

async function loadFor(count: number, options: Omit<LoadOptions, 'rate'>) {
  const load = await Load.start({ rate: 200, connections: 4, ...options });
  await load.goesOn(count);
  return load.stop();
}

const ENDS: readonly {
  outcome: Outcome;
  when: string;
  mode?: 'keep-alive';
  server: () => Promise<number>;
  error?: string | RegExp;
}[] = [
  {
    outcome: 'answered',
    when: 'the response is whole',
    server: () => onRequest((socket) => socket.end(ANSWER)),
  },
  {
    outcome: 'refused',
    when: 'nobody listens',
    server: async () => {
      const port = await listening(createServer());
      await new Promise((resolve) => open.pop()?.close(resolve));
      return port;
    },
    error: 'ECONNREFUSED',
  },
  {
    outcome: 'resetAfter',
    when: 'the server resets when it has seen the request',
    server: () => onRequest((socket) => socket.resetAndDestroy()),
    error: 'ECONNRESET',
  },
  {
    outcome: 'cut',
    when: 'the server ends instead of answering',
    server: () => onRequest((socket) => socket.end()),
  },
  {
    outcome: 'cut',
    when: 'the server ends in the middle of the response',
    server: () => onRequest((socket) => socket.end(ANSWER.slice(0, -5))),
  },
  {
    outcome: 'cut',
    when: 'a first request on a connection that is kept is not answered: nobody was idle',
    mode: 'keep-alive',
    server: () => onRequest((socket) => socket.end()),
  },
  {
    outcome: 'timedOut',
    when: 'nothing comes',
    server: () => onRequest(() => {}),
  },
  {
    outcome: 'wrong',
    when: 'the status is no success',
    server: () =>
      onRequest((socket) => socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n')),
    error: 'status 503',
  },
  {
    outcome: 'wrong',
    when: 'it is not HTTP',
    server: () => onRequest((socket) => socket.end('220 mail ready\r\n')),
    error: /^not a response/,
  },
];

describe('every request is counted once', () => {
  for (const { outcome, when, mode = 'per-request', server, error } of ENDS) {
    test(`as ${outcome} when ${when}`, async () => {
      const port = await server();
      const { totals, records, failures } = await loadFor(10, { port, mode, timeout: 200 });
      expect(totals.sent).toBeGreaterThanOrEqual(10);
      expect(totals).toEqual({ ...totalsOf([]), sent: totals.sent, [outcome]: totals.sent });
      expect(records.map(({ id }) => id).sort()).toEqual(
        Array.from({ length: totals.sent }, (_, number) => `load-${number}`).sort(),
      );
      for (const record of failures) {
        if (error) expect(record.error).toMatch(error);
        expect(record.ended).toBeGreaterThanOrEqual(record.started);
      }
    });
  }

  test('and the counts are of all outcomes there are', () => {
    const { sent, ...counts } = totalsOf([]);
    expect(sent).toBe(0);
    expect(Object.keys(counts)).toEqual([...OUTCOMES]);
  });

  test('one that a reset meets while its connection was idle is counted apart', async () => {
    for (const way of ['end', 'resetAndDestroy'] as const) {
      const port = await onRequest((socket, nth) => (nth === 0 ? socket.write(ANSWER) : socket[way]()));
      const { totals, records } = await loadFor(20, { port, mode: 'keep-alive' });
      expect(totals.idleRace, way).toBeGreaterThan(5);
      expect(totals.answered + totals.idleRace, way).toBe(totals.sent);
      for (const { outcome, reused } of records) expect(reused, way).toBe(outcome === 'idleRace');
    }
  });
});

describe('the load', () => {
  test('tells who answered, from which port it asked, and when', async () => {
    const ports = new Set<number | undefined>();
    const port = await onRequest((socket) => {
      ports.add(socket.remotePort);
      socket.end(ANSWER);
    });
    const { records, byPid } = await loadFor(10, { port, mode: 'per-request', name: 'mine' });
    expect(byPid).toEqual(new Map([[17, records.length]]));
    expect(new Set(records.map((record) => record.port))).toEqual(ports);
    for (const { slot, id, started, connected, ended, reused } of records) {
      expect(slot).toBe('3');
      expect(id).toMatch(/^mine-\d+$/);
      expect(reused).toBe(false);
      expect(connected).toBeGreaterThanOrEqual(started);
      expect(ended).toBeGreaterThanOrEqual(connected!);
    }
  });

  test('comes from the addresses it is told', async () => {
    const seen = new Set<string | undefined>();
    const port = await onRequest((socket) => {
      seen.add(socket.remoteAddress);
      socket.end(ANSWER);
    });
    await loadFor(20, { port, mode: 'per-request', sources: ['127.0.0.2', '127.0.0.3'] });
    expect([...seen].sort()).toEqual(['127.0.0.2', '127.0.0.3']);
  });

  test('keeps its connections, and replaces one that the server ends with a response', async () => {
    const port = await listening(
      createHttp((_request, response) => response.end('{}')) // Node keeps the connection.
        .on('request', () => {}),
    );
    const kept = await loadFor(60, { port, mode: 'keep-alive' });
    expect(kept.connections).toEqual({ opened: 4, ended: 0, reset: 0 });
    expect(kept.totals.answered).toBe(kept.totals.sent);

    const other = createHttp((_request, response) => response.setHeader('connection', 'close').end('{}'));
    const ended = await loadFor(60, { port: await listening(other), mode: 'keep-alive' });
    expect(ended.totals.answered).toBe(ended.totals.sent);
    expect(ended.connections).toEqual({ opened: ended.totals.sent, ended: ended.totals.sent, reset: 0 });
  });

  test('counts connections that are ended or reset while they are idle, and no request fails', async () => {
    for (const [way, counted] of [
      ['end', 'ended'],
      ['resetAndDestroy', 'reset'],
    ] as const) {
      const port = await onRequest((socket) => {
        socket.write(ANSWER);
        setTimeout(() => socket[way](), 5);
      });
      // A connection has a request every 100 ms.
      const load = await Load.start({ port, mode: 'keep-alive', connections: 10, rate: 100 });
      await load.goesOn(30);
      const { totals, connections } = await load.stop();
      expect(totals.answered, way).toBe(totals.sent);
      expect(connections[counted], way).toBeGreaterThan(20);
      expect(connections[counted === 'ended' ? 'reset' : 'ended'], way).toBe(0);
    }
  });

  test('sends no more than its connections can carry, and says how many it left out', async () => {
    const port = await onRequest((socket) => setTimeout(() => socket.write(ANSWER), 100));
    const load = await Load.start({ port, mode: 'keep-alive', connections: 2, rate: 200 });
    await load.goesOn(10);
    const { totals, skipped } = await load.stop();
    expect(totals.answered).toBe(totals.sent);
    expect(skipped).toBeGreaterThan(totals.sent);
  });

  test('is answered in full when it is stopped in the middle', async () => {
    const port = await onRequest((socket) => setTimeout(() => socket.end(ANSWER), 300));
    const load = await Load.start({ port, mode: 'per-request', rate: 200 });
    const { totals, records } = await load.stop();
    expect(totals.answered).toBe(totals.sent);
    const [last] = records.slice(-1);
    expect(last!.ended - last!.started).toBeGreaterThan(290);
  });
});

describe('HTTP/2', () => {
  function http2(answer: (session: ServerHttp2Session, nth: number) => boolean): Promise<number> {
    const server = createHttp2();
    server.on('session', (session) => {
      let nth = 0;
      session.on('error', () => {});
      session.on('stream', (stream) => {
        stream.on('error', () => {});
        if (!answer(session, nth++)) return;
        stream.respond({ ':status': 200 });
        stream.end('{"pid":9}');
      });
    });
    return listening(server as unknown as Server);
  }

  test('requests share connections', async () => {
    const port = await http2(() => true);
    const result = await loadFor(40, { port, mode: 'keep-alive', protocol: 'h2c' });
    expect(result.totals.answered).toBe(result.totals.sent);
    expect(result.byPid).toEqual(new Map([[9, result.totals.sent]]));
    expect(result.connections).toEqual({ opened: 4, ended: 0, reset: 0 });
  });

  test('a GOAWAY ends a connection and no request', async () => {
    const port = await http2((session, nth) => {
      if (nth === 3) session.close();
      return true;
    });
    const { totals, connections } = await loadFor(60, { port, mode: 'keep-alive', protocol: 'h2c' });
    expect(totals.answered + totals.unprocessed + totals.unsent).toBe(totals.sent);
    expect(totals.answered).toBeGreaterThan(totals.sent * 0.8);
    expect(connections.ended).toBeGreaterThan(5);
  });

  test('what the server says it did not begin with is counted apart', async () => {
    const REFUSED_STREAM = 7;
    const server = createHttp2();
    server.on('session', (session) => {
      session.on('stream', (stream) => stream.on('error', () => {}).close(REFUSED_STREAM));
    });
    const port = await listening(server as unknown as Server);
    const { totals } = await loadFor(10, { port, mode: 'keep-alive', protocol: 'h2c' });
    expect(totals.unprocessed).toBe(totals.sent);
  });

  test('a connection that is lost, and one that never was, are counted as what they are', async () => {
    const lost = await http2(() => {
      for (const socket of sockets) socket.destroy();
      return false;
    });
    const { totals } = await loadFor(10, { port: lost, mode: 'keep-alive', protocol: 'h2c' });
    expect({ ...totals, cut: 0, resetAfter: totals.cut + totals.resetAfter }).toEqual({
      ...totalsOf([]),
      sent: totals.sent,
      resetAfter: totals.sent,
    });

    const nobody = await listening(createServer());
    await new Promise((resolve) => open.pop()?.close(resolve));
    const refused = await loadFor(10, { port: nobody, mode: 'keep-alive', protocol: 'h2c' });
    expect(refused.totals.refused).toBe(refused.totals.sent);
  });
});
