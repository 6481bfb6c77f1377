/**
 * Limits and the waiting list against the truth, with everything at once: clients on two processors that come and go in
 * all ways, workers that compute, are stopped, killed and replaced, limits that are raised and lowered.
 *
 * Whenever the clients rest, the count of every worker is what /proc says it holds, nobody has more than he may, and
 * nobody waits while there is room. Between, no count is ever looked at that is above its limit.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import type { Master } from '../../lib/serve/master.js';
import { ownNetwork } from '../support/network.js';
import { sum } from '../support/scene.js';
import { gone, goOn, program, startMaster, stop } from '../support/serving.js';
import { until } from '../support/until.js';

ownNetwork();

const CROWD = fileURLToPath(new URL('../support/crowd.mjs', import.meta.url));
const crowds: Crowd[] = [];
afterEach(() => {
  for (const crowd of crowds.splice(0)) crowd.end();
});

interface Sight {
  alive: number;
  waiting: number;
  order: (string | null)[];
}

/** A process of clients, on a processor of its own as far as there are as many. */
class Crowd {
  readonly #child: ChildProcess;

  constructor(master: Master, cpu: number) {
    const port = String(master.group.address.port);
    const node = [process.execPath, CROWD];
    this.#child = spawn('taskset', ['-c', String(cpu % availableParallelism()), ...node], {
      env: { ...process.env, PORT: port },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    crowds.push(this);
  }

  async #order<T>(order: object): Promise<T> {
    const answered = once(this.#child, 'message');
    this.#child.send(order);
    const [answer] = await answered;
    return answer;
  }

  act(steps: number, seed: number): Promise<{ greetings: { pid: number }[] }> {
    return this.#order({ act: steps, seed });
  }

  join(count: number, stay = false): Promise<object> {
    return this.#order({ join: count, stay });
  }

  look(): Promise<Sight> {
    return this.#order({ look: true });
  }

  leave(): Promise<object> {
    return this.#order({ leave: true });
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Inodes of the server's ends of connections that are open (ESTABLISHED, CLOSE-WAIT); 0 for one nobody has accepted. */
function openInodes(port: number): number[] {
  return readFileSync('/proc/thread-self/net/tcp', 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, local = '', , state = '']) =>
        Number.parseInt(local.split(':')[1] ?? '', 16) === port && (state === '01' || state === '08'),
    )
    .map((fields) => Number(fields[9]));
}

function socketsOf(pid: number): Set<number> {
  const inodes = new Set<number>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode) inodes.add(Number(inode));
    } catch {
      // Closed meanwhile.
    }
  }
  return inodes;
}

interface Truth {
  /** Connections that each worker holds, by its process. */
  held: Map<number, number>;
  /** Those that nobody has accepted. */
  queued: number;
}

function truth(master: Master): Truth {
  const open = openInodes(master.group.address.port);
  const held = new Map<number, number>();
  for (const { pid } of master.workers) {
    const own = socketsOf(pid!);
    held.set(pid!, open.filter((inode) => own.has(inode)).length);
  }
  return { held, queued: open.filter((inode) => inode === 0).length };
}

/** Looks at the counts all the time, from which limits are changed as well: none is above its limit. */
class Watch {
  readonly #master: Master;
  readonly #limits: number[];
  /** What a slot may have: more than its limit as long as it has had it since before that was lowered. */
  readonly #allowed: number[];
  readonly excesses: string[] = [];
  looks = 0;
  most = 0;

  constructor(master: Master, limits: number[]) {
    this.#master = master;
    this.#limits = [...limits];
    this.#allowed = [...limits];
    limits.forEach((limit, slot) => {
      master.group.setOption('maxConnections', limit, slot);
    });
  }

  get limits(): readonly number[] {
    return this.#limits;
  }

  #committed(): number[] {
    return this.#master.group
      .stats()
      .sockets.map(({ connections, promised }) => (connections ?? 0) + (promised ?? 0));
  }

  limit(slot: number, limit: number): void {
    this.#master.group.setOption('maxConnections', limit, slot);
    this.#limits[slot] = limit;
    this.#allowed[slot] = Math.max(limit, this.#committed()[slot]!);
  }

  look(): void {
    this.looks++;
    this.#committed().forEach((count, slot) => {
      this.most = Math.max(this.most, count);
      if (count > this.#allowed[slot]!)
        this.excesses.push(`slot ${slot}: ${count} of ${this.#allowed[slot]}`);
      this.#allowed[slot] = Math.max(this.#limits[slot]!, Math.min(count, this.#allowed[slot]!));
    });
  }
}

async function during<T>(watch: Watch, work: Promise<T>): Promise<T> {
  let done = false;
  const finished = work.finally(() => {
    done = true;
  });
  while (!done) {
    watch.look();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return finished;
}

/** Waits until nothing moves any more, and tells what is wrong if it never comes to agree. */
async function agrees(master: Master, watch: Watch): Promise<void> {
  let difference = '';
  const compare = async () => {
    const { held, queued } = truth(master);
    const { workers } = await master.status();
    const counted = new Map(workers.map(({ pid, connections }) => [pid!, connections]));
    const { sockets, waiting } = master.group.stats();
    const seen = await Promise.all(crowds.map((crowd) => crowd.look()));
    const room = sockets.filter(({ connections }, slot) => connections! < watch.limits[slot]!).length;
    difference = JSON.stringify({
      held: [...held],
      counted: [...counted],
      promised: sockets.map(({ promised }) => promised),
      limits: watch.limits,
      queued,
      waiting,
      seen: seen.map(({ alive, waiting }) => ({ alive, waiting })),
    });
    return (
      [...held].every(([pid, count]) => counted.get(pid) === count) &&
      sockets.every(({ promised }) => promised === 0) &&
      sum(seen.map(({ alive }) => alive)) === sum([...held.values()]) + queued &&
      sum(seen.map(({ waiting }) => waiting)) === queued &&
      (room === 0 || waiting!.length === 0)
    );
  };
  await until('counts and truth agree', compare, 5000).catch(() => {
    throw new Error(`counts and truth differ: ${difference}`);
  });
}

/** What happens to the workers while clients come and go. */
const EVENTS = ['death', 'stall', 'limits', 'reload'] as const;

test('thousands of deeds at once: counts are the truth, and no limit is ever passed', async () => {
  const ROUNDS = 20;
  const STEPS = 150;
  const master = await startMaster({
    script: program('keeps.mjs'),
    selector: 'ebpf',
    workers: 3,
    backlog: 100,
    maxConnections: 4,
    overflow: 'wait',
    waitLimit: 500,
    restartDelay: 10,
    drainTimeout: 300,
  });
  const watch = new Watch(master, [2, 4, 6]);
  new Crowd(master, 0);
  new Crowd(master, 1);
  let greeted = 0;
  const processes = new Set<number>();

  for (let round = 0; round < ROUNDS; round++) {
    const victim = master.workers[Math.floor(round / EVENTS.length) % 3]!;
    const deeds = Promise.all(
      crowds.map(async (crowd, index) => {
        const { greetings } = await crowd.act(STEPS, round * 10 + index);
        greeted += greetings.length;
        for (const { pid } of greetings) processes.add(pid);
      }),
    );
    switch (EVENTS[round % EVENTS.length]) {
      case 'death':
        victim.kill('SIGKILL');
        await during(watch, deeds);
        await gone(victim.pid!);
        break;
      case 'stall':
        // Its queue is rescued.
        await stop(victim.pid!);
        await during(watch, deeds);
        await goOn(victim.pid!);
        break;
      case 'limits':
        watch.limit(0, 1 + (round % 3));
        watch.limit(1, 5 - (round % 3));
        await during(watch, deeds);
        break;
      case 'reload':
        // Every listener leaves, and its queue is moved to another one.
        await during(watch, Promise.all([deeds, master.reload()]));
        break;
    }
    await until('there are three', () => master.workers.length === 3 && master.workers.every(isRunning));
    await agrees(master, watch);
    watch.look();
  }

  expect(watch.excesses).toEqual([]);
  expect(watch.looks).toBeGreaterThan(ROUNDS * 10);
  // It was not for want of clients.
  expect(watch.most).toBeGreaterThanOrEqual(6);
  expect(master.group.stats().waited).toBeGreaterThan(50);
  expect(greeted).toBeGreaterThan(ROUNDS * 20);
  expect(processes.size).toBeGreaterThan(3);

  await Promise.all(crowds.map((crowd) => crowd.leave()));
  await agrees(master, watch);
  expect(sum([...truth(master).held.values()])).toBe(0);
}, 60_000);

const isRunning = ({ state }: { state: string }) => state === 'running';

test('those who wait are served in their order, wherever they come from', async () => {
  const WORKERS = 3;
  const EACH = 150;
  const master = await startMaster({
    script: program('keeps.mjs'),
    selector: 'ebpf',
    workers: WORKERS,
    backlog: 100,
    maxConnections: 1,
    overflow: 'wait',
    waitLimit: 1000,
  });
  const [holder, ...others] = [0, 0, 1].map((cpu) => new Crowd(master, cpu));
  // Three who stay: everybody is at the limit.
  await holder!.join(WORKERS, true);
  await until('everybody has one', () =>
    master.group.stats().sockets.every(({ connections }) => connections === 1),
  );
  await Promise.all(others.map((crowd) => crowd.join(EACH)));
  expect(master.group.stats().waiting).toMatchObject({ length: 2 * EACH });

  await holder!.leave();
  const looks = await until('all have been served', async () => {
    const seen = await Promise.all(others.map((crowd) => crowd.look()));
    return seen.every(({ order }) => order.every((at) => at !== null)) ? seen : undefined;
  });
  for (const { order } of looks) {
    const served = order
      .map((at, index) => ({ at: BigInt(at!), index }))
      .sort((one, other) => (one.at < other.at ? -1 : 1))
      .map(({ index }) => index);
    expect(Math.max(...served.map((index, place) => index - place))).toBeLessThanOrEqual(WORKERS);
  }
});
