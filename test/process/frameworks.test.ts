/** Programs of every usual framework, unmodified, behind a master: each serves, ends, and is replaced as it would alone. */
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { io } from 'socket.io-client';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { type Master, serve } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { app, type Place, type Protocol, placeOf, tell, tellTwice } from '../support/apps/client.js';
import { freePort } from '../support/cli.js';
import { Load, type Outcome } from '../support/load.js';
import { order, startMaster } from '../support/serving.js';
import { until } from '../support/until.js';

/** So many connections leave no worker of two out by chance: 2⁻⁴⁰. */
const ENOUGH = 40;

const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

interface Framework {
  file: string;
  protocol: Protocol;
  args?: string[];
  execArgv?: string[];
}

const FRAMEWORKS: readonly Framework[] = [
  { file: 'http.mjs', protocol: 'http' },
  { file: 'https.mjs', protocol: 'https' },
  { file: 'http2.mjs', protocol: 'h2c' },
  { file: 'http2.mjs', protocol: 'h2', args: ['secure'] },
  { file: 'net.mjs', protocol: 'tcp' },
  { file: 'express.mjs', protocol: 'http' },
  { file: 'fastify.ts', protocol: 'http', execArgv: ['--import', TSX] },
  { file: 'koa.cjs', protocol: 'http' },
  { file: 'nest.mjs', protocol: 'http' },
  { file: 'ws.mjs', protocol: 'http' },
  { file: 'socket-io.mjs', protocol: 'http' },
];

const running = (master: Master) => master.workers.filter(({ state }) => state === 'running');

const pidsOf = (master: Master) =>
  running(master)
    .map(({ pid }) => pid!)
    .sort();

/** A master for which nothing is declared: the program's own listen() decides. */
function startUndeclared(options: Partial<MasterOptions>): Promise<Master> {
  return startMaster({ host: undefined, port: undefined, ...options } as Partial<MasterOptions>);
}

async function answering(place: Place, protocol: Protocol): Promise<number[]> {
  const answers = await Promise.all(Array.from({ length: ENOUGH }, () => tell(place, protocol)));
  return [...new Set(answers.map(({ pid }) => pid))].sort();
}

/** All of these answer, sooner or later, and nobody else: one that is still busy with its start gets less than others. */
async function expectAnswersOf(pids: readonly number[], place: Place, protocol: Protocol): Promise<void> {
  const seen = new Set<number>();
  await until(`${pids} have all answered`, async () => {
    for (const pid of await answering(place, protocol)) seen.add(pid);
    return pids.every((pid) => seen.has(pid));
  });
  expect([...seen].sort()).toEqual(pids);
}

/** Both workers answer, what is posted comes back, and a connection that is kept stays with its worker. */
async function expectService(master: Master, place: Place, protocol: Protocol): Promise<void> {
  await expectAnswersOf(pidsOf(master), place, protocol);
  const body = { text: 'ünï', list: [1, 2, 3], long: 'x'.repeat(20_000) };
  const told = await tell(place, protocol, body);
  expect(told.body).toEqual(body);
  expect(master.workers.find(({ pid }) => pid === told.pid)?.slot).toBe(Number(told.slot));
  if (protocol === 'http' || protocol === 'https') {
    const { pids, reused } = await tellTwice(place, protocol);
    expect(reused).toBe(true);
    expect(new Set(pids).size).toBe(1);
  }
}

/**
 * What a GOAWAY may do to requests that meet it: nghttp2's client keeps back those it has not sent yet. Over TLS Node's
 * server refuses in addition those that were on their way. The client knows of all of them that nobody has begun with them.
 */
const SAFE_TO_REPEAT: Partial<Record<Protocol, readonly Outcome[]>> = {
  h2c: ['unsent'],
  h2: ['unsent', 'unprocessed'],
};

/** Reloads with requests on their way: none fails, and others answer afterwards. */
async function expectReload(master: Master, place: Place, protocol: Protocol): Promise<void> {
  const before = pidsOf(master);
  const load =
    protocol === 'tcp'
      ? undefined
      : await Load.start({ ...place, mode: 'keep-alive', protocol, rate: 80, connections: 8 });
  await master.reload();
  const after = pidsOf(master);
  expect(after).toHaveLength(before.length);
  expect(after.filter((pid) => before.includes(pid))).toEqual([]);
  if (load) {
    await load.goesOn(20);
    const { failures, connections } = await load.stop();
    expect(failures.filter(({ outcome }) => !SAFE_TO_REPEAT[protocol]?.includes(outcome))).toEqual([]);
    expect(connections.reset).toBe(0);
  }
  await expectAnswersOf(after, place, protocol);
}

for (const { file, protocol, args = [], execArgv = [] } of FRAMEWORKS) {
  describe(`${file} (${protocol})`, () => {
    const program = { script: app(file), args, execArgv };

    test('serves on a declared port, also after a reload', async () => {
      const master = await startMaster(program);
      const place = placeOf(master.group);
      for (const worker of master.workers)
        expect(await order(master, worker, 'address')).toMatchObject({ port: place.port });
      await expectService(master, place, protocol);
      await expectReload(master, place, protocol);
      await expectService(master, place, protocol);
      expect(master.groups).toHaveLength(1);
    });

    test('serves on the port of its own choice, also after a reload', async () => {
      const port = await freePort();
      const master = await startUndeclared({ ...program, env: { PORT: String(port) }, backlog: 99 });
      const group = master.groups.find(({ address }) => address.port === port)!;
      const { address, family } = group.address;
      for (const worker of master.workers)
        expect(await order(master, worker, 'address')).toMatchObject({
          address,
          family: `IPv${family}`,
          port,
        });
      expect(group.stats().sockets.map(({ limit }) => limit)).toEqual([99, 99]);
      await expectService(master, placeOf(group), protocol);
      await expectReload(master, placeOf(group), protocol);
      await expectService(master, placeOf(group), protocol);
    });

    test('closes its server when it wants to, and listens again', async () => {
      const master = await startMaster(program);
      const place = placeOf(master.group);
      const [first, second] = master.workers;
      expect(await order(master, first!, 'close')).toEqual({});
      await until('the master has heard of it', () => first!.state === 'closed');
      expect(await answering(place, protocol)).toEqual([second!.pid]);
      expect(await order(master, first!, 'listen')).toMatchObject({ port: place.port });
      await until('the master has heard of it', () => first!.state === 'running');
      await expectAnswersOf(pidsOf(master), place, protocol);
      expect(pidsOf(master)).toContain(first!.pid);
    });
  });
}

describe('websockets', () => {
  const sockets: { close(): unknown }[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.close();
  });

  test('of ws reach all workers, stay with theirs, and are told by 1012 that it restarts', async () => {
    const master = await startMaster({ script: app('ws.mjs') });
    const { host, port } = placeOf(master.group);
    const open = async () => {
      const socket = new WebSocket(`ws://${host}:${port}`);
      sockets.push(socket);
      await once(socket, 'open');
      const echo = async (body: unknown) => {
        socket.send(JSON.stringify(body));
        const [data] = await once(socket, 'message');
        return JSON.parse(String(data)) as { pid: number; body: unknown };
      };
      return { socket, echo };
    };
    const many = await Promise.all(Array.from({ length: ENOUGH }, open));
    const first = await Promise.all(many.map(({ echo }, number) => echo({ number })));
    expect(first.map(({ body }) => body)).toEqual(many.map((_, number) => ({ number })));
    expect([...new Set(first.map(({ pid }) => pid))].sort()).toEqual(pidsOf(master));
    const second = await Promise.all(many.map(({ echo }) => echo('again')));
    expect(second.map(({ pid }) => pid)).toEqual(first.map(({ pid }) => pid));

    const closed = Promise.all(many.map(({ socket }) => once(socket, 'close')));
    await master.reload();
    const codes = (await closed).map(([code]) => code);
    expect(new Set(codes)).toEqual(new Set([1012]));
    const { echo } = await open();
    expect(pidsOf(master)).toContain((await echo('back')).pid);
  });

  test('of socket.io reach all workers, and connect again after a reload', async () => {
    const master = await startMaster({ script: app('socket-io.mjs') });
    const { host, port } = placeOf(master.group);
    const open = () => {
      const socket = io(`http://${host}:${port}`, {
        transports: ['websocket'],
        forceNew: true,
        reconnectionDelay: 10,
        reconnectionDelayMax: 20,
      });
      sockets.push(socket);
      return socket;
    };
    const many = Array.from({ length: ENOUGH }, open);
    const echo = () =>
      Promise.all(
        many.map(
          (socket, number): Promise<{ pid: number; body: unknown }> =>
            socket.timeout(5000).emitWithAck('echo', { number }),
        ),
      );
    const before = await echo();
    expect(before.map(({ body }) => body)).toEqual(many.map((_, number) => ({ number })));
    const old = [...new Set(before.map(({ pid }) => pid))].sort();
    expect(old).toEqual(pidsOf(master));

    const reasons: string[] = [];
    for (const socket of many) socket.on('disconnect', (reason) => reasons.push(reason));
    await master.reload();
    await until('all have been told', () => reasons.length >= ENOUGH);
    await until('all are connected again', () => many.every(({ connected }) => connected));
    const after = [...new Set((await echo()).map(({ pid }) => pid))].sort();
    for (const pid of after) expect(pidsOf(master)).toContain(pid);
    expect(after.filter((pid) => old.includes(pid))).toEqual([]);
  });
});

describe('a program that listens', () => {
  const places = (...all: object[]) => ({
    script: app('places.mjs'),
    args: all.map((place) => JSON.stringify(place)),
  });
  const LISTENS: readonly { where: string; at: () => Promise<object[]>; hosts: string[] }[] = [
    {
      where: 'on several ports',
      at: async () => [{ port: await freePort() }, { port: await freePort(), host: '127.0.0.1' }],
      hosts: ['127.0.0.1', '127.0.0.1'],
    },
    {
      where: 'on port 0, twice',
      at: async () => [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1' },
      ],
      hosts: ['127.0.0.1', '127.0.0.1'],
    },
    {
      where: 'on a host name',
      at: async () => [{ port: await freePort(), host: 'localhost' }],
      hosts: ['localhost'],
    },
    { where: 'on IPv6', at: async () => [{ port: await freePort(), host: '::1' }], hosts: ['::1'] },
    {
      where: 'on IPv6 alone, and on IPv4 at the same port',
      at: async () => {
        const port = await freePort();
        return [
          { port, host: '::', ipv6Only: true },
          { port, host: '0.0.0.0' },
        ];
      },
      hosts: ['::1', '127.0.0.1'],
    },
  ];
  for (const { where, at, hosts } of LISTENS) {
    test(`${where} gets the same in every worker, also after a reload`, async () => {
      const asked = await at();
      const master = await startUndeclared(places(...asked));
      const seen = async () => {
        const all = await Promise.all(running(master).map((worker) => order(master, worker, 'address')));
        expect(all[1]).toEqual(all[0]);
        return all[0] as unknown as { port: number; address: string }[];
      };
      const addresses = await seen();
      for (const [index, { port }] of addresses.entries()) {
        const wanted = (asked[index] as { port: number }).port;
        if (wanted !== 0) expect(port).toBe(wanted);
        await expectAnswersOf(pidsOf(master), { host: hosts[index]!, port }, 'http');
      }
      // No two of its servers share a socket.
      expect(new Set(addresses.map(({ address, port }) => `${address} ${port}`)).size).toBe(asked.length);
      await master.reload();
      expect(await seen()).toEqual(addresses);
      for (const [index, { port }] of addresses.entries())
        await expectAnswersOf(pidsOf(master), { host: hosts[index]!, port }, 'http');
    });
  }

  test('on declared ports and on one more finds all of them', async () => {
    const [one, two, three] = [await freePort(), await freePort(), await freePort()];
    const master = await startUndeclared({
      ...places({ port: one }, { port: two }, { port: three }),
      listen: [`127.0.0.1:${one}`, { host: '127.0.0.1', port: two }],
    });
    for (const port of [one, two, three])
      await expectAnswersOf(pidsOf(master), { host: '127.0.0.1', port }, 'http');
    expect(master.groups.map(({ address }) => address.port)).toEqual([one, two, three]);
  });

  /** Undefined where nobody listens. */
  function connected(path: string): Promise<Socket | undefined> {
    return new Promise((resolve) => {
      const socket = connect(path);
      socket.once('connect', () => resolve(socket));
      socket.once('error', () => resolve(undefined));
    });
  }

  test('at a Unix path beside its port keeps both', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-path-'));
    try {
      const path = join(folder, 'one.sock');
      const port = await freePort();
      const master = await startUndeclared({ ...places({ port }, { path }), workers: 1 });
      const [worker] = master.workers;
      // It is ready with its port, and goes on to the next place.
      const socket = await until('it listens there', () => connected(path));
      socket.end('GET / HTTP/1.0\r\n\r\n');
      let text = '';
      for await (const chunk of socket.setEncoding('utf8')) text += chunk;
      expect(text).toContain(`"pid":${worker!.pid}`);
      expect((await tell({ host: '127.0.0.1', port }, 'http')).pid).toBe(worker!.pid);
      expect(master.groups).toHaveLength(1);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('late is waited for, and until then its clients wait in the queue', async () => {
    const port = await freePort();
    const master = serve({ script: app('late.mjs'), host: '127.0.0.1', port, workers: 2, stdio: 'ignore' });
    try {
      let ready = false;
      const readiness = master.ready.then(() => {
        ready = true;
      });
      const up: Worker[] = [];
      master.on('worker:message', (worker) => up.push(worker));
      await until('both programs are up', () => up.length === 2);
      // A connection is taken by the queue, whoever will serve it.
      const asked = tell({ host: '127.0.0.1', port }, 'http');
      const queued = () => master.group.stats().sockets.reduce((sum, { queue }) => sum + queue, 0);
      await until('the request waits in a queue', () => queued() === 1);
      expect(ready).toBe(false);
      expect(master.workers.map(({ state }) => state)).toEqual(['starting', 'starting']);
      for (const worker of up) worker.send({ order: 'listen' });
      await readiness;
      expect(pidsOf(master)).toContain((await asked).pid);
      await expectAnswersOf(pidsOf(master), { host: '127.0.0.1', port }, 'http');
    } finally {
      await master.close({ timeout: 1000 });
    }
  });
});

describe('beside its server a program', () => {
  test('may not have a UDP port in a worker, and is told so; a UDP socket without a port is its own', async () => {
    const master = await startMaster({ script: app('udp.mjs') });
    const { bound, sent } = await tell(placeOf(master.group), 'http');
    expect(bound).toMatchObject({ code: expect.stringMatching(/^E/), message: expect.stringMatching(/UDP/) });
    expect(sent).toBe(null);
  });

  test('may run other programs, which see nothing of the listeners', async () => {
    const master = await startMaster({ script: app('spawns.mjs'), workers: 1 });
    const listener = `socket:[${statSync(`/proc/self/fd/${master.group.fd(0)}`).ino}]`;
    const { looks } = await tell(placeOf(master.group), 'http');
    for (const [by, look] of Object.entries(looks as Record<string, string>)) {
      expect(look, by).not.toContain(listener);
      expect(look, by).not.toMatch(/memfd|eventpoll|^LISTEN_|^SPILLWAY_WORKER/m);
      // Its standard streams, and the folder that is being listed.
      expect(look.match(/^l.*-> /gm), by).toHaveLength(4);
    }
  });

  test('may limit its connections, and hears of those it drops', async () => {
    const master = await startMaster({ script: app('limited.mjs'), workers: 1 });
    const dropped: unknown[] = [];
    master.on('worker:message', (_worker, message) => dropped.push(message));
    const { host, port } = placeOf(master.group);
    const first = connect({ host, port });
    try {
      expect(String((await once(first, 'data'))[0])).toBe('in\n');
      const second = connect({ host, port }).resume();
      let data = 0;
      second.on('data', () => data++);
      await once(second, 'close');
      expect(data).toBe(0);
      await until('it has told', () => dropped.length === 1);
      expect(dropped).toEqual([{ order: 'drop', result: { localPort: port } }]);
    } finally {
      first.destroy();
    }
  });
});
