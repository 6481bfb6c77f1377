/**
 * Every policy chooses in the kernel what its description says, held against a model in user space
 * (test/support/policy-model.ts). `explain()` runs the very code of the choice. Scenarios:
 *
 *   random states and requests: queues that are empty, partly full and full, half-open requests, slots that are
 *     disabled or empty, weights, CPUs; workers that wait, that are stopped, that are leaving, of whom nothing is known
 *   the shares of slots with weights, over any stretch of turns
 *   who keeps a client's address under `sticky`, and who is given back what
 *   whose turn it is on a CPU
 *   what counts as a live connection, from its handshake to its end
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { ChoiceRequest } from '../../lib/group/ebpf-tier.js';
import type { OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { POLICY_NAMES } from '../../lib/group/options.js';
import { native } from '../../lib/native.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { PolicyModel, type SlotSettings, type SlotView } from '../support/policy-model.js';
import { onlySlot, queues, READ_BY, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();

const open = (options: Partial<OpenOptions>) => scene.open({ selector: 'ebpf', explain: true, ...options });

/** A random generator that gives the same numbers for the same seed, each from 0 to 2³² − 1 (mulberry32). */
function randomFrom(seed: number) {
  let state = seed;
  const word = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mix = Math.imul(state ^ (state >>> 15), 1 | state);
    mix = (mix + Math.imul(mix ^ (mix >>> 7), 61 | mix)) ^ mix;
    return (mix ^ (mix >>> 14)) >>> 0;
  };
  /** From `least` to `most`. */
  const int = (least: number, most: number) => least + (word() % (most - least + 1));
  const one = <T>(of: readonly T[]) => of[int(0, of.length - 1)]!;
  return { word, int, one, chance: (part: number) => word() < part * 2 ** 32 };
}
type Random = ReturnType<typeof randomFrom>;

const slotSettings = (group: SocketGroup): (SlotSettings | undefined)[] =>
  [...Array(group.size).keys()].map((slot) =>
    group.has(slot)
      ? {
          weight: group.getOption('weight', slot),
          enabled: group.getOption('enabled', slot),
          cpu: group.getOption('cpu', slot),
        }
      : undefined,
  );

const look = (group: SocketGroup): SlotView[] => group.explain({})!.slots;

// --- workers that wait ---

/** Accepts what comes at every listener it inherits, and keeps it. */
const WATCHER = `
  const { createServer } = require('node:net');
  const count = Number(process.argv[1]);
  let listening = 0;
  for (let fd = 4; fd < 4 + count; fd++) {
    // A client may end by an RST.
    createServer((client) => client.on('error', () => {}).resume())
      .listen({ fd }, () => { if (++listening === count) process.send('listening'); });
  }
`;

const watchers = new Set<ChildProcess>();
const maps = new Set<number>();

/** A process whose event loop waits for connections at these slots. */
async function watch(group: SocketGroup, slots: readonly number[]): Promise<ChildProcess> {
  const listeners = slots.map((slot) => group.fd(slot));
  const child = spawn(process.execPath, ['-e', WATCHER, String(listeners.length)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...listeners],
  });
  watchers.add(child);
  await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', () => reject(new Error('the watcher has ended')));
  });
  // What comes over the channel would wake it up.
  child.disconnect();
  return child;
}

afterEach(async () => {
  for (const child of watchers) {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    if (child.kill('SIGKILL')) await gone;
  }
  watchers.clear();
  for (const map of maps) closeSync(map);
  maps.clear();
});

/** A worker has the row, and says that it wants nothing new. */
function drain(map: number, row: number): void {
  const fd = native().openHintsPage(map, row);
  const page = new (native().Hints)('map', fd);
  page.drain();
  page.close();
  closeSync(fd);
}

const allAre = (group: SocketGroup, slots: readonly number[], readiness: string) => {
  const views = look(group);
  return slots.every((slot) => views[slot]!.readiness === readiness);
};

// --- random states ---

/** A group, and what its workers do: `idle` wait, `stopped` were seen waiting and are stopped now. */
class Stage {
  readonly group: SocketGroup;
  readonly random: Random;
  readonly idle: readonly number[];
  readonly stopped: readonly number[];
  /** The map of hints, of which each slot has the row of its number. */
  readonly #map: number;

  private constructor(
    group: SocketGroup,
    random: Random,
    map: number,
    idle: readonly number[],
    stopped: readonly number[],
  ) {
    this.group = group;
    this.random = random;
    this.#map = map;
    this.idle = idle;
    this.stopped = stopped;
  }

  static async open(random: Random, sockets: number, options: Partial<OpenOptions>): Promise<Stage> {
    const map = native().createHintsMap(sockets);
    maps.add(map);
    const group = await open({ sockets, service: { hints: map }, ...options });
    for (const row of group.slots) group.setWorker(row, { hints: row, helps: false });
    const shuffled = shuffle(random, group.slots);
    const idle = shuffled.splice(0, Math.floor(sockets / 2.5) + (sockets === 2 ? 1 : 0));
    const stopped = shuffled.splice(0, sockets > 2 ? Math.ceil(sockets / 6) : 0);
    const stage = new Stage(group, random, map, idle, stopped);
    await stage.#staff();
    return stage;
  }

  async #staff(): Promise<void> {
    const { group, idle, stopped } = this;
    const children = await Promise.all(
      [idle, stopped].map((slots) => (slots.length > 0 ? watch(group, slots) : undefined)),
    );
    const child = children[1];
    if (!child) return;
    await until('the workers wait', () => allAre(group, stopped, 'idle'));
    // A worker is known to be late only if it has been seen before: at a decision for it.
    for (const slot of stopped) {
      await onlySlot(group, slot, () => scene.connect(group, 1).close());
      // One process has them all: busy with one, it would not be seen waiting for the next.
      await until('the workers wait again', () => allAre(group, stopped, 'idle'));
    }
    child.kill('SIGSTOP');
    await until('the stopped workers are late', () => allAre(group, stopped, 'late'));
  }

  /** Slots that nobody watches, and whose socket may therefore go. */
  get unwatched(): number[] {
    return this.group.slots.filter((slot) => !this.idle.includes(slot) && !this.stopped.includes(slot));
  }

  async arrange(): Promise<void> {
    const { group, random } = this;
    scene.endConnections();
    for (const { fd } of group.stats().sockets) testing().closeMany(testing().acceptMany(fd));
    for (let row = 0; row < group.size; row++) native().clearHintsPage(this.#map, row);
    // The tables of other policies are large: they would be written anew with every change.
    group.setOption('policy', 'hash');
    group.setOption('enabled', true);
    await this.#moveSlots();
    const alike = random.chance(0.35);
    for (const slot of group.slots) {
      group.setOption('weight', alike ? 3 : random.int(1, 10), slot);
      group.setOption('cpu', random.int(-1, 3), slot);
      group.setOption('backlog', random.one([1, 3, 12]), slot);
    }
    await this.#fill();
    if (random.chance(0.6)) {
      const most = random.one([0.2, 0.5, 1]);
      for (const slot of group.slots) if (random.chance(most)) group.setOption('enabled', false, slot);
    }
    if (random.chance(0.5)) {
      for (const slot of group.slots) if (random.chance(0.25)) drain(this.#map, slot);
    }
    await until('the workers that can have taken what is theirs', () => {
      const views = look(group);
      // Where clients are half-open, there is nothing to be taken yet, and it is not asked who waits.
      return this.idle.every(
        (slot) => group.queue(slot) === 0 && (views[slot]!.load > 0 || views[slot]!.readiness !== 'running'),
      );
    });
  }

  /** Sockets leave for some states and come back for others. */
  async #moveSlots(): Promise<void> {
    const { group, random } = this;
    const empty = [...Array(group.size).keys()].filter((slot) => !group.has(slot));
    if (empty.length > 0) {
      for (const slot of empty) await group.add({ slot });
    } else if (random.chance(0.5)) {
      for (const slot of this.unwatched) {
        if (group.slots.length > 1 && random.chance(0.4)) await group.remove(slot);
      }
    }
  }

  /** Fills queues to any degree: the workers that can take what comes to them do so. */
  async #fill(): Promise<void> {
    const { group, random } = this;
    group.setOption('policy', random.one(['hash', 'least-queue', 'weighted'] as const));
    const degree = random.one([0, 0.3, 0.7, 1.1]);
    const room = sum(group.stats().sockets.map(({ limit }) => limit + 1));
    const clients = scene.connect(group, Math.ceil(room * degree));
    const states = clients.states;
    // Under deferAccept a client that has said nothing is half-open; otherwise it makes no difference.
    clients.fds.forEach((fd, index) => {
      // The draw does not depend on how fast workers were: the same seed gives the same states.
      const speaks = random.chance(0.6);
      if (speaks && states[index] === 'established') testing().send(fd, 'x');
    });
    if (this.unwatched.length > 0 && random.chance(0.4)) {
      const slot = random.one(this.unwatched);
      const free = group.getOption('backlog', slot) + 1 - group.queue(slot);
      await onlySlot(group, slot, () => scene.connect(group, free).say('x'));
    }
    for (const slot of this.unwatched) {
      if (random.chance(0.3)) {
        for (const fd of testing().acceptMany(group.fd(slot), random.int(1, 4))) scene.own(fd);
      }
    }
  }
}

function shuffle<T>(random: Random, items: T[]): T[] {
  return items
    .map((item) => ({ item, place: random.word() }))
    .sort((one, other) => one.place - other.place)
    .map(({ item }) => item);
}

/** Asks the kernel about states that are the same before and after the choice: what changes is judged by neither. */
class Asking {
  readonly #group: SocketGroup;
  #before: string;

  constructor(group: SocketGroup) {
    this.#group = group;
    this.#before = told(look(group));
  }

  ask(request: ChoiceRequest) {
    for (let count = 0; count < 1000; count++) {
      const answer = this.#group.explain(request)!;
      const after = told(answer.slots);
      if (after === this.#before) return answer;
      this.#before = after;
    }
    throw new Error('the state of the group does not stand still');
  }
}

const told = (views: readonly SlotView[]) =>
  views.map(({ standing, readiness, load, live }) => `${standing} ${readiness} ${load} ${live}`).join();

/** Every second one has the next turn, and the others any turn at all. */
function requests(random: Random, sockets: number, count: number): ChoiceRequest[] {
  return Array.from({ length: count }, (_, number) => ({
    hash: random.word(),
    source: random.word(),
    turn: number % 2 ? random.word() : number,
    cpu: random.chance(0.1) ? random.int(4000, 5000) : random.int(0, 4),
    // A slot that there is no longer, from time to time.
    warm: random.int(0, sockets),
  }));
}

interface Size {
  sockets: number;
  states: number;
  requests: number;
  readBy: (typeof READ_BY)[number];
  deferAccept?: number;
}

const SIZES: Size[] = [
  { sockets: 1, states: 12, requests: 50, readBy: 'cast' },
  { sockets: 2, states: 20, requests: 100, readBy: 'probe' },
  { sockets: 3, states: 16, requests: 100, readBy: 'cast' },
  { sockets: 5, states: 8, requests: 200, readBy: 'cast' },
  { sockets: 5, states: 8, requests: 200, readBy: 'probe', deferAccept: 30 },
  { sockets: 16, states: 6, requests: 200, readBy: 'cast', deferAccept: 30 },
  { sockets: 16, states: 6, requests: 200, readBy: 'probe' },
  { sockets: 40, states: 6, requests: 200, readBy: 'cast' },
];

describe('the kernel chooses what the model chooses', () => {
  test.each(
    named(
      SIZES,
      ({ sockets, readBy, deferAccept }) =>
        `among ${sockets} sockets${deferAccept ? ' with half-open requests' : ''}, read by ${readBy}, by every policy`,
    ),
  )('%s', async (_, size) => {
    const { sockets, readBy, deferAccept } = size;
    const random = randomFrom(sockets * 1000 + (deferAccept ?? 0));
    const stage = await Stage.open(random, sockets, { readBy, deferAccept });
    const { group } = stage;
    const seen = new Set<string>();
    let elsewhere = 0;

    for (let state = 0; state < size.states; state++) {
      await stage.arrange();
      const settings = slotSettings(group);
      for (const policy of POLICY_NAMES) {
        group.setOption('policy', policy);
        const model = new PolicyModel(policy, settings);
        const asking = new Asking(group);
        for (const request of requests(random, sockets, size.requests)) {
          const { first, chosen, slots } = asking.ask(request);
          const expected = model.choose(slots, request);
          if (first !== expected.first || chosen !== expected.chosen) {
            const found = { policy, first, chosen, expected, request, slots, settings };
            expect.fail(`the kernel chose otherwise: ${JSON.stringify(found)}`);
          }
          if (chosen !== first) elsewhere++;
          for (const { standing, readiness } of slots) seen.add(standing).add(readiness);
        }
      }
    }

    const asked = size.states * size.requests * POLICY_NAMES.length;
    // That the states are what they are meant to be: otherwise nothing would have been compared.
    if (sockets > 1) expect(elsewhere).toBeGreaterThan(asked / 20);
    const kinds = ['disabled', 'full', 'free', 'running'];
    if (sockets > 1) kinds.push('idle', 'leaving');
    if (sockets > 2) kinds.push('absent', 'late');
    if (deferAccept) kinds.push('room');
    expect([...seen]).toEqual(expect.arrayContaining(kinds));
  });
});

describe('idle-first', () => {
  test('sixteen slots are asked for one that is idle, wherever that begins, and no more', async () => {
    const group = await open({ sockets: 40, policy: 'idle-first' });
    await watch(group, [20]);
    await until('the worker waits', () => allAre(group, [20], 'idle'));

    const random = randomFrom(2);
    const ASKED = 3000;
    const found = Array.from(
      { length: ASKED },
      () => group.explain({ turn: 4, hash: random.word() })!.chosen,
    );

    // The other 24 beginnings do not come by.
    const share = found.filter((slot) => slot === 20).length / ASKED;
    expect(share).toBeGreaterThan(16 / 39 - 0.05);
    expect(share).toBeLessThan(16 / 39 + 0.05);
  });

  test('every one of a few slots is found when it is the only idle one', async () => {
    const group = await open({ sockets: 5, policy: 'idle-first' });
    await watch(group, [3]);
    await until('the worker waits', () => allAre(group, [3], 'idle'));
    const random = randomFrom(3);
    for (let turn = 0; turn < 200; turn++) {
      expect(group.explain({ turn, hash: random.word() })!.chosen).toBe(3);
    }
  });

  test('an idle worker that was chosen last is chosen again, unless it has more connections for its weight', async () => {
    const group = await open({ sockets: 2, policy: 'idle-first' });
    const child = await watch(group, [0, 1]);
    expect(child.pid).toBeDefined();
    await until('the workers wait', () => allAre(group, [0, 1], 'idle'));
    const chosen = () => [0, 1].map((warm) => group.explain({ turn: 0, warm })!.chosen);
    expect(chosen()).toEqual([0, 1]);

    const clients = await onlySlot(group, 1, () => scene.connect(group, 2));
    await until('they are taken', () => allAre(group, [0, 1], 'idle'));
    expect(look(group).map(({ live }) => live)).toEqual([0, 2]);
    expect(chosen()).toEqual([0, 0]);

    await onlySlot(group, 0, () => scene.connect(group, 1));
    group.setOption('weight', 2, 1);
    await until('it is taken', () => allAre(group, [0, 1], 'idle'));
    expect(chosen()).toEqual([0, 1]);
    clients.close();
  });
});

describe('least-queue', () => {
  test('a worker that is stopped gets nothing, however short its queue, while another one waits', async () => {
    const group = await open({ sockets: 2, policy: 'least-queue' });
    const [child] = await Promise.all([watch(group, [0]), watch(group, [1])]);
    await until('the workers wait', () => allAre(group, [0, 1], 'idle'));
    // A worker is known to be late only if it has been seen before: at a decision for it.
    await onlySlot(group, 0, () => scene.connect(group, 1).close());
    await until('it has taken that and waits again', () => allAre(group, [0], 'idle'));
    child.kill('SIGSTOP');
    await until('the stopped worker is late', () => allAre(group, [0], 'late'));
    await until('the other one waits', () => allAre(group, [1], 'idle'));

    const random = randomFrom(1);
    const chosen = Array.from({ length: 50 }, () => group.explain({ hash: random.word() })!.chosen);

    expect(look(group).map(({ readiness, load }) => [readiness, load])).toEqual([
      ['late', 0],
      ['idle', 0],
    ]);
    expect(new Set(chosen)).toEqual(new Set([1]));
  });
});

// --- shares ---

const WEIGHTS = [1, 10, 3, 2, 4];
const ALL_OF_THEM = sum(WEIGHTS);

/** How far any stretch of turns is from the shares that the weights give, in connections of one slot. */
function largestDeviation(chosen: readonly number[], stretch: number): number {
  let largest = 0;
  for (let begin = 0; begin + stretch <= chosen.length; begin++) {
    const counts = WEIGHTS.map(() => 0);
    for (const slot of chosen.slice(begin, begin + stretch)) counts[slot]!++;
    WEIGHTS.forEach((weight, slot) => {
      largest = Math.max(largest, Math.abs(counts[slot]! - (stretch * weight) / ALL_OF_THEM));
    });
  }
  return largest;
}

describe('shares follow weights over any stretch of turns', () => {
  /** In connections of a slot: the turns of one are a few pieces of the circle, each hit once too often or too rarely. */
  const BOUND = 3;
  const STRETCH = 10 * ALL_OF_THEM;

  const CASES = [
    { policy: 'idle-first', waiting: true, from: 0 },
    { policy: 'idle-first', waiting: false, from: 0 },
    { policy: 'idle-first', waiting: false, from: 2 ** 32 - STRETCH },
  ] as const;
  test.each(
    named(
      CASES,
      ({ policy, waiting, from }) =>
        `by ${policy} from turn ${from} on, among workers ${waiting ? 'that all wait' : 'of whom nothing is known'}`,
    ),
  )('%s', async (_, { policy, waiting, from }) => {
    const group = await open({ sockets: WEIGHTS.length, policy });
    for (const [slot, weight] of WEIGHTS.entries()) group.setOption('weight', weight, slot);
    if (waiting) {
      await watch(group, group.slots);
      await until('all workers wait', () => allAre(group, group.slots, 'idle'));
    }

    const chosen = Array.from({ length: 2 * STRETCH }, (_, count) => {
      return group.explain({ turn: (from + count) % 2 ** 32 })!.chosen;
    });

    expect(largestDeviation(chosen, STRETCH)).toBeLessThanOrEqual(BOUND);
  });

  test('with equal weights everybody has one turn after another', async () => {
    const group = await open({ sockets: 5, policy: 'weighted', weight: 7 });
    const chosen = Array.from({ length: 12 }, (_, turn) => group.explain({ turn })!.chosen);
    expect(chosen).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
  });

  test('connections that stay are shared by weight under weighted, also after the weights have changed', async () => {
    const group = await open({ sockets: WEIGHTS.length, policy: 'weighted', backlog: 1000 });
    for (const [slot, weight] of WEIGHTS.entries()) group.setOption('weight', weight, slot);
    const counts = () => group.stats().sockets.map(({ connections }) => connections);
    scene.connect(group, 5 * ALL_OF_THEM);
    WEIGHTS.forEach((weight, slot) => {
      expect(Math.abs(counts()[slot]! - 5 * weight)).toBeLessThanOrEqual(1);
    });

    const reversed = [...WEIGHTS].reverse();
    for (const [slot, weight] of reversed.entries()) group.setOption('weight', weight, slot);
    scene.connect(group, 25 * ALL_OF_THEM);
    reversed.forEach((weight, slot) => {
      expect(Math.abs(counts()[slot]! - 30 * weight)).toBeLessThanOrEqual(1);
    });
  });
});

// --- sticky ---

describe('sticky', () => {
  const SOURCES = 400;

  async function openSticky(): Promise<SocketGroup> {
    const group = await open({ sockets: 5, policy: 'sticky', backlog: 100 });
    for (const [slot, weight] of [2, 1, 1, 3, 1].entries()) group.setOption('weight', weight, slot);
    return group;
  }

  /** Who gets the clients of each source, whatever else their connections bring. */
  function owners(group: SocketGroup): number[] {
    const random = randomFrom(7);
    return Array.from({ length: SOURCES }, (_, number) => {
      const source = Math.imul(number, 0x9e3779b9) >>> 0;
      const answers = [0, 1].map(
        () => group.explain({ source, hash: random.word(), turn: random.word(), cpu: 0 })!.chosen,
      );
      expect(answers[1]).toBe(answers[0]);
      return answers[0]!;
    });
  }

  const LEAVINGS = [
    {
      what: 'disabled and enabled again',
      leave: async (group: SocketGroup) => group.setOption('enabled', false, 3),
      comeBack: async (group: SocketGroup) => group.setOption('enabled', true, 3),
    },
    {
      what: 'removed and filled again',
      leave: (group: SocketGroup) => group.remove(3),
      comeBack: (group: SocketGroup) => group.add({ slot: 3, weight: 3 }),
    },
  ];
  test.each(named(LEAVINGS, ({ what }) => `a slot that is ${what} gives up its clients, and no others move`))(
    '%s',
    async (_, { leave, comeBack }) => {
      const group = await openSticky();
      const before = owners(group);
      expect(new Set(before)).toEqual(new Set([0, 1, 2, 3, 4]));

      await leave(group);
      const meanwhile = owners(group);
      before.forEach((owner, source) => {
        if (owner === 3) expect(meanwhile[source]).not.toBe(3);
        else expect(meanwhile[source]).toBe(owner);
      });
      // They are shared out, and not one slot's burden.
      expect(new Set(meanwhile.filter((_, source) => before[source] === 3)).size).toBe(4);

      await comeBack(group);
      expect(owners(group)).toEqual(before);
    },
  );

  test('a client comes to the same worker from any port, as long as that has room', async () => {
    const group = await openSticky();
    const { port } = group.address;
    const clients: Socket[] = [];
    const places = new Set<number>();
    try {
      for (let host = 2; host < 14; host++) {
        const before = queues(group);
        for (let count = 0; count < 3; count++) {
          const client = connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${host}` });
          clients.push(client);
          await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject));
        }
        const grown = queues(group).map((queue, slot) => queue - before[slot]!);
        expect([...grown].sort()).toEqual([0, 0, 0, 0, 3]);
        places.add(grown.indexOf(3));
      }
    } finally {
      for (const client of clients) client.destroy();
    }
    expect(places.size).toBeGreaterThan(1);
  });
});

// --- local-cpu ---

describe('local-cpu', () => {
  /** Slots 1 and 3 are on CPU 1, 0 and 2 on CPU 0, and 4 on none. */
  async function openPlaced(options: Partial<OpenOptions> = {}): Promise<SocketGroup> {
    const group = await open({ sockets: 5, policy: 'local-cpu', backlog: 3, ...options });
    for (const [slot, cpu] of [0, 1, 0, 1, -1].entries()) group.setOption('cpu', cpu, slot);
    return group;
  }
  const chosenOn = (group: SocketGroup, cpu: number, turns = 4) =>
    Array.from({ length: turns }, (_, turn) => group.explain({ cpu, turn })!.chosen);

  test('the slots of a CPU take turns, and where nobody is placed, all do', async () => {
    const group = await openPlaced();
    expect(chosenOn(group, 0)).toEqual([0, 2, 0, 2]);
    expect(chosenOn(group, 1)).toEqual([1, 3, 1, 3]);
    expect(chosenOn(group, 2, 6)).toEqual([0, 1, 2, 3, 4, 0]);
    expect(chosenOn(group, 5000, 2)).toEqual([0, 1]);
  });

  test('a slot that is disabled or moved to another CPU has no turn there', async () => {
    const group = await openPlaced();
    group.setOption('enabled', false, 1);
    group.setOption('cpu', 1, 4);
    expect(chosenOn(group, 1)).toEqual([3, 4, 3, 4]);
    group.setOption('enabled', false, 3);
    group.setOption('cpu', -1, 4);
    expect(chosenOn(group, 1)).not.toContain(1);
    expect(chosenOn(group, 1)).not.toContain(3);
  });

  test("a CPU's slots take what comes there for as long as they have room, also while others have less to do", async () => {
    const group = await openPlaced();
    for (let waiting = 0; waiting <= 3; waiting++) {
      for (const turn of [0, 1]) expect([1, 3]).toContain(group.explain({ cpu: 1, turn })!.chosen);
      for (const slot of [1, 3]) await onlySlot(group, slot, () => scene.connect(group, 1));
    }
    expect(queues(group)).toEqual([0, 4, 0, 4, 0]);
    for (const chosen of chosenOn(group, 1)) expect([0, 2, 4]).toContain(chosen);
  });
});

// --- least-connections ---

describe.each(READ_BY)('least-connections, listeners read by %s', (readBy) => {
  const loads = (group: SocketGroup) => look(group).map(({ load }) => load);
  const openCounted = () => open({ sockets: 3, policy: 'least-connections', backlog: 20, readBy });

  interface Connection {
    client: Socket;
    server: number;
  }

  async function connection(group: SocketGroup, slot: number): Promise<Connection> {
    const client = connect({ port: group.address.port, host: '127.0.0.1', allowHalfOpen: true });
    client.on('error', () => {});
    await onlySlot(group, slot, () => new Promise((resolve) => client.once('connect', resolve)));
    const server = await until('the connection is queued', () => testing().acceptMany(group.fd(slot), 1)[0]);
    return { client, server };
  }

  const ENDINGS: { what: string; isLive: boolean; ends: (connection: Connection) => unknown }[] = [
    {
      what: 'whose client has closed its side only is counted',
      isLive: true,
      ends: ({ client, server }) => {
        client.end();
        return until('the server hears of it', () => testing().receive(server).ended);
      },
    },
    {
      what: 'that both sides have closed, the client first, is not counted',
      isLive: false,
      ends: async ({ client, server }) => {
        client.end();
        await until('the server hears of it', () => testing().receive(server).ended);
        closeSync(server);
      },
    },
    {
      what: 'that the server has closed is not counted',
      isLive: false,
      ends: ({ server }) => closeSync(server),
    },
    {
      what: 'that the server has reset is not counted',
      isLive: false,
      ends: ({ server }) => testing().closeMany([server]),
    },
    {
      what: 'that the client has reset is not counted',
      isLive: false,
      ends: async ({ client, server }) => {
        client.resetAndDestroy();
        await until('the server hears of it', () => testing().receive(server).error);
        closeSync(server);
      },
    },
  ];
  test.each(named(ENDINGS, ({ what }) => `a connection ${what}`))('%s', async (_, { isLive, ends }) => {
    const group = await openCounted();
    const other = await connection(group, 2);
    const ending = await connection(group, 1);
    try {
      expect(loads(group)).toEqual([0, 1, 1]);
      await ends(ending);
      expect(loads(group)).toEqual([0, isLive ? 1 : 0, 1]);
    } finally {
      for (const { client } of [other, ending]) client.destroy();
      testing().closeMany(isLive ? [other.server, ending.server] : [other.server]);
    }
  });

  test('the one with the fewest gets the next, whatever its weight', async () => {
    const group = await openCounted();
    group.setOption('weight', 2, 1);
    const clients = scene.connect(group, 9);
    expect(clients.established).toBe(9);
    expect(loads(group)).toEqual([3, 3, 3]);

    // Taken from the queue they are as many as before.
    const taken = scene.acceptAll(group);
    expect(loads(group)).toEqual([3, 3, 3]);

    for (const fd of taken[2]!) scene.close(fd);
    await until('they are no longer counted', () => loads(group)[2] === 0);
    for (let turn = 0; turn < 6; turn++) expect(group.explain({ turn })!.chosen).toBe(2);
  });

  test("connections from before the policy are nobody's, also when they end", async () => {
    const group = await open({ sockets: 2, policy: 'hash', backlog: 20, readBy });
    const early = scene.connect(group, 6);
    expect(early.established).toBe(6);
    group.setOption('policy', 'least-connections');
    expect(loads(group)).toEqual([0, 0]);
    scene.connect(group, 4);
    expect(loads(group)).toEqual([2, 2]);
    for (const fds of scene.acceptAll(group)) expect(fds.length).toBeGreaterThan(0);
    testing().closeMany(early.fds);
    await until('all of them have ended', () => early.count('established') === 0);
    expect(loads(group)).toEqual([2, 2]);
  });
});
