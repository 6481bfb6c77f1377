/**
 * What waits at a worker that does not come is taken by those that are free: none is lost, reset or served twice, whatever
 * the worker is stuck in, and whatever happens to it, to the others or to their master meanwhile.
 */
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SELECTORS } from '../../lib/group/options.js';
import type { Rescues } from '../../lib/group/tier.js';
import { native, packageRoot } from '../../lib/native.js';
import type { Master } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import { Rescue } from '../../lib/serve/rescue.js';
import type { Worker, WorkerProcess } from '../../lib/serve/worker-process.js';
import { Notes } from '../support/apps/counted.js';
import type { Clients } from '../support/clients.js';
import { Load } from '../support/load.js';
import { listeningPorts, ownNetwork } from '../support/network.js';
import { openDescriptors, queues, Scene, sum } from '../support/scene.js';
import { askAt, children, gone, goOn, program, startMaster, status, stop } from '../support/serving.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();

/** Milliseconds for the slowest of those that have to be rescued, beyond what the same takes where nobody is stuck. */
const PROMPT = 300;
/** The same for the median of them, which a busy machine does not move as far. */
const PROMPT_MEDIAN = 30;
/** Milliseconds after which an order to help is not followed any more (native/help_channel.cc). */
const TOO_LATE = 20;
/** Milliseconds that a worker blocks itself for. */
const BLOCKED = 2000;

/**
 * By the connection's hash a stuck worker goes on getting its share. Whoever has gone stays away, and no other means than
 * the rescue is taken against whoever is stuck.
 */
const LED_TO_THE_STUCK: Partial<MasterOptions> = {
  script: program('blocks.mjs'),
  policy: 'hash',
  autoRestart: false,
  stuckAfter: 60_000,
};

const masters = new Set<Master>();
const scene = new Scene();
const processes = new Set<ChildProcess>();
const cleanUps: (() => void)[] = [];

afterEach(async () => {
  // Also those that are stopped.
  await Promise.all([...masters].map((master) => master.close({ timeout: 0 })));
  masters.clear();
  scene.end();
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
  for (const child of processes) child.kill('SIGKILL');
  await Promise.all([...processes].map(({ pid }) => gone(pid!)));
  processes.clear();
});

beforeEach(({ onTestFinished }) => {
  const before = { descriptors: openDescriptors().size, children: children() };
  onTestFinished(async () => {
    await until('no descriptor is left over', () => openDescriptors().size <= before.descriptors);
    await until('no process is left over', () =>
      children().every((child) => before.children.includes(child)),
    );
  });
});

/** A master in this process, whose workers note what they serve. */
async function start(options: Partial<MasterOptions>): Promise<{ master: Master; notes: Notes }> {
  const notes = new Notes();
  const env = notes.program.env;
  const master = await startMaster({ ...LED_TO_THE_STUCK, workers: 3, env, ...options });
  masters.add(master);
  return { master, notes };
}

/** A master in a process of its own. */
async function startSeparate(options: Partial<MasterOptions>) {
  const notes = new Notes();
  const given = { ...LED_TO_THE_STUCK, workers: 3, host: '127.0.0.1', port: 0, stdio: 'ignore' };
  const json = JSON.stringify({ ...given, env: notes.program.env, ...options });
  const entry = join(packageRoot, 'dist/lib/index.js');
  const master = fork(program('separate-master.mjs'), [entry, json], { execArgv: [] });
  processes.add(master);
  const failed = once(master, 'exit').then(([code, signal]) => {
    throw new Error(`the master has ended with ${code ?? signal}`);
  });
  const [{ port, pids }] = (await Promise.race([once(master, 'message'), failed])) as [
    { port: number; pids: number[] },
  ];
  failed.catch(() => {});
  return { master, notes, port, pids };
}

const pidsOf = (master: Master): number[] => master.workers.map(({ pid }) => pid!);

/** Orders to help that have reached somebody, since the start. */
const rescuesOf = async (master: Master): Promise<number> => (await master.status()).ports[0]!.rescues;

const continueAll = (pids: readonly number[]) => {
  for (const pid of pids) process.kill(pid, 'SIGCONT');
};

const ask = (port: number, id: string) => askAt({ host: '127.0.0.1', port, headers: { 'x-request': id } });

/** Processor time that a process has used outside the kernel, in hundredths of a second (proc(5), /proc/PID/stat). */
function computed(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ');
  return Number(fields.split(' ')[11]);
}

let waves = 0;

/** Requests that are all sent at once, each on a connection of its own, and what has become of them so far. */
class Wave {
  readonly ids: readonly string[];
  readonly answers: { id: string; pid: number; took: number }[] = [];
  readonly failures: string[] = [];

  constructor(port: number, count: number) {
    const name = `wave${++waves}`;
    this.ids = Array.from({ length: count }, (_, index) => `${name}-${index}`);
    for (const id of this.ids) {
      const begun = performance.now();
      ask(port, id).then(
        ({ pid }) => this.answers.push({ id, pid, took: performance.now() - begun }),
        (error: NodeJS.ErrnoException) => this.failures.push(`${id}: ${error.code ?? error.message}`),
      );
    }
  }

  get isOver(): boolean {
    return this.answers.length + this.failures.length === this.ids.length;
  }

  /** Everything has been answered, by these alone. */
  async answeredBy(pids: readonly number[]): Promise<void> {
    await until(`all ${this.ids.length} requests of a wave have come to an end`, () => this.isOver);
    expect(this.failures).toEqual([]);
    expect(this.answers.filter(({ pid }) => !pids.includes(pid))).toEqual([]);
  }

  get slowest(): number {
    return Math.max(...this.answers.map(({ took }) => took));
  }
}

/**
 * Every request was begun and answered once, by the one whose answer has come, and no worker has accepted a connection for
 * anything else.
 */
async function expectServedOnce(notes: Notes, served: readonly { id: string; pid: number }[]): Promise<void> {
  const ids = served.map(({ id }) => id).sort();
  await until('the last answer is noted', () => notes.of('answered').length >= ids.length);
  expect(notes.of('began').sort()).toEqual(ids);
  expect(notes.of('answered').sort()).toEqual(ids);
  expect(notes.of('accepted')).toHaveLength(ids.length);
  for (const pid of new Set(served.map((each) => each.pid))) {
    const own = served.filter((each) => each.pid === pid).map(({ id }) => id);
    expect(notes.of('answered', pid).sort()).toEqual(own.sort());
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** The load has had an answer to each of its requests: from the victim of rescues as well, and some by a rescue. */
async function expectAllServed(load: Load, master: Master, notes: Notes, victim: Worker): Promise<void> {
  await load.goesOn(20);
  const { records, failures, byPid } = await load.stop();
  expect(failures).toEqual([]);
  expect(await rescuesOf(master)).toBeGreaterThan(0);
  expect(byPid.get(victim.pid!)).toBeGreaterThan(0);
  await expectServedOnce(
    notes,
    records.map(({ id, pid }) => ({ id, pid: pid! })),
  );
}

function descriptorsOf(pid: number | 'self'): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Numbers from 0 to `below`, the same in every run. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Blocks workers, each in its own way; which of them have come free again. */
async function block(master: Master, ways: ReadonlyMap<Worker, string>, time: number): Promise<Set<Worker>> {
  const blocked = new Set<Worker>();
  const free = new Set<Worker>();
  master.on('worker:message', (worker, message) => {
    ('blocks' in (message as object) ? blocked : free).add(worker);
  });
  for (const [worker, way] of ways) worker.send({ block: way, time });
  await until('they block', () => blocked.size === ways.size);
  return free;
}

/** Nanoseconds. */
const SLICE_BEHIND = 100_000_000;

// Kernels before 6.12 have no slices.
describe.skipIf(testing().sliceOf(process.pid) === 0)('a worker that computes on and on', () => {
  /** Two workers, of whom one is asked to block in that way, while connections go on coming. */
  async function computing(way: string, options: Partial<MasterOptions> = {}) {
    const { master } = await start({ selector: 'ebpf', workers: 2, ...options });
    const load = await Load.start({ port: master.group.address.port, mode: 'per-request', rate: 100 });
    await load.goesOn(20);
    const [one, other] = master.workers as [Worker, Worker];
    const slices = () => [one, other].map(({ pid }) => testing().sliceOf(pid!));
    const before = slices();
    expect(before[0]).toBeLessThan(SLICE_BEHIND);
    const free = await block(master, new Map([[one, way]]), BLOCKED);
    return { master, load, one, other, before, slices, free };
  }

  test('stands back for as long as it does, and others do not', async () => {
    const { load, one, other, before, slices, free } = await computing('spin');
    await until('it stands back', () => testing().sliceOf(one.pid!) === SLICE_BEHIND);
    const others: number[] = [];
    await until('it is free again', () => {
      others.push(testing().sliceOf(other.pid!));
      return free.has(one);
    });
    // It computes now and then as well, on a machine that has other things to do.
    const behind = others.filter((slice) => slice !== before[1]).length;
    expect(behind).toBeLessThan(others.length / 4);
    await until('it is as before', () => slices()[0] === before[0]);
    expect((await load.stop()).failures).toEqual([]);
  });

  const ENDS: [string, (master: Master) => unknown][] = [
    ['rescues are switched off', (master) => master.group.setOption('rescue', 0)],
    ['the selector is another one', (master) => master.group.setOption('selector', 'none')],
  ];
  test.each(ENDS)('is as before once %s', async (_, end) => {
    const { master, load, one, before, free } = await computing('spin');
    await until('it stands back', () => testing().sliceOf(one.pid!) === SLICE_BEHIND);
    end(master);
    await until('it is as before', () => testing().sliceOf(one.pid!) === before[0]);
    expect(free.has(one)).toBe(false);
    expect((await load.stop()).failures).toEqual([]);
  });

  test('does so while it computes, and no longer once it sleeps', async () => {
    const { load, one, before, free } = await computing('execSync');
    // To make the child is computing.
    await until('it waits for the child', () => status(one.pid!, 'State')?.startsWith('S'));
    await until('it is as before', () => testing().sliceOf(one.pid!) === before[0]);
    expect(free.has(one)).toBe(false);
    expect((await load.stop()).failures).toEqual([]);
  });

  test.each([
    ['one that waits for a lock', 'Atomics.wait', {}],
    ['nobody without rescues', 'spin', { rescue: 0 }],
  ])('%s does not stand back', async (_, way, options) => {
    const { load, one, before, free } = await computing(way, options);
    const seen = new Set<number>();
    await until('it is free again', () => {
      seen.add(testing().sliceOf(one.pid!));
      return free.has(one);
    });
    expect(seen).toEqual(new Set([before[0]]));
    expect((await load.stop()).failures).toEqual([]);
  });
});

describe.each(SELECTORS)('with the selector %s', (selector) => {
  test('what waits at workers that are stuck, in whatever way, is taken at once by those that are free', async () => {
    const { master, notes } = await start({ selector, workers: 6 });
    const { port } = master.group.address;
    const [spinning, inExec, inWait, stopped, ...free] = master.workers as [Worker, Worker, Worker, Worker];
    const warm = new Wave(port, 40);
    await warm.answeredBy(pidsOf(master));
    await until('its connections are closed', () => master.group.stats().sockets.every((s) => s.queue === 0));
    const before = await steadyDescriptors(['self', ...pidsOf(master)]);

    const ways = new Map([
      [spinning, 'spin'],
      [inExec, 'execSync'],
      [inWait, 'Atomics.wait'],
    ]);
    await stop(stopped.pid!);
    const freed = await block(master, ways, BLOCKED);
    const rescued: Wave[] = [];
    for (let count = 0; count < 4; count++) {
      const wave = new Wave(port, 10);
      await wave.answeredBy(free.map(({ pid }) => pid!));
      rescued.push(wave);
    }
    expect([...freed]).toEqual([]);
    expect(Math.max(...rescued.map(({ slowest }) => slowest))).toBeLessThan(PROMPT + warm.slowest);

    await until('the others are free again', () => freed.size === ways.size);
    stopped.kill('SIGCONT');
    const later: Wave[] = [];
    await until('all serve again', async () => {
      const wave = new Wave(port, 20);
      await wave.answeredBy(pidsOf(master));
      later.push(wave);
      const seen = new Set(later.flatMap(({ answers }) => answers).map(({ pid }) => pid));
      return seen.size === master.workers.length;
    });
    await expectServedOnce(
      notes,
      [warm, ...rescued, ...later].flatMap(({ answers }) => answers),
    );
    for (const [pid, count] of before)
      await until(`${pid} has ${count} descriptors as before`, () => descriptorsOf(pid) === count);
  });

  test('one that is rescued waits hardly longer than one whose worker is free', async () => {
    const ENOUGH = 20;
    const { master } = await start({ selector });
    const [free, ...stuck] = pidsOf(master) as [number, ...number[]];
    for (const pid of stuck) await stop(pid);
    const rescued: number[] = [];
    const others: number[] = [];
    // One after another, so that it is known of each: by the hash two of three go to those that are stuck.
    await until('there are enough of both', async () => {
      const before = await rescuesOf(master);
      const wave = new Wave(master.group.address.port, 1);
      await wave.answeredBy([free]);
      ((await rescuesOf(master)) > before ? rescued : others).push(wave.slowest);
      return rescued.length >= ENOUGH && others.length >= ENOUGH;
    });
    expect(median(rescued)).toBeLessThan(PROMPT_MEDIAN + median(others));
    expect(Math.max(...rescued)).toBeLessThan(PROMPT + Math.max(...others));
  });

  test('a worker that is stopped and goes on 50 times loses nothing, and nothing is served twice', async () => {
    const { master, notes } = await start({ selector });
    const random = chance(50);
    const load = await Load.start({ port: master.group.address.port, mode: 'per-request', rate: 400 });
    const [victim] = master.workers as [Worker];
    for (let round = 0; round < 50; round++) {
      await stop(victim.pid!);
      await delay(random(12));
      await goOn(victim.pid!);
      await delay(random(6));
    }
    await expectAllServed(load, master, notes, victim);
  });

  test('while all are stuck everything waits, and the first that is free takes what waits at the others', async () => {
    const { master, notes } = await start({ selector });
    const [first, ...others] = pidsOf(master) as [number, ...number[]];
    for (const pid of pidsOf(master)) await stop(pid);
    const wave = new Wave(master.group.address.port, 40);
    await until('all are queued', () => sum(queues(master.group)) === 40);
    // By the hash each has its share.
    expect(Math.min(...queues(master.group))).toBeGreaterThan(0);
    await expectNoRescue(master);
    process.kill(first, 'SIGCONT');
    await wave.answeredBy([first]);
    expect(await rescuesOf(master)).toBeGreaterThan(0);
    continueAll(others);
    await expectServedOnce(notes, wave.answers);
  });

  test('while all compute nobody is asked to help', async () => {
    const { master, notes } = await start({ selector });
    const before = pidsOf(master).map(computed);
    const ways = new Map(master.workers.map((worker) => [worker, 'spin']));
    const freed = await block(master, ways, 2 * BLOCKED);
    // What they do before they compute takes less.
    const ENOUGH = 5;
    await until('all compute', () =>
      pidsOf(master).every((pid, index) => computed(pid) >= before[index]! + ENOUGH),
    );
    const wave = new Wave(master.group.address.port, 40);
    await until('all are queued', () => sum(queues(master.group)) === 40);
    await expectNoRescue(master);
    expect([...freed]).toEqual([]);
    await wave.answeredBy(pidsOf(master));
    await expectServedOnce(notes, wave.answers);
  });

  test('the full queue of a stopped worker that is killed goes to its siblings', async () => {
    const { master, notes } = await start({ selector });
    const { group } = master;
    const { port } = group.address;
    const LIMIT = 7;
    group.setOption('backlog', LIMIT, 0);
    const [victim, ...siblings] = master.workers as [Worker, ...Worker[]];
    for (const pid of pidsOf(master)) await stop(pid);
    const sent: Wave[] = [];
    await until('its queue is full', async () => {
      if (group.queue(0) === LIMIT + 1) return true;
      const queued = sum(queues(group));
      sent.push(new Wave(port, 1));
      await until('one more is queued', () => sum(queues(group)) > queued);
      return false;
    });
    victim.kill('SIGKILL');
    await until('the master has heard of it', () => victim.state === 'exited');
    const left = siblings.map(({ pid }) => pid!);
    continueAll(left);
    for (const wave of sent) await wave.answeredBy(left);
    await expectServedOnce(
      notes,
      sent.flatMap(({ answers }) => answers),
    );
  });

  test('what is queued at a stuck worker that is scaled away is served by those that stay', async () => {
    const { master, notes } = await start({ selector });
    const [first, second, last] = pidsOf(master) as [number, number, number];
    for (const pid of [first, second, last]) await stop(pid);
    const wave = new Wave(master.group.address.port, 40);
    await until('all are queued', () => sum(queues(master.group)) === 40);
    expect(master.group.queue(2)).toBeGreaterThan(0);
    const scaled = master.scale(2);
    continueAll([first, second]);
    await wave.answeredBy([first, second]);
    process.kill(last, 'SIGCONT');
    await scaled;
    await gone(last);
    await expectServedOnce(notes, wave.answers);
  });

  test('what is queued at stuck workers that are replaced is served by their successors', async () => {
    const { master, notes } = await start({ selector });
    const old = pidsOf(master);
    for (const pid of old) await stop(pid);
    const wave = new Wave(master.group.address.port, 40);
    await until('all are queued', () => sum(queues(master.group)) === 40);
    await master.reload({ together: true });
    const successors = pidsOf(master).filter((pid) => !old.includes(pid));
    expect(successors).toHaveLength(old.length);
    await wave.answeredBy(successors);
    // Those that were stuck learn only now that they have been replaced, and find nothing to do.
    continueAll(old);
    for (const pid of old) await gone(pid);
    await expectServedOnce(notes, wave.answers);
  });

  test('10,000 connections that wait at stopped workers are all served by the first that is free', async () => {
    const COUNT = 10_000;
    /** Milliseconds, where one worker needs a second or two for so many. */
    const BOUND = 20_000;
    const { master, notes } = await start({ selector, workers: 4, backlog: 4096 });
    const [first, ...others] = pidsOf(master) as [number, ...number[]];
    for (const pid of pidsOf(master)) await stop(pid);
    const clients = scene.connect(master.group, COUNT);
    expect(clients.established).toBe(COUNT);
    clients.say((id) => `GET / HTTP/1.1\r\nHost: here\r\nX-Request: many-${id}\r\n\r\n`);
    expect(sum(queues(master.group))).toBe(COUNT);

    process.kill(first, 'SIGCONT');
    const heard = new Array<string>(COUNT).fill('');
    const open = new Set(heard.keys());
    await until(
      'all are answered',
      async () => {
        for (const id of open) {
          const { text, ended, error } = testing().receive(clients.fds[id]!);
          heard[id] += text;
          if (ended || error !== undefined) open.delete(id);
        }
        // The worker shall have the processor.
        await delay(50);
        return open.size === 0;
      },
      BOUND,
    );
    const served = heard.map((text, id) => ({
      id: `many-${id}`,
      pid: Number(/"pid":(\d+)/.exec(text)?.[1]),
    }));
    expect(served.filter(({ pid }) => pid !== first)).toEqual([]);
    continueAll(others);
    await expectServedOnce(notes, served);
  });

  test(`while the event loop of the master is blocked ${selector === 'ebpf' ? 'rescues go on' : 'nothing is lost'}`, async () => {
    const { master, notes, port, pids } = await startSeparate({ selector });
    const warm = new Wave(port, 40);
    await warm.answeredBy(pids);
    const before = descriptorsOf(master.pid!);
    const [stuck, ...free] = pids as [number, ...number[]];
    const said = { spins: false, spun: false };
    const time = selector === 'ebpf' ? BLOCKED : BLOCKED / 2;
    master.on('message', (message: object) => Object.assign(said, message));
    master.send({ spin: time });
    await until('it is blocked', () => said.spins);
    await stop(stuck);
    const wave = new Wave(port, 40);
    if (selector === 'ebpf') {
      await wave.answeredBy(free);
      expect(said.spun).toBe(false);
      expect(wave.slowest).toBeLessThan(PROMPT + warm.slowest);
    }
    await until('it is free again', () => said.spun);
    process.kill(stuck, 'SIGCONT');
    await wave.answeredBy(pids);
    await expectServedOnce(notes, [...warm.answers, ...wave.answers]);
    await until('the master has as many descriptors as before', () => descriptorsOf(master.pid!) === before);
  });

  test('workers end with a master that is killed amidst rescues, and no client is left without an end', async () => {
    const random = chance(selector.length);
    for (let round = 0; round < (selector === 'ebpf' ? 3 : 2); round++) {
      const { master, port, pids } = await startSeparate({ selector });
      const stuck = pids[round]!;
      const warm = new Wave(port, 40);
      await warm.answeredBy(pids);
      expect(warm.answers.map(({ pid }) => pid)).toContain(stuck);
      await stop(stuck);
      // That none of so many would have gone to the one that is stuck has odds of (2/3)^40.
      const rescued = new Wave(port, 40);
      await rescued.answeredBy(pids.filter((pid) => pid !== stuck));
      const sent: Wave[] = [];
      const end = performance.now() + random(40);
      while (performance.now() < end) {
        sent.push(new Wave(port, 2));
        await delay(1);
      }
      await until('part of a wave is served', async () => {
        const wave = new Wave(port, 40);
        sent.push(wave);
        await until('somebody is served', () => wave.answers.length > 0);
        return !wave.isOver;
      });
      master.kill('SIGKILL');
      await Promise.all([master.pid!, ...pids].map(gone));
      await until('every client has an answer or an error', () => sent.every(({ isOver }) => isOver));
      expect(listeningPorts()).not.toContain(port);
    }
  });

  test("two masters whose workers of one slot are stuck never touch each other's connections, not even when one is killed", async () => {
    const one = await start({ selector });
    const other = await startSeparate({ selector });
    const { port } = one.master.group.address;
    expect(other.port).not.toBe(port);
    // Both by slot.
    const [stuck, ...free] = pidsOf(one.master) as [number, ...number[]];
    const [otherStuck, ...otherFree] = other.pids as [number, ...number[]];
    await stop(stuck);
    await stop(otherStuck);
    const waves = Array.from({ length: 4 }, () => ({
      own: new Wave(port, 10),
      others: new Wave(other.port, 10),
    }));
    for (const { own, others } of waves) {
      await own.answeredBy(free);
      await others.answeredBy(otherFree);
    }
    const own = waves.map((each) => each.own);
    await expectServedOnce(
      other.notes,
      waves.flatMap(({ others }) => others.answers),
    );

    expect(await rescuesOf(one.master)).toBeGreaterThan(0);
    const lost: Wave[] = [];
    await until('one master is killed while the other has rescues', async () => {
      const before = await rescuesOf(one.master);
      lost.push(new Wave(other.port, 40));
      const wave = new Wave(port, 40);
      own.push(wave);
      await until('rescues go on', async () => (await rescuesOf(one.master)) > before);
      return !wave.isOver && other.master.kill('SIGKILL');
    });
    await Promise.all([other.master.pid!, ...other.pids].map(gone));
    await until('every client of it has an end', () => lost.every(({ isOver }) => isOver));
    const atDeath = await rescuesOf(one.master);
    // Below `ebpf` a wave may pass the stuck one by.
    await until('this one goes on with its own', async () => {
      own.push(new Wave(port, 40));
      for (const wave of own) await wave.answeredBy(free);
      return (await rescuesOf(one.master)) > atDeath;
    });
    process.kill(stuck, 'SIGCONT');
    await expectServedOnce(
      one.notes,
      own.flatMap(({ answers }) => answers),
    );
  });

  test('with `rescue` 0 a connection waits for its worker', async () => {
    const { master, notes } = await start({ selector, rescue: 0 });
    const [stuck, ...free] = master.workers as [Worker, ...Worker[]];
    await stop(stuck.pid!);
    const wave = new Wave(master.group.address.port, 40);
    await expectWaiting(master, wave, stuck);
    expect(wave.answers.every(({ pid }) => free.some((worker) => worker.pid === pid))).toBe(true);
    stuck.kill('SIGCONT');
    await wave.answeredBy(pidsOf(master));
    expect(await rescuesOf(master)).toBe(0);
    await expectServedOnce(notes, wave.answers);
  });

  test.each([100, 1000, 20_000])(
    'with `rescue` set to %i while connections wait, they are served by those that are free',
    async (rescue) => {
      const { master, notes } = await start({ selector, rescue: 0 });
      const [stuck, ...free] = master.workers as [Worker, ...Worker[]];
      await stop(stuck.pid!);
      const wave = new Wave(master.group.address.port, 40);
      await expectWaiting(master, wave, stuck);
      // No further connection comes that would have anybody look.
      master.group.setOption('rescue', rescue);
      await wave.answeredBy(free.map(({ pid }) => pid!));
      stuck.kill('SIGCONT');
      await expectServedOnce(notes, wave.answers);
    },
  );

  test('with `rescue` set to 0 nothing is moved any more, and what was moved before is served', async () => {
    const { master, notes } = await start({ selector });
    const { port } = master.group.address;
    const [stuck, ...free] = master.workers as [Worker, ...Worker[]];
    await stop(stuck.pid!);
    const rescued = new Wave(port, 40);
    await rescued.answeredBy(free.map(({ pid }) => pid!));
    await switchOff(master);
    const left = new Wave(port, 40);
    await expectWaiting(master, left, stuck);
    stuck.kill('SIGCONT');
    await left.answeredBy(pidsOf(master));
    expect(left.answers.some(({ pid }) => pid === stuck.pid)).toBe(true);
    await expectServedOnce(notes, [...rescued.answers, ...left.answers]);
  });

  test('with `rescue` set to 0 and back while all wait, a worker that comes takes its own, and then what the others have', async () => {
    const { master, notes } = await start({ selector });
    const { group } = master;
    const [first, ...others] = pidsOf(master) as [number, ...number[]];
    for (const pid of pidsOf(master)) await stop(pid);
    const wave = new Wave(group.address.port, 40);
    await until('all are queued', () => sum(queues(group)) === 40);
    const queued = queues(group);
    expect(Math.min(...queued)).toBeGreaterThan(0);
    await switchOff(master);
    process.kill(first, 'SIGCONT');
    await until('it has served its own', () => wave.answers.length === queued[0]);
    await delay(PROMPT);
    expect(queues(group)).toEqual([0, ...queued.slice(1)]);
    expect(wave.answers).toHaveLength(queued[0]!);
    group.setOption('rescue', 1000);
    await wave.answeredBy([first]);
    continueAll(others);
    await expectServedOnce(notes, wave.answers);
  });

  test('with `rescue` set and unset again and again amidst rescues nothing is lost, or served twice', async () => {
    const { master, notes } = await start({ selector });
    const { group } = master;
    const random = chance(7);
    const load = await Load.start({ port: group.address.port, mode: 'per-request', rate: 400 });
    const [victim] = master.workers as [Worker];
    for (let round = 0; round < 40; round++) {
      await stop(victim.pid!);
      for (let change = 0; change < 4; change++) {
        group.setOption('rescue', change % 2 === 0 ? 0 : 100);
        await delay(random(6));
      }
      await goOn(victim.pid!);
      await delay(random(6));
    }
    await expectAllServed(load, master, notes, victim);
  });
});

test('under `sticky` a connection waits for its worker, and under another policy it is rescued', async () => {
  const { master, notes } = await start({ selector: 'ebpf', policy: 'sticky' });
  const { port } = master.group.address;
  const first = new Wave(port, 1);
  await first.answeredBy(pidsOf(master));
  // All clients have one address.
  const stuck = master.workers.find(({ pid }) => pid === first.answers[0]!.pid)!;
  await stop(stuck.pid!);
  const wave = new Wave(port, 20);
  await expectWaiting(master, wave, stuck);
  expect(wave.answers).toEqual([]);
  master.group.setOption('policy', 'hash');
  await wave.answeredBy(pidsOf(master).filter((pid) => pid !== stuck.pid));
  stuck.kill('SIGCONT');
  await expectServedOnce(notes, [...first.answers, ...wave.answers]);
});

/** There have been so many rescues and no more, for as long as some hundred would take. */
async function expectNoRescue(master: Master, before = 0): Promise<void> {
  await delay(PROMPT);
  expect(await rescuesOf(master)).toBe(before);
}

describe('the timer of the looks', () => {
  /**
   * Prints the word behind the timer in the only row of the map `watches` (native/bpf/rescue.h): whether the timer runs.
   * Arguments: descriptors of maps, of which one is that. Commands of bpf(2): 1 looks up an element, 15 tells about an object.
   */
  const ARMED = `
import ctypes, platform, struct, sys
number = {'x86_64': 321, 'aarch64': 280}[platform.machine()]
call = ctypes.CDLL(None, use_errno=True).syscall

def bpf(command, form, *values):
    attributes = ctypes.create_string_buffer(struct.pack(form, *values), 128)
    if call(number, command, attributes, 128) < 0:
        raise OSError(ctypes.get_errno(), 'bpf')

for fd in map(int, sys.argv[1:]):
    about = ctypes.create_string_buffer(80)
    bpf(15, '=IIQ', fd, 80, ctypes.addressof(about))
    if about.raw[24:40].rstrip(b'\\0') == b'watches':
        key = ctypes.create_string_buffer(4)
        row = ctypes.create_string_buffer(struct.unpack_from('=I', about, 12)[0])
        bpf(1, '=IxxxxQQQ', fd, ctypes.addressof(key), ctypes.addressof(row), 0)
        print(struct.unpack_from('=I', row, 16)[0])
`;

  /** Of the one group of this process. */
  function isArmed(): boolean {
    const maps = [...openDescriptors()].filter(([, target]) => target.includes('bpf-map')).map(([fd]) => fd);
    const places = maps.map((_, index) => String(index + 3));
    const { stdout, stderr } = spawnSync('/usr/bin/env', ['python3', '-c', ARMED, ...places], {
      stdio: ['ignore', 'pipe', 'pipe', ...maps],
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^[01]\n$/);
    return stdout === '1\n';
  }

  /** How often the thread of the rescues has gone to sleep. */
  function sleeps(): number {
    const threads = readdirSync('/proc/self/task').map((thread) =>
      readFileSync(`/proc/self/task/${thread}/status`, 'latin1'),
    );
    const found = threads.filter((text) => text.startsWith('Name:\tspillway-rescue\n'));
    expect(found).toHaveLength(1);
    return Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(found[0]!)?.[1]);
  }

  test('runs while something waits and rests otherwise; the thread of the rescues sleeps unless somebody can help', async () => {
    const { master, notes } = await start({ selector: 'ebpf' });
    const { port } = master.group.address;
    const pids = pidsOf(master);
    const [first, ...others] = pids as [number, ...number[]];
    const warm = new Wave(port, 40);
    await warm.answeredBy(pids);
    await until('the timer rests', () => !isArmed());
    const atRest = sleeps();
    const before = await rescuesOf(master);
    await expectNoRescue(master, before);
    expect(isArmed()).toBe(false);

    for (const pid of pids) await stop(pid);
    const wave = new Wave(port, 40);
    await until('all are queued', () => sum(queues(master.group)) === 40);
    expect(Math.min(...queues(master.group))).toBeGreaterThan(0);
    await expectNoRescue(master, before);
    expect(isArmed()).toBe(true);
    expect(sleeps()).toBe(atRest);

    process.kill(first, 'SIGCONT');
    await wave.answeredBy([first]);
    expect(sleeps()).toBeGreaterThan(atRest);
    continueAll(others);
    await until('the timer rests again', () => !isArmed());
    await expectServedOnce(notes, [...warm.answers, ...wave.answers]);
  });
});

/** Orders that were on their way are followed by nobody when this returns. */
async function switchOff(master: Master): Promise<void> {
  master.group.setOption('rescue', 0);
  await delay(TOO_LATE + 1);
}

/** The rest of a wave stays in the queue of the worker that is stuck, for as long as some hundred rescues would take. */
async function expectWaiting(master: Master, wave: Wave, stuck: Worker): Promise<void> {
  const queued = () => master.group.queue(stuck.slot);
  await until('all but the queued are answered', () => wave.answers.length + queued() === wave.ids.length);
  const waiting = queued();
  expect(waiting).toBeGreaterThan(0);
  await delay(PROMPT);
  expect(queued()).toBe(waiting);
  expect(wave.failures).toEqual([]);
}

/** How many descriptors processes have when those of past connections are closed. */
async function steadyDescriptors(
  pids: readonly (number | 'self')[],
): Promise<ReadonlyMap<number | 'self', number>> {
  let before = new Map<number | 'self', number>();
  let same = 0;
  await until('no descriptor is closed any more', () => {
    const now = new Map(pids.map((pid) => [pid, descriptorsOf(pid)]));
    same = pids.every((pid) => now.get(pid) === before.get(pid)) ? same + 1 : 0;
    before = now;
    return same === 20;
  });
  return before;
}

describe('hints that are nonsense', () => {
  /** Somebody who writes into a worker's page of hints. */
  class Liar {
    readonly #child: ChildProcess;
    readonly #answers: AsyncIterator<string>;

    constructor(page: number) {
      const stdio = ['pipe', 'pipe', 'inherit', page] as const;
      this.#child = spawn('/usr/bin/env', ['python3', program('nonsense.py')], { stdio: [...stdio] });
      processes.add(this.#child);
      this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    }

    /** `write HEX`, or `flip`. */
    async does(what: string): Promise<void> {
      this.#child.stdin!.write(`${what}\n`);
      expect((await this.#answers.next()).value).toBe('done');
    }
  }

  /** The words of a page, as bytes: what the loop does and since when, and whether it drains. */
  function page(since: bigint, state: number, draining = 0): string {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE((since << 16n) | BigInt(state));
    bytes.writeUInt32LE(draining, 8);
    return bytes.toString('hex');
  }

  const now = () => process.hrtime.bigint() / 1_000_000n;
  const SILENT = 0;
  const WAITING = 1;
  const RUNNING = 2;
  const CASES: [says: string, order: () => string][] = [
    ['all ones', () => `write ${'ff'.repeat(4096)}`],
    ['a time far in the future', () => `write ${page(now() + 10n ** 12n, WAITING)}`],
    ['a time long past', () => `write ${page(1n, RUNNING)}`],
    ['that it drains', () => `write ${page(now(), WAITING, 1)}`],
    ['something else at every moment', () => 'flip'],
  ];

  /** A group whose slots have pages of a map, with those; rescues are looked for, and there is nobody who could carry them out. */
  async function openWithHints() {
    const map = native().createHintsMap(4);
    const rescue = new Rescue();
    cleanUps.push(
      () => rescue.close(),
      () => closeSync(map),
    );
    const rescues: Rescues = rescue.at(1);
    const group = await scene.open({ selector: 'ebpf', backlog: 500, service: { hints: map, rescues } });
    for (const slot of group.slots) group.setWorker(slot, { hints: slot, helps: true });
    const pages = group.slots.map((slot) => native().openHintsPage(map, slot));
    cleanUps.push(() => pages.forEach(closeSync));
    return { pages, group };
  }

  test.each(CASES)('a worker whose page says %s keeps connections from nobody else', async (_, order) => {
    const { pages, group } = await openWithHints();
    await new Liar(pages[0]!).does(order());
    const clients: Clients[] = [];
    for (let count = 0; count < 20; count++) {
      clients.push(scene.connect(group, 20));
      await delay(1);
    }
    expect(sum(clients.map(({ established }) => established))).toBe(400);
    // The share of an equal is a hundred.
    for (const queue of queues(group).slice(1)) expect(queue).toBeGreaterThan(50);
    for (const each of clients) each.say('hello');
    const taken = scene.acceptAll(group).flat();
    expect(taken.map((fd) => testing().receive(fd).text)).toEqual(new Array(400).fill('hello'));
  });

  // Whoever says that honestly is heard: what is written here does reach the choice.
  test('a worker whose page says that it drains gets nothing while it does, and its share afterwards', async () => {
    const { pages, group } = await openWithHints();
    const worker = new Liar(pages[0]!);
    // Nothing else: who had last come when it says would be late soon, and be passed by for that.
    await worker.does(`write ${page(0n, SILENT, 1)}`);
    scene.connect(group, 60);
    const [own, ...others] = queues(group);
    expect(own).toBe(0);
    expect(sum(others)).toBe(60);
    await worker.does(`write ${page(0n, SILENT)}`);
    scene.connect(group, 60);
    expect(queues(group)[0]).toBeGreaterThan(0);
    expect(sum(queues(group))).toBe(120);
  });

  test.each(CASES)('when every page says %s each connection is accepted by somebody', async (_, order) => {
    const { pages, group } = await openWithHints();
    await Promise.all(pages.map((each) => new Liar(each).does(order())));
    const clients = scene.connect(group, 400);
    expect(clients.established).toBe(400);
    expect(scene.acceptAll(group).flat()).toHaveLength(400);
  });

  test("no worker has a descriptor of the map, and of its memory only a worker's own page", async () => {
    const { master } = await start({ selector: 'ebpf' });
    const objects = (pid: number | 'self') =>
      readdirSync(`/proc/${pid}/fd`).filter((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('anon_inode:bpf');
        } catch {
          // The descriptor of the listing itself is gone by now.
          return false;
        }
      });
    expect(objects('self')).not.toEqual([]);
    for (const pid of pidsOf(master)) expect(objects(pid)).toEqual([]);
    const places = pidsOf(master).map((pid) => ({ pid, own: placesOf(pid) }));
    expect(places.map(({ own }) => own.map(({ bytes }) => bytes))).toEqual([[4096], [4096], [4096]]);
    // Nobody reads the last word. Each finds its own in it, so that no two have the same page.
    const marks = places.map(({ pid, own }) => new Mark(pid, own[0]!.from + 4088));
    for (const mark of marks) mark.write();
    for (const mark of marks) expect(mark.read()).toBe(mark.pid);
  });

  /** Where a process has BPF maps in its memory (/proc/PID/maps in proc(5)). */
  function placesOf(pid: number): { from: number; bytes: number }[] {
    const lines = readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n');
    return lines
      .filter((line) => line.includes('anon_inode:bpf-map'))
      .map((line) => {
        const [range = ''] = line.split(' ');
        const [from = 0, to = 0] = range.split('-').map((address) => Number.parseInt(address, 16));
        return { from, bytes: to - from };
      });
  }

  /** The process id, in a word of the process's memory. */
  class Mark {
    readonly pid: number;
    readonly #at: number;

    constructor(pid: number, at: number) {
      this.pid = pid;
      this.#at = at;
    }

    write(): void {
      const word = Buffer.alloc(4);
      word.writeUInt32LE(this.pid);
      this.#inMemory('r+', (fd) => writeSync(fd, word, 0, 4, this.#at));
    }

    read(): number {
      const word = Buffer.alloc(4);
      this.#inMemory('r', (fd) => readSync(fd, word, 0, 4, this.#at));
      return word.readUInt32LE();
    }

    #inMemory(flags: string, act: (fd: number) => number): void {
      const fd = openSync(`/proc/${this.pid}/mem`, flags);
      try {
        expect(act(fd)).toBe(4);
      } finally {
        closeSync(fd);
      }
    }
  }

  test('while workers write nonsense, also the one that is stuck, what waits there is rescued', async () => {
    const { master, notes } = await start({ selector: 'ebpf', workers: 4 });
    const { port } = master.group.address;
    const [stuck, ...free] = pidsOf(master) as [number, ...number[]];
    for (const worker of master.workers.slice(0, 2))
      await new Liar((worker as WorkerProcess).links!.hints.fd).does('flip');
    await stop(stuck);
    const sent: Wave[] = [];
    for (let count = 0; count < 10; count++) {
      const wave = new Wave(port, 10);
      await wave.answeredBy(free);
      sent.push(wave);
    }
    expect(await rescuesOf(master)).toBeGreaterThan(0);
    process.kill(stuck, 'SIGCONT');
    await expectServedOnce(
      notes,
      sent.flatMap(({ answers }) => answers),
    );
  });
});
