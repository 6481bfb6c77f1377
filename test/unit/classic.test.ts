import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../bench/load/random.js';
import {
  buildClassicProgram,
  type ClassicEntry,
  INDEX_OF_NO_SOCKET,
  MAX_INSTRUCTIONS,
} from '../../lib/group/classic.js';
import { type NativeSocket, native } from '../../lib/native.js';
import { decode, faultsOf, run } from '../support/classic-interpreter.js';

const LARGEST_GROUP = 1024;

const range = (length: number) => Array.from({ length }, (_, index) => index);
const all = (count: number, weight = 1) => range(count).map((index) => ({ index, weight }));
const everySecond = (count: number) => range(count).map((i) => ({ index: 2 * i, weight: i + 1 }));
const lengthOf = (entries: readonly ClassicEntry[]) => buildClassicProgram(entries).length / 2;
const sumOf = (entries: readonly ClassicEntry[]) => entries.reduce((sum, { weight }) => sum + weight, 0);

/** Weight per index, as an object that compares well. */
function wanted(entries: readonly ClassicEntry[]): Record<number, number> {
  const shares: Record<number, number> = {};
  for (const { index, weight } of entries) if (weight > 0) shares[index] = (shares[index] ?? 0) + weight;
  return shares;
}

/** How often each index comes out when the random number takes every value below the sum of all weights once. */
function found(program: Uint32Array, sum: number): Record<number, number> {
  const instructions = decode(program);
  const shares: Record<number, number> = {};
  for (let r = 0; r < sum; r++) {
    const index = run(instructions, r);
    shares[index] = (shares[index] ?? 0) + 1;
  }
  return shares;
}

function expectExactShares(entries: readonly ClassicEntry[]): void {
  const program = buildClassicProgram(entries);
  expect(faultsOf(program)).toEqual([]);
  expect(found(program, sumOf(entries))).toEqual(wanted(entries));
}

/** Entries as groups have them: some slots left out, weights that repeat in stretches, in any order. */
function randomEntries(random: Random, count: number): ClassicEntry[] {
  const entries: ClassicEntry[] = [];
  let weight = 1;
  for (let index = random.between(0, 3); entries.length < count; index++) {
    if (random.between(0, 4) === 0) weight = random.between(0, 12);
    if (random.between(0, 9) > 0) entries.push({ index, weight });
  }
  entries.push({ index: 2000, weight: 1 });
  return entries.sort(() => random.between(0, 1) - 0.5);
}

/**
 * `length` is the number of instructions. With more than one index to choose from, two of them make the random number.
 */
const SHAPES: readonly { title: string; entries: readonly ClassicEntry[]; length: number }[] = [
  { title: 'one socket: a constant', entries: [{ index: 5, weight: 3 }], length: 1 },
  {
    title: 'one socket that is not the only entry',
    entries: [...all(4, 0), { index: 9, weight: 2 }],
    length: 1,
  },
  { title: 'two sockets: one comparison', entries: all(2), length: 5 },
  { title: 'all sockets of a small group', entries: all(3), length: 3 },
  { title: 'all sockets of the largest group', entries: all(LARGEST_GROUP), length: 3 },
  { title: 'all sockets, any equal weight', entries: all(LARGEST_GROUP, 10), length: 4 },
  { title: 'all sockets but the first', entries: all(64).slice(1), length: 4 },
  { title: 'all sockets, out of order', entries: all(64).reverse(), length: 3 },
  { title: 'one socket left out', entries: all(64).filter(({ index }) => index !== 20), length: 7 },
  {
    title: 'one socket disabled',
    entries: all(64).map((e) => (e.index === 20 ? { ...e, weight: 0 } : e)),
    length: 7,
  },
  { title: 'two runs of different weight', entries: [...all(8, 2), ...all(16, 5).slice(8)], length: 9 },
  {
    title: 'a run behind a single socket',
    entries: [{ index: 0, weight: 4 }, ...all(8, 2).slice(4)],
    length: 8,
  },
  { title: 'an index given twice', entries: [...all(4), { index: 2, weight: 1 }], length: 7 },
];

describe('buildClassicProgram', () => {
  it.each(SHAPES)('chooses exactly by weight: $title', ({ entries, length }) => {
    expectExactShares(entries);
    expect(lengthOf(entries)).toBe(length);
  });

  it('chooses exactly by weight for any list', () => {
    const random = seededRandom(4);
    for (let round = 0; round < 300; round++)
      expectExactShares(randomEntries(random, random.between(1, 300)));
  });

  it('chooses exactly by weight among 1,024 sockets that all differ in weight', () => {
    expectExactShares(everySecond(LARGEST_GROUP));
  });

  it.each([
    { distance: 253, segments: 254, farJumps: [] },
    { distance: 255, segments: 256, farJumps: [] },
    { distance: 256, segments: 254, run: 50, farJumps: [256] },
    { distance: 257, segments: 258, farJumps: [257] },
  ])('jumps over the $distance instructions of the lower half', ({ segments, run: runAt, farJumps }) => {
    const entries = range(segments).flatMap((i) =>
      range(i === runAt ? 3 : 1).map((step) => ({ index: 8 * i + step, weight: i + 1 })),
    );
    const jumps = decode(buildClassicProgram(entries)).filter(({ code }) => code === 0x05);
    expect(jumps.map(({ k }) => k)).toEqual(farJumps);
    expectExactShares(entries);
  });

  it('treats random numbers beyond the sum like those below it', () => {
    const random = seededRandom(5);
    const entries = randomEntries(random, 200);
    const instructions = decode(buildClassicProgram(entries));
    for (let round = 0; round < 1000; round++) {
      const r = random.word();
      expect(run(instructions, r)).toBe(run(instructions, r % sumOf(entries)));
    }
  });

  it('calculates with the whole width of 32 bits', () => {
    const heavy = 2 ** 30;
    const entries = [
      { index: 3, weight: heavy },
      { index: INDEX_OF_NO_SOCKET, weight: heavy },
      { index: 7, weight: heavy },
      { index: 8, weight: heavy - 1 },
    ];
    const program = buildClassicProgram(entries);
    const instructions = decode(program);
    const at = (r: number) => run(instructions, r);
    expect(faultsOf(program)).toEqual([]);
    expect([at(0), at(heavy), at(2 * heavy), at(3 * heavy - 1)]).toEqual([3, 7, 8, INDEX_OF_NO_SOCKET]);
    expect([at(heavy - 1), at(2 * heavy - 1), at(3 * heavy - 2), at(4 * heavy - 2)]).toEqual([
      3,
      7,
      8,
      INDEX_OF_NO_SOCKET,
    ]);
    expect(at(4 * heavy - 1), 'the sum itself starts anew').toBe(3);
  });

  it.each([
    { title: 'an empty list', entries: [] },
    { title: 'no weight above 0', entries: all(3, 0) },
    { title: 'a negative index', entries: [{ index: -1, weight: 1 }] },
    { title: 'a broken index', entries: [{ index: 0.5, weight: 1 }] },
    { title: 'a negative weight', entries: [{ index: 0, weight: -1 }] },
    { title: 'a weight that is no number', entries: [{ index: 0, weight: Number.NaN }] },
    { title: 'a sum wider than 32 bits', entries: all(2, 2 ** 31) },
    { title: 'more sockets than a program can tell apart', entries: everySecond(2048) },
  ])('refuses $title', ({ entries }) => {
    expect(() => buildClassicProgram(entries)).toThrow(RangeError);
  });
});

describe('the length of a program', () => {
  const WORST = 2052;

  it('is at most 2,052 instructions for up to 1,024 sockets that cannot be taken together', () => {
    const lengths = range(LARGEST_GROUP).map((i) => lengthOf(everySecond(i + 1)));
    expect(Math.max(...lengths)).toBe(WORST);
    expect(lengths.at(-1)).toBe(WORST);
    expect(WORST).toBeLessThan(MAX_INSTRUCTIONS);
  });

  it('is shorter wherever sockets can be taken together, for every regular length of runs', () => {
    for (let count = 2; count <= LARGEST_GROUP; count++) {
      // Behind every run a gap, and a weight of its own: nothing else can be taken together.
      const entries = range(LARGEST_GROUP).map((i) => {
        const nth = Math.floor(i / count);
        return { index: i + nth + 1, weight: nth + 2 };
      });
      expect(lengthOf(entries), `runs of ${count}`).toBeLessThanOrEqual(WORST);
    }
  });

  it('is no longer for any mixture', () => {
    const random = seededRandom(6);
    for (let round = 0; round < 300; round++) {
      expect(lengthOf(randomEntries(random, LARGEST_GROUP - 1))).toBeLessThanOrEqual(WORST);
    }
  });
});

/** Listeners on one loopback port, in the order of their indices in the kernel's group. */
function openListeners(count: number): NativeSocket[] {
  const { Socket, constants } = native();
  const listeners: NativeSocket[] = [];
  for (let index = 0; index < count; index++) {
    const listener = new Socket('create', 4);
    listeners.push(listener);
    listener.setInt(constants.SOL_SOCKET!, constants.SO_REUSEPORT!, 1);
    listener.bind('127.0.0.1', listeners[0]!.localEndpoint().port, 4);
    listener.listen(511);
  }
  return listeners;
}

async function connectTo(port: number, count: number): Promise<Socket[]> {
  const clients = range(count).map(() => connect({ host: '127.0.0.1', port }));
  await Promise.all(clients.map((client) => once(client, 'connect')));
  return clients;
}

async function closeAll(clients: readonly Socket[], listeners: readonly NativeSocket[]): Promise<void> {
  const closed = clients.map((client) => once(client, 'close'));
  for (const client of clients) client.destroy();
  await Promise.all(closed);
  for (const listener of listeners) listener.close();
}

/** Attaches the program of `entries` to a fresh group and returns the accept queue of each socket after connecting. */
async function queuesAfter(
  entries: readonly ClassicEntry[],
  sockets: number,
  connections: number,
): Promise<number[]> {
  const listeners = openListeners(sockets);
  let clients: Socket[] = [];
  try {
    listeners[0]!.attachClassic(buildClassicProgram(entries));
    clients = await connectTo(listeners[0]!.localEndpoint().port, connections);
    return listeners.map((listener) => listener.acceptQueue()!.length);
  } finally {
    await closeAll(clients, listeners);
  }
}

const indicesOf = (queues: readonly number[]) => [...queues.keys()].filter((index) => queues[index]! > 0);
const total = (queues: readonly number[]) => queues.reduce((sum, length) => sum + length, 0);

/** Bytes that the kernel's translation of the longest program takes, rounded up. */
const LONGEST_TRANSLATION = 32 * 1024;

function translationLimit(): number {
  return Number(readFileSync('/proc/sys/net/core/optmem_max', 'utf8'));
}

describe('in the kernel', () => {
  // With 200 connections, a socket with an eighth of the weight stays without any once in 10¹¹ runs.
  const CONNECTIONS = 200;

  it.each([
    { title: 'one socket', entries: [{ index: 2, weight: 1 }], sockets: 4, named: [2] },
    { title: 'a list', entries: everySecond(3), sockets: 6, named: [0, 2, 4] },
    { title: 'all', entries: all(4), sockets: 4, named: [0, 1, 2, 3] },
    { title: 'a run', entries: all(7).slice(3), sockets: 8, named: [3, 4, 5, 6] },
    { title: 'a weighted run', entries: all(6, 250).slice(2), sockets: 8, named: [2, 3, 4, 5] },
    {
      title: 'a run behind a list',
      entries: [{ index: 0, weight: 2 }, { index: 2, weight: 3 }, ...all(7, 2).slice(4)],
      sockets: 8,
      named: [0, 2, 4, 5, 6],
    },
  ])('connections land on the named sockets and on no other: $title', async ({ entries, sockets, named }) => {
    const queues = await queuesAfter(entries, sockets, CONNECTIONS);
    expect(indicesOf(queues)).toEqual(named);
    expect(total(queues)).toBe(CONNECTIONS);
  });

  it('takes the program for 1,024 sockets that all differ in weight, every second one of a group', async (context) => {
    const limit = translationLimit();
    if (limit < LONGEST_TRANSLATION)
      context.skip(`net.core.optmem_max is ${limit}: needs ${LONGEST_TRANSLATION}`);
    const queues = await queuesAfter(everySecond(LARGEST_GROUP), 2 * LARGEST_GROUP, CONNECTIONS);
    expect(indicesOf(queues).filter((index) => index % 2 === 1)).toEqual([]);
    expect(total(queues)).toBe(CONNECTIONS);
  });

  it('an index out of range makes the kernel choose by its own hash among all sockets', async () => {
    for (const index of [4, INDEX_OF_NO_SOCKET]) {
      const queues = await queuesAfter([{ index, weight: 1 }], 4, CONNECTIONS);
      expect(indicesOf(queues)).toEqual([0, 1, 2, 3]);
      expect(total(queues)).toBe(CONNECTIONS);
    }
  });

  it('a program can be replaced while connections come in', async () => {
    const listeners = openListeners(4);
    const clients: Socket[] = [];
    try {
      const port = listeners[0]!.localEndpoint().port;
      for (const index of [1, 3]) {
        listeners[2]!.attachClassic(buildClassicProgram([{ index, weight: 1 }]));
        clients.push(...(await connectTo(port, 10)));
      }
      expect(listeners.map((listener) => listener.acceptQueue()!.length)).toEqual([0, 10, 0, 10]);
    } finally {
      await closeAll(clients, listeners);
    }
  });
});
