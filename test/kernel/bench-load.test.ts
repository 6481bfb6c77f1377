/** The load generator against servers that do what they are told; what both sides counted must agree. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type LoadSamples, runLoad } from '../../bench/load/generator.js';
import type { Arrivals, LoadOrder, Work } from '../../bench/load/order.js';
import { OUTCOMES, type Outcome } from '../../bench/load/samples.js';
import { steady, withKind } from '../../bench/load/schedule.js';
import { answersById, latencies, lateness, outcomes } from '../../bench/load/summary.js';
import { httpServer, tcpServer } from '../support/bench-server.js';
import { descendants, freePort } from '../support/cli.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();

const CLOSE = 'GET /close HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n';
const KEEP = 'GET /keep HTTP/1.1\r\nHost: test\r\n\r\n';

/** Milliseconds by which this machine, which tests share with others, may be late. */
const TOLERANCE = 60;

const HALF_A_SECOND = steady({ rate: 400, milliseconds: 500, seed: 1 });

function inConnections(arrivals: Arrivals = HALF_A_SECOND): Work {
  return { mode: 'connections', arrivals };
}

function order(port: number, work: Work, more: Partial<LoadOrder> = {}): LoadOrder {
  return {
    target: { host: '127.0.0.1', port },
    work,
    requests: [CLOSE],
    timeout: 2000,
    sources: [],
    cpu: null,
    network: null,
    ...more,
  };
}

function outcomeOf(samples: LoadSamples, index: number): Outcome {
  return OUTCOMES[samples.outcome[index] as number] as Outcome;
}

/** That all of them ended so, and in no other way. */
function expectAll(samples: LoadSamples, outcome: Outcome): void {
  const counts = outcomes(samples);
  expect(counts).toEqual({
    ...counts,
    ...Object.fromEntries(OUTCOMES.map((each) => [each, 0])),
    [outcome]: samples.count,
  });
}

/** Milliseconds by the clock of `startedAt`. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

/** Keeps this process, and every server in it, from doing anything else. */
function standStill(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

describe('a connection for every request', () => {
  test('every one arrives once, in its kind, from the sources in turn, and is answered', async () => {
    const workers = ['a', 'b.1', 'b.2'];
    const server = await httpServer((response, _, number) => response.end(`${workers[number % 3]}\n`));
    const sources = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];
    const arrivals = withKind(HALF_A_SECOND, { kind: 1, oneIn: 10, seed: 1 });
    const requests = [CLOSE, CLOSE.replace('/close', '/other')];
    const samples = await runLoad(order(server.port, inConnections(arrivals), { requests, sources }));

    expect(samples.count).toBe(200);
    expectAll(samples, 'ok');
    expect(server.connections).toBe(200);
    expect(server.paths.filter((path) => path === '/other')).toHaveLength(20);
    expect(samples.kind).toEqual(arrivals.kind);
    expect(Object.fromEntries(server.sources)).toEqual(
      Object.fromEntries(sources.map((source) => [source, 50])),
    );
    expect(Object.fromEntries(answersById(samples))).toEqual({ a: 67, 'b.1': 67, 'b.2': 66 });
  });

  test('times are in order and count from when the request was due', async () => {
    const server = await httpServer((response) => void setTimeout(() => response.end('only'), 50));
    const samples = await runLoad(order(server.port, inConnections()));
    expectAll(samples, 'ok');
    for (let i = 0; i < samples.count; i++) {
      // The generator's clock counts nanoseconds.
      expect(samples.due[i]).toBeCloseTo(HALF_A_SECOND.at[i] as number, 5);
      const times = [samples.begun, samples.connected, samples.firstByte, samples.ended].map(
        (column) => column[i] as number,
      );
      expect(times).toEqual([...times].sort((a, b) => a - b));
      expect(times[0]).toBeGreaterThanOrEqual(0);
      // setTimeout() may fire a millisecond early.
      expect(times[2]).toBeGreaterThan(49);
    }
    const { p50 } = latencies(samples, null);
    expect(p50).toBeLessThan(50 + TOLERANCE);
  });

  test('none waits for an earlier one: the rate is kept while the server stands still', async () => {
    const server = await httpServer();
    let stoodStill = { from: 0, to: 0 };
    const samples = await runLoad(order(server.port, inConnections()), undefined, (startedAt) => {
      setTimeout(() => {
        const from = now() - startedAt;
        standStill(250);
        stoodStill = { from, to: now() - startedAt };
      }, 100);
    });
    expectAll(samples, 'ok');
    expect(lateness(samples).lateP99).toBeLessThan(TOLERANCE);
    const during = [...samples.due.keys()].filter((index) => {
      const due = samples.due[index] as number;
      return due > stoodStill.from && due < stoodStill.to;
    });
    expect(during.length).toBeGreaterThan(50);
    for (const index of during) {
      const due = samples.due[index] as number;
      // The kernel takes them in all the same.
      expect(samples.connected[index]).toBeLessThan(TOLERANCE);
      expect(due + (samples.firstByte[index] as number)).toBeGreaterThan(stoodStill.to);
    }
  });

  test('nothing is sent where nothing is planned', async () => {
    const server = await httpServer();
    const samples = await runLoad(
      order(server.port, inConnections(steady({ rate: 0, milliseconds: 10, seed: 1 }))),
    );
    expect(samples.count).toBe(0);
    expect(server.connections).toBe(0);
  });
});

describe('what is no answer', () => {
  const FEW = inConnections(steady({ rate: 200, milliseconds: 100, seed: 1 }));

  test('a port that nobody listens on refuses, at once', async () => {
    const samples = await runLoad(order(await freePort(), FEW));
    expect(samples.count).toBe(20);
    expectAll(samples, 'refused');
    expect(Math.max(...samples.ended)).toBeLessThan(TOLERANCE);
    expect(samples.connected.every(Number.isNaN)).toBe(true);
    expect(samples.worker.every((worker) => worker === 65_535)).toBe(true);
    expect(samples.workers).toEqual([]);
  });

  const RESETS: { how: string; serve: Parameters<typeof tcpServer>[0] }[] = [
    { how: 'an RST', serve: (socket) => socket.resetAndDestroy() },
    { how: 'an end without a word', serve: (socket) => socket.once('data', () => socket.end()) },
    {
      how: 'an end within the header',
      serve: (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-')),
    },
    {
      how: 'an end within the body',
      serve: (socket) =>
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234')),
    },
  ];
  test.each(named(RESETS, ({ how }) => how))('%s counts as a reset', async (_, { serve }) => {
    const server = await tcpServer(serve);
    const samples = await runLoad(order(server.port, FEW));
    expectAll(samples, 'reset');
    expect(samples.connected.some(Number.isNaN)).toBe(false);
    expect(server.connections).toBe(samples.count);
  });

  const BAD = [
    'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nonly',
    'HTTP/1.0 502 Bad Gateway\r\n\r\n<html>',
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    `HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n${'x'.repeat(65)}`,
    'HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nonly',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n0\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(5000)}`,
    'SSH-2.0-Something else\r\n',
  ];
  test.each(named(BAD, (text) => JSON.stringify(text.slice(0, 60))))(
    '%s is a bad answer',
    async (_, text) => {
      const server = await tcpServer((socket) => socket.once('data', () => socket.end(text)));
      const samples = await runLoad(order(server.port, FEW));
      expectAll(samples, 'bad-answer');
      expect(samples.firstByte.some(Number.isNaN)).toBe(false);
    },
  );

  test('silence is given up when the time limit has passed', async () => {
    const server = await tcpServer((socket) => socket.on('data', () => {}));
    const began = performance.now();
    const samples = await runLoad(order(server.port, FEW, { timeout: 200 }));
    expectAll(samples, 'unanswered');
    expect(Math.min(...samples.ended)).toBeGreaterThanOrEqual(200);
    expect(Math.max(...samples.ended)).toBeLessThan(200 + TOLERANCE);
    expect(performance.now() - began).toBeLessThan(100 + 200 + 1000);
    await until('the server sees all connections closed', () => server.open.size === 0);
  });

  test('a handshake that nobody takes on is given up, too', async () => {
    const target = { address: '127.0.0.1', family: 4, port: await freePort() } as const;
    // A backlog of 0 holds one; the SYNs of all others are dropped.
    const listener = testing().openListener({ ...target, backlog: 0, reusePort: false });
    const clients = testing().connectMany({ ...target, count: 1 });
    const samples = await runLoad(order(target.port, FEW, { timeout: 150 }));
    testing().closeMany([listener, ...clients.map(({ fd }) => fd)]);
    expectAll(samples, 'connect-timeout');
    expect(Math.max(...samples.ended)).toBeLessThan(150 + TOLERANCE);
  });

  test('what the generator itself cannot send is not counted against the service', async () => {
    const server = await httpServer();
    const sources = ['127.0.0.1', '192.0.2.1'];
    const samples = await runLoad(order(server.port, FEW, { sources }));
    expect(outcomes(samples)).toMatchObject({ ok: 10, 'not-sent': 10 });
    expect(server.connections).toBe(10);
  });
});

describe('answers', () => {
  const FEW = inConnections(steady({ rate: 100, milliseconds: 100, seed: 1 }));

  test('may come in pieces, and without a length', async () => {
    const pieces = ['HTTP/1.1 2', '00 OK\r\nContent-Type: text/plain\r', '\n\r\n on', 'ly \r\n'];
    const server = await tcpServer((socket) =>
      socket.once('data', async () => {
        for (const piece of pieces) {
          socket.write(piece);
          await delay(10);
        }
        socket.end();
      }),
    );
    const samples = await runLoad(order(server.port, FEW));
    expectAll(samples, 'ok');
    expect(samples.workers).toEqual(['only']);
    for (let i = 0; i < samples.count; i++) {
      const spread = (samples.ended[i] as number) - (samples.firstByte[i] as number);
      expect(spread).toBeGreaterThan(30);
    }
  });

  test('are one line where the request is a path', async () => {
    const server = await tcpServer((socket) => socket.on('data', (line) => socket.write(`${line.length}\n`)));
    const samples = await runLoad(order(server.port, FEW, { requests: ['/\n'] }));
    expectAll(samples, 'ok');
    expect(samples.workers).toEqual(['2']);
    await until('the server sees all connections closed', () => server.open.size === 0);
  });

  test('end a connection that says so, also where connections stay', async () => {
    const server = await httpServer((response, _, number) => {
      if (number % 2 === 1) response.setHeader('Connection', 'close');
      response.end('only');
    });
    const arrivals = steady({ rate: 100, milliseconds: 200, seed: 1, spacing: 'even' });
    const work: Work = { mode: 'keep-alive', arrivals, connections: 1 };
    const samples = await runLoad(order(server.port, work, { requests: [KEEP] }));
    expectAll(samples, 'ok');
    expect(server.connections).toBe(10);
    expect(samples.connected.filter((time) => time > 0)).toHaveLength(10);
  });
});

describe('connections that stay', () => {
  const keepAlive = (connections: number): Work => ({
    mode: 'keep-alive',
    arrivals: HALF_A_SECOND,
    connections,
  });

  test('are opened once and used in turn', async () => {
    const server = await httpServer();
    const samples = await runLoad(order(server.port, keepAlive(8), { requests: [KEEP] }));
    expectAll(samples, 'ok');
    expect(server.connections).toBe(8);
    expect(server.paths).toHaveLength(200);
    expect([...samples.connected.keys()].filter((index) => (samples.connected[index] as number) > 0)).toEqual(
      Array.from({ length: 8 }, (_, index) => index),
    );
    await until('the server sees all connections closed', () => server.open.size === 0);
  });

  test('a request that waits for its connection waits on the clock: no pause of the server is left out', async () => {
    const server = await httpServer();
    let end = 0;
    let begin = 0;
    const samples = await runLoad(
      order(server.port, keepAlive(4), { requests: [KEEP] }),
      undefined,
      (startedAt) => {
        setTimeout(() => {
          begin = now() - startedAt;
          standStill(250);
          end = now() - startedAt;
        }, 100);
      },
    );
    expectAll(samples, 'ok');
    const waited = [...samples.due.keys()].filter((index) => {
      const due = samples.due[index] as number;
      return due > begin && due < end;
    });
    // 100 were planned for those 250 ms, and 4 connections can carry but 4 of them at a time.
    expect(waited.length).toBeGreaterThan(50);
    for (const index of waited)
      expect((samples.due[index] as number) + (samples.firstByte[index] as number)).toBeGreaterThan(end);
    // Whoever waits for its connection was taken up in time all the same.
    expect(lateness(samples).lateP99).toBeLessThan(TOLERANCE);
  });

  test('one that broke is replaced, and only the request on it is lost', async () => {
    const server = await httpServer((response, request, number) => {
      if (number === 20) request.socket.resetAndDestroy();
      else response.end('only');
    });
    const samples = await runLoad(order(server.port, keepAlive(2), { requests: [KEEP] }));
    expect(outcomes(samples)).toMatchObject({ ok: 199, reset: 1 });
    expect(server.connections).toBe(3);
  });

  test('one whose request was given up is replaced for those that wait behind it', async () => {
    const server = await httpServer((response, _, number) => {
      if (number !== 0) response.end('only');
    });
    const arrivals = steady({ rate: 100, milliseconds: 100, seed: 1, spacing: 'even' });
    const work: Work = { mode: 'keep-alive', arrivals, connections: 1 };
    const samples = await runLoad(order(server.port, work, { requests: [KEEP], timeout: 200 }));
    expect(outcomes(samples)).toMatchObject({ ok: 9, unanswered: 1 });
    expect(outcomeOf(samples, 0)).toBe('unanswered');
    for (let index = 1; index < 10; index++) {
      const wait = 200 - (samples.due[index] as number);
      expect(samples.firstByte[index]).toBeGreaterThan(wait);
      expect(samples.firstByte[index]).toBeLessThan(wait + TOLERANCE);
    }
  });

  test('a server that is gone is asked in vain by every request, each in its time', async () => {
    const work = keepAlive(4);
    const samples = await runLoad(order(await freePort(), work, { requests: [KEEP] }));
    expectAll(samples, 'refused');
  });
});

describe('a closed load', () => {
  test('has so many connections at any time, for so long', async () => {
    const server = await httpServer((response) => void setTimeout(() => response.end('only'), 10));
    const work: Work = { mode: 'closed', concurrency: 12, milliseconds: 400, kind: 0 };
    const samples = await runLoad(order(server.port, work));
    expectAll(samples, 'ok');
    expect(server.most).toBeGreaterThanOrEqual(12);
    expect(server.connections).toBe(samples.count);
    // 12 at a time, 10 ms each, are 480 of them at best.
    expect(samples.count).toBeGreaterThan(240);
    expect(samples.count).toBeLessThanOrEqual(12 * 41);
    expect(Math.max(...samples.due)).toBeLessThan(400);
    const underWay = (at: number) =>
      samples.due.filter((due, index) => due <= at && due + (samples.ended[index] as number) > at).length;
    for (const at of [50, 150, 250, 350]) expect(underWay(at)).toBeGreaterThan(8);
    for (const at of [50, 150, 250, 350]) expect(underWay(at)).toBeLessThanOrEqual(12);
    expect(samples.precedence).not.toBe('real-time');
  });

  test('does not hammer a server that refuses', async () => {
    const work: Work = { mode: 'closed', concurrency: 4, milliseconds: 100, kind: 0 };
    const samples = await runLoad(order(await freePort(), work));
    expectAll(samples, 'refused');
    expect(samples.count).toBeGreaterThan(4 * 20);
    expect(samples.count).toBeLessThanOrEqual(4 * 101);
  });
});

test('held connections stay open until the end, when all are closed at once', async () => {
  const server = await httpServer();
  const ends: number[] = [];
  const arrivals = steady({ rate: 200, milliseconds: 200, seed: 1 });
  const work: Work = { mode: 'hold', arrivals, milliseconds: 600 };
  let start = 0;
  const samples = await runLoad(order(server.port, work, { requests: [KEEP] }), undefined, (startedAt) => {
    start = startedAt;
    setTimeout(() => {
      for (const socket of server.open) socket.once('end', () => ends.push(now()));
    }, 500);
  });
  expectAll(samples, 'ok');
  expect(samples.count).toBe(40);
  expect(server.most).toBe(40);
  expect(Math.max(...samples.ended)).toBeLessThan(TOLERANCE * 2);
  await until('the server sees all connections closed', () => server.open.size === 0);
  expect(ends).toHaveLength(40);
  expect(Math.min(...ends) - start).toBeGreaterThanOrEqual(600);
  expect(Math.max(...ends) - start).toBeLessThan(600 + TOLERANCE * 2);
});

describe('the generator', () => {
  test('leaves no process and no connection when it is aborted', async () => {
    const server = await tcpServer((socket) => socket.on('data', () => {}));
    const controller = new AbortController();
    const reason = new Error('enough');
    const load = runLoad(order(server.port, inConnections()), controller.signal);
    const ended = expect(load).rejects.toBe(reason);
    await until('connections are open', () => server.open.size > 10);
    const [child] = descendants(process.pid);
    expect(child).toBeDefined();
    controller.abort(reason);
    await ended;
    await until('the server sees all connections closed', () => server.open.size === 0);
    expect(descendants(process.pid)).toEqual([]);
  });

  test('says when it starts before it does, and is bound and preferred as the order says', async () => {
    const server = await httpServer();
    const told: { startedAt: number; at: number }[] = [];
    const work = inConnections(steady({ rate: 100, milliseconds: 100, seed: 1, spacing: 'even' }));
    let status = '';
    const samples = await runLoad(order(server.port, work, { cpu: 0 }), undefined, (startedAt) => {
      told.push({ startedAt, at: now() });
      status = readFileSync(`/proc/${descendants(process.pid)[0]}/status`, 'utf8');
    });
    expect(told).toHaveLength(1);
    expect(told[0]?.startedAt).toBe(samples.startedAt);
    expect(status).toMatch(/^Cpus_allowed_list:\t0$/m);
    expect(samples.precedence).toBe('real-time');
    expect(samples.generatorBusy).toBeGreaterThan(0);
    expect(samples.generatorBusy).toBeLessThan(1);
  });

  test('fails with what it says when the order cannot be carried out', async () => {
    const load = runLoad(order(1, inConnections(), { network: '/proc/self/ns/nothing' }));
    await expect(load).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_SYSTEM',
      message: expect.stringContaining('/proc/self/ns/nothing'),
    });
    const elsewhere = runLoad(order(1, inConnections(), { cpu: 1000 }));
    await expect(elsewhere).rejects.toThrow(/processor 1000/);
  });
});
