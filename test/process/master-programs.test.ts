/**
 * Programs that a master serves: Node programs that know nothing of it, and others that follow the systemd convention.
 * Holds for every selector; where it does not matter the best one that works is used.
 */
import { statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Master } from '../../lib/serve/master.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { ask, askMany, order, program, startMaster, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

/** So many requests leave no worker of two out by chance: 2⁻⁶⁰. */
const ENOUGH = 60;

const pidsOf = (master: Master) => master.workers.map(({ pid }) => pid).sort();
const sorted = (numbers: Iterable<number>) => [...new Set(numbers)].sort();

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    for (const file of ['esm-server.mjs', 'cjs-server.cjs']) {
      test(`${file} is served unmodified by all workers`, async () => {
        const master = await startMaster({ script: program(file), selector });
        expect(master.group.getOption('selector')).toBe(selector);
        const answers = await askMany(master, ENOUGH);
        expect(sorted(answers.map(({ pid }) => pid))).toEqual(pidsOf(master));
        for (const { pid, slot } of answers) expect(master.workers[Number(slot)]?.pid).toBe(pid);
      });
    }

    test('a program that is not Node takes the socket at descriptor 3', async () => {
      const master = await startMaster({ command: 'python3', args: [program('listen-fds.py')], selector });
      const answers = await askMany(master, ENOUGH);
      expect(sorted(answers.map(({ pid }) => pid))).toEqual(pidsOf(master));
      for (const answer of answers) {
        expect(answer.listenPid).toBe(String(answer.pid));
        expect(answer.names).toBe('spillway');
        expect(answer.port).toBe(String(master.group.address.port));
        // Its standard streams, the listener, and the descriptor that listed them.
        expect(answer.fds).toEqual([0, 1, 2, 3, 4]);
      }
    });
  });
}

describe('a call of listen()', () => {
  for (const host of ['127.0.0.1', undefined]) {
    test(`gets the inherited listener in every form, the group on ${host ?? 'all addresses'}`, async () => {
      const master = await startMaster({
        script: program('obedient.mjs'),
        workers: 1,
        host: host as string,
        backlog: 77,
      });
      const [worker] = master.workers as [Worker];
      const { address, port } = master.group.address;
      const { forms } = await order(master, worker, 'forms');
      expect(forms).toContain('(port)');
      for (const form of forms as string[]) {
        expect(await order(master, worker, 'close'), form).toEqual({});
        const seen = await order(master, worker, 'listen', { form, port });
        expect(seen, form).toMatchObject({ events: 1, chained: true, address: { address, port } });
        if (form.includes('callback')) expect(seen.callback, form).toEqual({ count: 1 });
        if (form.includes('{')) expect(seen.untouched, form).toBe(true);
        expect((await ask(master)).pid, form).toBe(worker.pid);
        // The slot's limit, and not the 511 of Node or the 3 that some forms ask for.
        expect(master.group.stats().sockets[0]?.limit, form).toBe(77);
      }
    });
  }

  test('on a server that listens already throws as ever', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1 });
    const [worker] = master.workers as [Worker];
    const { port } = master.group.address;
    expect(await order(master, worker, 'twice', { port })).toEqual({ error: 'ERR_SERVER_ALREADY_LISTEN' });
    expect((await ask(master)).pid).toBe(worker.pid);
  });

  test('by a second server on the same port is refused as ever', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1 });
    const [worker] = master.workers as [Worker];
    const { port } = master.group.address;
    expect(await order(master, worker, 'second', { port })).toEqual({ error: 'EADDRINUSE' });
    expect((await ask(master)).pid).toBe(worker.pid);
  });

  test('on another port is none of ours', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1 });
    const [worker] = master.workers as [Worker];
    expect(await order(master, worker, 'second', { port: 0 })).toEqual({ error: null });
    expect(worker.state).toBe('running');
  });

  test('by a name that has to be resolved is taken back by close() and by a signal, and fails as ever', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1 });
    const [worker] = master.workers as [Worker];
    const { port } = master.group.address;
    await order(master, worker, 'close');
    for (const by of ['close', 'abort']) {
      expect(await order(master, worker, 'resolve', { port, host: '127.1', by }), by).toEqual({
        events: ['close'],
      });
    }
    // A label may have 63 characters: no name server is asked.
    const unknown = await order(master, worker, 'resolve', { port, host: `${'x'.repeat(64)}.invalid` });
    expect(unknown).toEqual({ events: [expect.stringMatching(/^error ENOTFOUND|^error EAI_/)] });
    expect(worker.state).toBe('closed');
    expect(await order(master, worker, 'resolve', { port, host: '127.1' })).toEqual({
      events: ['callback', 'listening'],
    });
    await until('the master has heard of it', () => worker.state === 'running');
  });

  test('after close() works again, also on the same server, and the limit that was set meanwhile holds', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1 });
    const [worker] = master.workers as [Worker];
    const { port } = master.group.address;
    for (const backlog of [20, 30]) {
      await order(master, worker, 'close');
      await until('the master has heard of it', () => worker.state === 'closed');
      master.group.setOption('backlog', backlog);
      expect(await order(master, worker, 'again', { port })).toMatchObject({
        chained: true,
        address: { port },
      });
      await until('the master has heard of it', () => worker.state === 'running');
      expect((await ask(master)).pid).toBe(worker.pid);
      expect(master.group.stats().sockets[0]?.limit).toBe(backlog);
    }
  });
});

describe('a worker', () => {
  test('has PORT, its number, its arguments, and nothing that was meant for the preload', async () => {
    const master = await startMaster({
      script: program('obedient.mjs'),
      args: ['one', 'two words'],
      execArgv: ['--no-warnings'],
      env: { MINE: 'yes', HOME: undefined },
    });
    for (const worker of master.workers) {
      const seen = await order(master, worker, 'environment');
      const env = seen.env as Record<string, string>;
      expect(env).toMatchObject({
        PORT: String(master.group.address.port),
        NODE_APP_INSTANCE: String(worker.slot),
        SPILLWAY_SLOT: String(worker.slot),
        MINE: 'yes',
      });
      expect(
        Object.keys(env).filter((name) => /^LISTEN_|SPILLWAY_WORKER|NODE_CHANNEL|^HOME$/.test(name)),
      ).toEqual([]);
      expect(seen.argv).toEqual(['one', 'two words']);
      expect(seen.execArgv).toContain('--no-warnings');
    }
  });

  test("exchanges the program's own messages with the user of the master", async () => {
    const master = await startMaster({ script: program('obedient.mjs') });
    for (const worker of master.workers) {
      expect(await order(master, worker, 'echo', { text: `to ${worker.slot}` })).toEqual({
        text: `to ${worker.slot}`,
      });
    }
  });

  test('writes to a pipe that the user of the master reads', async () => {
    const master = await startMaster({ script: program('esm-server.mjs'), args: ['say'], stdio: 'pipe' });
    for (const { stdout } of master.workers) {
      let text = '';
      stdout?.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      await until('the worker has spoken', () => text === `listens on ${master.group.address.port}\n`);
    }
  });

  test('keeps its listener from the processes and threads it starts', async () => {
    const children: Record<'forked' | 'thread', Record<string, unknown>>[] = [];
    const starting = startMaster({ script: program('children.mjs'), workers: 1 });
    const master = await starting;
    master.on('worker:message', (_worker, message) => children.push(message as (typeof children)[number]));
    await until('the children have told', () => children.length === 1);
    const { forked, thread } = children[0]!;
    const listener = `socket:[${statSync(`/proc/self/fd/${master.group.fd(0)}`).ino}]`;
    expect(forked.descriptors).not.toContain(listener);
    // The preload was there in both, and did nothing: the port is taken for them.
    expect(forked.execArgv).toContain('--require');
    for (const child of [forked, thread]) {
      expect(child.listening).toBe('EADDRINUSE');
      expect(child.variables).toEqual([]);
    }
  });

  test('may be a cluster itself', async () => {
    const master = await startMaster({ script: program('cluster.mjs') });
    const primaries = new Map<number, unknown>();
    await until('both of both have answered', async () => {
      const { pid, primary } = await ask(master);
      return primaries.set(pid, primary).size === 4;
    });
    expect(sorted(primaries.values() as Iterable<number>)).toEqual(pidsOf(master));
  });
});
