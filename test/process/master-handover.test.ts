/**
 * What becomes of connections in the queue of a worker that dies or closes its server: siblings serve them, by the
 * kernel's migration with `ebpf`, through the master's hands below it.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Master } from '../../lib/serve/master.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { ask, askMany, order, program, startMaster, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

/** Connections of one test; that one of three slots gets none of them by chance: (2/3)^60 = 3·10⁻¹¹. */
const COUNT = 60;

/** The queue of a slot, also of one whose socket has left. */
function queueOf(master: Master, slot: number): number {
  return master.group.stats().sockets.find((socket) => socket.slot === slot)?.queue ?? 0;
}

/** Whoever has gone stays away, and whoever is stopped is not minded, nor helped. */
const PATIENT = { autoRestart: false, stuckAfter: 60_000, rescue: 0 };

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    const start = (script: string) =>
      // By the connection's hash alone a stopped worker gets its share.
      startMaster({ script: program(script), workers: 3, selector, policy: 'hash', ...PATIENT });

    test('the queue of a worker that is killed is served by its siblings, and nobody is lost', async () => {
      const master = await start('esm-server.mjs');
      const [victim] = master.workers as [Worker];
      await stop(victim.pid!);
      let served = 0;
      const asked = Promise.all(Array.from({ length: COUNT }, () => ask(master).finally(() => served++)));
      // Then nobody is on the way any more.
      await until('all but the queued have been served', () => served + queueOf(master, 0) === COUNT);
      const queued = queueOf(master, 0);
      expect(queued).toBeGreaterThan(0);
      const exits: unknown[] = [];
      master.on('worker:exit', (exit) => exits.push(exit));
      victim.kill('SIGKILL');
      const answers = await asked;
      expect(answers).toHaveLength(COUNT);
      expect(answers.filter(({ pid }) => pid === victim.pid)).toEqual([]);
      expect(exits).toEqual([
        {
          slot: 0,
          pid: victim.pid,
          code: null,
          signal: 'SIGKILL',
          expected: false,
          reason: 'was ended by SIGKILL',
        },
      ]);
      expect(victim.state).toBe('exited');
      expect(master.group.stats().migrated).toBe(queued);

      // Its slot is given nothing any more.
      const later = await askMany(master, COUNT);
      expect(new Set(later.map(({ slot }) => slot))).toEqual(new Set(['1', '2']));
      if (selector === 'none') expect(() => master.group.fd(0)).toThrow(/slot 0/);
      else expect(master.group.getOption('enabled', 0)).toBe(false);
    });

    test('a worker that has closed its server is passed by, what reaches it is served by its siblings', async () => {
      const master = await start('obedient.mjs');
      const [worker] = master.workers as [Worker];
      await order(master, worker, 'close');
      await until('the master has heard of it', () => worker.state === 'closed');
      const without = await askMany(master, COUNT);
      expect(without).toHaveLength(COUNT);
      expect(new Set(without.map(({ slot }) => slot))).toEqual(new Set(['1', '2']));

      const listening: Worker[] = [];
      master.on('worker:listening', (each) => listening.push(each));
      await order(master, worker, 'again', { port: master.group.address.port });
      await until('the master has heard of it', () => listening.length === 1);
      expect(listening).toEqual([worker]);
      const again = await askMany(master, COUNT);
      expect(new Set(again.map(({ slot }) => slot))).toEqual(new Set(['0', '1', '2']));
    });

    test('one worker after the other may die, the last one serves alone', async () => {
      const master = await start('esm-server.mjs');
      for (const worker of [...master.workers].slice(0, 2)) {
        worker.kill('SIGKILL');
        await until('the master has heard of it', () => worker.state === 'exited');
        const left = master.workers.map(({ pid }) => pid);
        const answers = await askMany(master, COUNT);
        expect(new Set(answers.map(({ pid }) => pid))).toEqual(new Set(left));
      }
    });

    test('while all are dead the queues wait for those who follow', async () => {
      const master = await startMaster({
        script: program('esm-server.mjs'),
        selector,
        stuckAfter: 60_000,
        minUptime: 0,
      });
      const dead = master.workers.map(({ pid }) => pid);
      for (const pid of dead) await stop(pid!);
      const asked = askMany(master, COUNT);
      await until('all are queued', () => queueOf(master, 0) + queueOf(master, 1) === COUNT);
      for (const pid of dead) process.kill(pid!, 'SIGKILL');
      const answers = await asked;
      expect(answers).toHaveLength(COUNT);
      expect(answers.filter(({ pid }) => dead.includes(pid))).toEqual([]);
    });

    test("the queue of a command's worker is served by its successor or its siblings", async () => {
      const { master, asked } = await commandWithQueue({ minUptime: 0 });
      expect(await asked).toHaveLength(COUNT);
      expect(master.group.slots).toEqual([0, 1]);
    });

    test("without a successor the clients in the queue of a command's worker know at once", async () => {
      const { master, victim, asked } = await commandWithQueue({ autoRestart: false });
      const results = await asked;
      if (selector === 'ebpf') expect(results).toHaveLength(COUNT);
      else {
        expect(results.length).toBeLessThan(COUNT);
        await until('the listener has left', () => queueOf(master, 0) === 0);
      }
      const later = await askMany(master, COUNT);
      expect(new Set(later.map(({ slot }) => slot))).toEqual(new Set(['1']));
      expect(victim.state).toBe('exited');
    });

    /** The first of two workers is killed with a queue. What the clients get that are answered at all. */
    async function commandWithQueue(options: object) {
      const master = await startMaster({
        command: 'python3',
        args: [program('listen-fds.py')],
        selector,
        policy: 'hash',
        stuckAfter: 60_000,
        ...options,
      });
      const [victim] = master.workers as [Worker];
      await stop(victim.pid!);
      let done = 0;
      const asked = Promise.allSettled(
        Array.from({ length: COUNT }, () => ask(master).finally(() => done++)),
      ).then((results) => results.filter(({ status }) => status === 'fulfilled'));
      await until('all but the queued have been served', () => done + queueOf(master, 0) === COUNT);
      expect(queueOf(master, 0)).toBeGreaterThan(0);
      victim.kill('SIGKILL');
      return { master, victim, asked };
    }

    test('a server that is closed and opened again and again loses nobody', async () => {
      const master = await start('obedient.mjs');
      const [worker] = master.workers as [Worker];
      const { port } = master.group.address;
      for (let round = 0; round < 10; round++) {
        const asked = askMany(master, COUNT);
        await order(master, worker, 'close');
        await order(master, worker, 'again', { port });
        expect(await asked).toHaveLength(COUNT);
      }
    });
  });
}

describe("connections in the master's hands", () => {
  /** Without a selector a slot whose server is closed goes on getting connections: the first; the second is stopped. */
  async function closeAndStop(workers: number, options: object = PATIENT) {
    const master = await startMaster({
      script: program('obedient.mjs'),
      workers,
      selector: 'none',
      ...options,
    });
    const [closed, stopped] = master.workers as [Worker, Worker];
    await order(master, closed, 'close');
    await until('the master has heard of it', () => closed.state === 'closed');
    await stop(stopped.pid!);
    return { master, closed, stopped };
  }

  test('go to the next worker when the one they were sent to is killed', async () => {
    const { master, stopped } = await closeAndStop(3);
    let served = 0;
    const asked = Promise.all(Array.from({ length: COUNT }, () => ask(master).finally(() => served++)));
    // The first of two that have equally few on their way gets one: the stopped one has some.
    await until('the third has served its own', () => served > 0);
    await until('the queue of the closed one has been taken', () => queueOf(master, 0) === 0);
    stopped.kill('SIGKILL');
    const last = master.workers[2]?.pid;
    expect(new Set((await asked).map(({ pid }) => pid))).toEqual(new Set([last]));
  });

  test('wait for those who follow when all are dead', async () => {
    const { master, closed, stopped } = await closeAndStop(2, { stuckAfter: 60_000, minUptime: 0 });
    const asked = askMany(master, COUNT);
    await until('the other one has a queue', () => queueOf(master, 1) > 0);
    await until('the master has taken the queue of the closed one', () => queueOf(master, 0) === 0);
    stopped.kill('SIGKILL');
    closed.kill('SIGKILL');
    expect(await asked).toHaveLength(COUNT);
  });

  test('are reset when nobody is left who could take it', async () => {
    const { master, closed, stopped } = await closeAndStop(2);
    const { address, port } = master.group.address;
    const codes: unknown[] = [];
    const clients = Array.from({ length: COUNT }, () =>
      connect(port, address).on('error', ({ code }: NodeJS.ErrnoException) => codes.push(code)),
    );
    await Promise.all(clients.map((client) => once(client, 'connect')));
    await until('the master has taken the queue of the closed one', () => queueOf(master, 0) === 0);
    const inHand = COUNT - queueOf(master, 1);
    expect(inHand).toBeGreaterThan(0);

    stopped.kill('SIGKILL');
    await until('the master has heard of it', () => stopped.state === 'exited');
    // The other one could still listen again.
    expect(codes).toEqual([]);
    const closing = expect(master.closed).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_WORKER' });
    closed.kill('SIGKILL');
    await until('their clients know', () => codes.length === COUNT);
    expect(codes).toEqual(Array(COUNT).fill('ECONNRESET'));
    await closing;
    for (const client of clients) client.destroy();
  });
});
