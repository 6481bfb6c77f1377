/**
 * A limit of connections, and the waiting list, with real workers: the limit holds whatever a worker does, those who wait
 * are served first come first served, and nobody is forgotten when workers end, are replaced, or stand still.
 */
import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { native } from '../../lib/native.js';
import type { Master } from '../../lib/serve/master.js';
import type { MasterOptions, Timing } from '../../lib/serve/options.js';
import { Placing } from '../../lib/serve/placing.js';
import { Slot } from '../../lib/serve/slot.js';
import type { Worker, WorkerProcess } from '../../lib/serve/worker-process.js';
import { Load } from '../support/load.js';
import { ownNetwork } from '../support/network.js';
import { Scene, sum } from '../support/scene.js';
import { gone, goOn, program, startMaster, status, stop } from '../support/serving.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = new Scene();
afterEach(() => scene.end());

const start = (options: Partial<MasterOptions>): Promise<Master> =>
  startMaster({ script: program('keeps.mjs'), selector: 'ebpf', backlog: 1000, rescue: 0, ...options });

interface Greeting {
  pid: number;
  open: number;
  at: string;
}

/** Clients that are connected, in this order; each remembers what it was greeted with. */
class Guests {
  fds: readonly number[];
  #greetings: (Greeting | undefined)[];
  #ended: boolean[];

  constructor(master: Master, count: number) {
    const { address, port, family } = master.group.address;
    const started = testing().connectMany({ address, port, family, count });
    this.fds = started.map(({ fd }) => scene.own(fd));
    this.#greetings = started.map(() => undefined);
    this.#ended = started.map(() => false);
  }

  look(): void {
    this.fds.forEach((fd, index) => {
      if (this.#ended[index]) return;
      const { text, ended, error } = testing().receive(fd);
      if (text !== '') this.#greetings[index] = JSON.parse(text);
      if (ended || error !== undefined) this.#ended[index] = true;
    });
  }

  /** By client; undefined for one that nobody has greeted yet. */
  get greetings(): (Greeting | undefined)[] {
    this.look();
    return this.#greetings;
  }

  get greeted(): number {
    return this.greetings.filter(Boolean).length;
  }

  get ended(): number {
    this.look();
    return this.#ended.filter(Boolean).length;
  }

  /** Is those others from now on. */
  follow(others: Guests): void {
    [this.fds, this.#greetings, this.#ended] = [others.fds, others.#greetings, others.#ended];
  }

  say(index: number, text: string): void {
    testing().send(this.fds[index]!, `${text}\n`);
  }

  leave(index: number): void {
    scene.close(this.fds[index]!);
    this.#ended[index] = true;
  }
}

const connections = (master: Master) => master.group.stats().sockets.map(({ connections }) => connections);
const waiting = (master: Master) => master.group.stats().waiting;

describe('a limit', () => {
  test('is kept while a worker stands still, and others are given what it cannot have', async () => {
    const master = await start({ workers: 2, maxConnections: 3, overflow: 'reset', policy: 'hash' });
    const first = new Guests(master, 2);
    await until('both are greeted', () => first.greeted === 2);
    first.say(0, 'spin 1500');
    const more = new Guests(master, 20);
    expect(connections(master)).toEqual([3, 3]);
    expect(more.fds.filter((_, index) => more.greetings[index]).length).toBeLessThanOrEqual(4);
    await until('everybody who was let in is greeted', () => first.greeted + more.greeted === 6);
    for (const { open } of more.greetings.filter((each) => each !== undefined))
      expect(open).toBeLessThanOrEqual(3);
  });

  test('is counted for each generation by itself: those of before a reload take nobody’s place', async () => {
    const master = await start({ workers: 1, maxConnections: 2, overflow: 'reset' });
    const early = new Guests(master, 2);
    await until('both are greeted', () => early.greeted === 2);
    const [before] = master.workers;
    expect(new Guests(master, 1).greeted).toBe(0);

    await master.reload();
    const late = new Guests(master, 3);
    await until('two more are greeted', () => late.greeted === 2);
    const rows = (await master.status()).workers;
    expect(rows.map(({ pid, connections }) => [pid === before!.pid, connections]).sort()).toEqual([
      [false, 2],
      [true, 2],
    ]);
    expect(early.ended).toBe(0);
    for (const index of [0, 1]) early.say(index, 'bye');
    await until('the old ones have ended', () => early.ended === 2);
    await gone(before!.pid!);
  });

  test('counts a queue for whom it is moved to, and no more for the worker that leaves', async () => {
    const master = await start({ workers: 2, maxConnections: 10, policy: 'least-connections' });
    const first = new Guests(master, 4);
    await until('all are greeted', () => first.greeted === 4);
    const [stays, leaves] = master.workers.map(({ pid }) => pid!);
    const held = first.greetings.findIndex((greeting) => greeting!.pid === leaves);
    first.say(held, 'spin 500');
    const more = new Guests(master, 4);
    await until('half of them are greeted', () => more.greeted === 2);
    // It hears of that before it comes to its queue, or takes one of these first.
    await master.scale(1);
    await until('the others are as well', () => more.greeted === 4);
    const servedBy = (pid: number) =>
      [...first.greetings, ...more.greetings].filter((greeting) => greeting!.pid === pid).length;
    expect(servedBy(stays!)).toBeGreaterThan(4);
    const rows = (await master.status()).workers;
    expect(new Map(rows.map(({ pid, connections }) => [pid, connections]))).toEqual(
      new Map([stays, leaves].map((pid) => [pid, servedBy(pid!)])),
    );
    for (const guests of [first, more]) for (let index = 0; index < 4; index++) guests.leave(index);
    await gone(leaves!);
    await until('nothing is counted any more', () => sum(connections(master).map(Number)) === 0);
  });

  test('counts what is rescued for whom has taken it', async () => {
    const master = await start({ workers: 2, maxConnections: 10, policy: 'least-connections', rescue: 500 });
    const first = new Guests(master, 2);
    await until('both are greeted', () => first.greeted === 2);
    const [helps, stuck] = master.workers.map(({ pid }) => pid!);
    await stop(stuck!);
    const more = new Guests(master, 6);
    await until('all are greeted', () => more.greeted === 6);
    expect(new Set(more.greetings.map((greeting) => greeting!.pid))).toEqual(new Set([helps]));
    // Seen once in nine runs: one of them stays counted for whom it came to (docs/limits.md).
    const [taken, left] = connections(master).map(Number);
    expect(taken! + left!).toBe(8);
    expect(left).toBeLessThanOrEqual(2);
    await goOn(stuck!);
  });

  test('loses what a worker had when that is killed, and nothing else', async () => {
    const master = await start({ workers: 2, maxConnections: 2, overflow: 'reset' });
    const guests = new Guests(master, 4);
    await until('all are greeted', () => guests.greeted === 4);
    expect(connections(master)).toEqual([2, 2]);
    const [victim] = master.workers;
    victim!.kill('SIGKILL');
    await until('its connections are gone', () => guests.ended === 2);
    await until(
      'another one is there',
      () => master.workers.filter(({ state }) => state === 'running').length === 2,
    );
    expect(sum(connections(master).map(Number))).toBe(2);
    const more = new Guests(master, 3);
    await until('two more are greeted', () => more.greeted === 2);
    expect(connections(master)).toEqual([2, 2]);
  });
});

describe('the waiting list', () => {
  test('of a thousand is served in order by workers that have one place each', async () => {
    const WORKERS = 4;
    const CLIENTS = 1000;
    const master = await start({
      workers: WORKERS,
      maxConnections: 1,
      overflow: 'wait',
      waitLimit: CLIENTS,
      env: { KEEP_MS: '2' },
    });
    const guests = new Guests(master, CLIENTS);
    await until('all are greeted', () => guests.greeted === CLIENTS, 25_000);

    const greetings = guests.greetings.map((greeting) => greeting!);
    expect(new Set(greetings.map(({ open }) => open))).toEqual(new Set([1]));
    expect(new Set(greetings.map(({ pid }) => pid)).size).toBe(WORKERS);
    // Nobody overtakes more than those that are taken at the same time; one of these may be late by any number.
    const order = greetings
      .map(({ at }, index) => ({ at: BigInt(at), index }))
      .sort((one, other) => (one.at < other.at ? -1 : 1))
      .map(({ index }) => index);
    const ahead = order.map((index, place) => index - place);
    expect(Math.max(...ahead)).toBeLessThanOrEqual(WORKERS);
    await until('nothing is counted any more', () => sum(connections(master).map(Number)) === 0);
  });

  test('goes on when a worker that could take from it is killed', async () => {
    const master = await start({ workers: 2, maxConnections: 1, overflow: 'wait', env: { KEEP_MS: '20' } });
    const guests = new Guests(master, 60);
    await until('some are greeted', () => guests.greeted >= 10);
    master.workers[0]!.kill('SIGKILL');
    await until('all others are greeted', () => guests.greeted + 1 >= 60);
    expect(guests.greeted).toBeGreaterThanOrEqual(59);
  });

  test('is served by new workers after a reload', async () => {
    const master = await start({ workers: 1, maxConnections: 1, overflow: 'wait' });
    const guests = new Guests(master, 4);
    await until('one is greeted', () => guests.greeted === 1);
    expect(waiting(master)).toMatchObject({ length: 3 });
    await master.reload();
    await until('the next one is greeted', () => guests.greeted === 2);
    expect(waiting(master)).toMatchObject({ length: 2 });
    for (let index = 0; index < 4; index++) {
      await until(`guest ${index} is greeted`, () => guests.greetings[index]);
      guests.say(index, 'bye');
    }
    await until('all have been served', () => guests.ended === 4);
  });

  test('lets those go who have waited for too long', async () => {
    const master = await start({ workers: 1, maxConnections: 1, overflow: 'wait', waitTimeout: 300 });
    const guests = new Guests(master, 4);
    await until('one is greeted', () => guests.greeted === 1);
    const begun = performance.now();
    await until('the others are reset', () => guests.ended === 3);
    expect(performance.now() - begun).toBeGreaterThan(200);
    expect(guests.greeted).toBe(1);
    expect(waiting(master)).toMatchObject({ length: 0 });
    expect(connections(master)).toEqual([1]);
  });

  test('does not take a newcomer for whoever waited before him', async () => {
    const master = await start({ workers: 1, maxConnections: 1, overflow: 'wait', waitTimeout: 400 });
    const first = new Guests(master, 1);
    await until('one is greeted', () => first.greeted === 1);
    // The kernel gives what the one before had to the next.
    for (let round = 0; round < 4; round++) {
      const second = new Guests(master, 1);
      await until('he waits', () => waiting(master)?.length === 1);
      expect(waiting(master)!.age).toBeLessThan(200);
      await until('he has waited for a while', () => waiting(master)!.age > 150);
      first.say(0, 'bye');
      await until('he is greeted', () => second.greeted === 1);
      second.say(0, 'bye');
      await until('he has gone', () => second.ended === 1);
      const next = new Guests(master, 1);
      await until('the next one is greeted', () => next.greeted === 1);
      first.leave(0);
      first.follow(next);
    }
  });

  test('is served before the service ends', async () => {
    const master = await start({ workers: 2, maxConnections: 1, overflow: 'wait', env: { KEEP_MS: '50' } });
    const guests = new Guests(master, 12);
    await until('some are greeted', () => guests.greeted >= 2);
    expect(waiting(master)!.length).toBeGreaterThan(2);
    await master.close();
    await until('all have ended', () => guests.ended === 12);
    expect(guests.greeted).toBe(12);
  });

  test('ends for a worker whose program closes its server when it gets a connection', async () => {
    const master = await start({
      script: program('closes.mjs'),
      workers: 1,
      maxConnections: 1,
      overflow: 'wait',
      restartDelay: 10,
      maxRestartDelay: 10,
      maxRestarts: 100,
    });
    const ends: (string | null)[] = [];
    master.on('worker:exit', ({ signal }) => ends.push(signal));
    const guests = new Guests(master, 6);
    // Each of its processes serves one, and ends.
    await until('all are greeted', () => guests.greeted === 6, 20_000);
    expect(new Set(ends)).toEqual(new Set([null]));
  });

  test('is told of by status', async () => {
    const master = await start({ workers: 1, maxConnections: 1, overflow: 'wait' });
    const guests = new Guests(master, 3);
    await until('one is greeted', () => guests.greeted === 1);
    const { ports, workers } = await master.status();
    expect(ports[0]).toMatchObject({ waited: 2, waiting: { length: 2 } });
    expect(workers[0]).toMatchObject({ connections: 1 });
  });

  test('is not for a command, which could not take from it', async () => {
    await expect(
      startMaster({ command: 'true', port: 0, host: '127.0.0.1', overflow: 'wait' }),
    ).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_RANGE' });
  });
});

describe('as many workers as are wanted', () => {
  test('are started when somebody waits, and retired when fewer do', async () => {
    const master = await start({
      workers: { min: 1, max: 4 },
      maxConnections: 2,
      overflow: 'wait',
      idleTimeout: 1000,
    });
    const told: { from: number; to: number; why: string }[] = [];
    master.on('demand', (demand) => told.push(demand));
    const guests = new Guests(master, 8);
    await until('all are greeted', () => guests.greeted === 8, 15_000);
    expect(told[0]).toMatchObject({ from: 1, to: 4, why: expect.stringMatching(/wait|nobody had room/) });
    expect(connections(master)).toEqual([2, 2, 2, 2]);
    // The kernel has told of it, and not the look that is taken every second.
    expect(new Set(guests.greetings.map((greeting) => greeting!.pid)).size).toBe(4);

    for (let index = 0; index < 8; index++) guests.leave(index);
    await until('there is one again', () => master.workers.length === 1, 15_000);
    expect(told.slice(1).map(({ to }) => to)).toEqual([3, 2, 1]);
    expect(told.at(-1)!.why).toContain('1 would have been enough');
  });

  test('follow a load that rises and falls: nobody waits for long, and nobody is refused', async () => {
    const master = await start({
      script: program('unhurried.mjs'),
      workers: { min: 1, max: 6 },
      maxConnections: 4,
      overflow: 'wait',
      idleTimeout: 1000,
    });
    const steps: number[] = [];
    master.on('demand', ({ to }) => steps.push(to));
    const { port } = master.group.address;
    // Each takes 50 ms: these are 1, 6 and again 1 connections at a time, and a worker has 4.
    const low = await Load.start({ port, mode: 'per-request', rate: 20 });
    await low.goesOn(20);
    expect(steps).toEqual([]);
    const high = await Load.start({ port, mode: 'per-request', rate: 120 });
    let oldest = 0;
    await until('there are enough', () => {
      oldest = Math.max(oldest, waiting(master)?.age ?? 0);
      return steps.length > 0 && master.workers.filter(({ state }) => state === 'running').length >= 2;
    });
    await high.goesOn(200);
    expect((await high.stop()).failures).toEqual([]);
    expect(Math.max(...steps)).toBeLessThanOrEqual(6);
    // A worker needs less than that to start, also on a machine that is busy.
    expect(oldest).toBeLessThan(3000);

    await until('one is enough again', () => master.workers.length === 1, 20_000);
    await low.goesOn(10);
    expect((await low.stop()).failures).toEqual([]);
    // Up, then down, and not to and fro.
    const top = steps.indexOf(Math.max(...steps));
    expect(steps.slice(0, top)).toEqual([...steps.slice(0, top)].sort());
    expect(steps.slice(top)).toEqual([...steps.slice(top)].sort().reverse());
  });

  test('cannot be set by hand', async () => {
    const master = await start({ workers: { min: 1, max: 2 } });
    await expect(master.scale(2)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_FIXED' });
  });
});

/** A slot with one worker. */
class Placed extends Slot {
  readonly #worker: Worker;

  constructor(number: number, worker: Worker) {
    super(
      number,
      () => Promise.reject(new Error('nobody follows')),
      () => ({ timing: {} as Timing, autoRestart: false }),
    );
    this.#worker = worker;
  }

  override get workers() {
    return [this.#worker as WorkerProcess];
  }
}

describe('placement', () => {
  const allowedOf = (pid: number) => status(pid, 'Cpus_allowed_list');

  test('gives each worker its processors, all of its threads', async () => {
    const master = await start({ workers: 3, placement: ['1', '0', '0-1'] });
    expect(master.workers.map(({ pid }) => allowedOf(pid!))).toEqual(['1', '0', '0-1']);
    for (const { pid } of master.workers) {
      for (const thread of readdirSync(`/proc/${pid}/task`))
        expect(status(Number(thread), 'Cpus_allowed_list')).toBe(allowedOf(pid!));
    }
  });

  test('that this machine does not have is refused before anything is started', async () => {
    await expect(start({ placement: ['4095'] })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: expect.stringContaining('this machine has processors'),
    });
  });

  test('moves workers whose processor is taken offline, and back when it is there again', async () => {
    const master = await start({ workers: 2 });
    const [first, second] = master.workers.map(({ pid }) => pid!);
    let cpus = [0, 1];
    const moves: string[] = [];
    const placing = new Placing({
      placement: ['0', '1'],
      slots: { all: [0, 1].map((slot) => new Placed(slot, master.workers[slot]!)) },
      ports: [{ group: master.group }],
      moved: (now) => moves.push(now.join()),
      report: (error) => {
        throw error;
      },
      read: () => ({ cpus, nodes: new Map(), siblings: new Map() }),
    });
    try {
      cpus = [0];
      await until('both are on the one that is left', () =>
        [first, second].every((pid) => allowedOf(pid!) === '0'),
      );
      cpus = [0, 1];
      await until('each is on its own', () => allowedOf(first!) === '0' && allowedOf(second!) === '1');
      expect(moves).toEqual(['0', '0,1']);
    } finally {
      placing.close();
    }
  });

  test('moves a running process with all of its threads', async () => {
    const master = await start({ workers: 1 });
    const { pid } = master.workers[0]!;
    native().setAffinity(pid!, Int32Array.of(1));
    for (const thread of readdirSync(`/proc/${pid}/task`))
      expect(status(Number(thread), 'Cpus_allowed_list')).toBe('1');
  });
});
