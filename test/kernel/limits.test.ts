/**
 * Connections are counted, and limited, by the kernel (docs/limits.md). Scenarios:
 *
 *   what each slot has, at every rest point of a random sequence of connects, accepts and all kinds of ends
 *   a limit that is reached: silence, a refusal, the waiting list; and who comes when there is room again
 *   a limit that is set, lowered and taken away while connections are open
 *   a place that was promised to a client who never came
 *   a worker that is given one connection at a time
 *   the waiting list: order, length, who has gone, who takes from it and counts it as his
 *   queues of sockets that leave while everybody is at the limit
 */
import { closeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { native } from '../../lib/native.js';
import { named } from '../support/named.js';
import { ownNetwork } from '../support/network.js';
import { READ_BY, sum, useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();

const open = (options: Partial<OpenOptions>) =>
  scene.open({ selector: 'ebpf', countConnections: true, ...options });

const connections = (group: SocketGroup) => group.stats().sockets.map(({ connections }) => connections);
const promised = (group: SocketGroup) => group.stats().sockets.map(({ promised }) => promised);

/** A random generator that gives the same numbers for the same seed, from 0 to `most` (mulberry32). */
function randomFrom(seed: number) {
  let state = seed;
  return (most: number) => {
    state = (state + 0x6d2b79f5) | 0;
    let mix = Math.imul(state ^ (state >>> 15), 1 | state);
    mix = (mix + Math.imul(mix ^ (mix >>> 7), 61 | mix)) ^ mix;
    return ((mix ^ (mix >>> 14)) >>> 0) % (most + 1);
  };
}

describe.each(READ_BY)('counts, listeners read by %s', (readBy) => {
  test('are what there is at every rest point', async () => {
    const LIMITS = [3, 7, 0];
    const group = await open({ sockets: 3, policy: 'hash', backlog: 50, overflow: 'reset', readBy });
    for (const [slot, limit] of LIMITS.entries()) group.setOption('maxConnections', limit, slot);
    const random = randomFrom(11);
    /** Accepted connections, by slot. */
    const taken = LIMITS.map(() => [] as number[]);
    /** Those whose clients are still there. */
    let clients: number[] = [];
    let most = 0;

    for (let step = 0; step < 1500; step++) {
      const slot = random(2);
      const one = <T>(of: T[]): T | undefined => of.splice(random(Math.max(of.length - 1, 0)), 1)[0];
      switch (random(6)) {
        case 0:
        case 1: {
          const { address, port, family } = group.address;
          const started = testing().connectMany({ address, port, family, count: 1 + random(5) });
          for (const { fd, state } of started) {
            if (state === 'established') clients.push(scene.own(fd));
            else testing().closeMany([fd]);
          }
          break;
        }
        case 2:
          for (const fd of testing().acceptMany(group.fd(slot), 1 + random(3)))
            taken[slot]!.push(scene.own(fd));
          break;
        case 3: {
          const server = one(taken[slot]!);
          if (server !== undefined) scene.close(server);
          break;
        }
        case 4: {
          // By an RST: whatever it is to the server, it is over.
          const client = one(clients);
          if (client !== undefined) scene.close(client);
          break;
        }
        case 5: {
          const server = taken[slot]![0];
          if (server !== undefined) testing().shutdown(server);
          break;
        }
        default:
          clients = clients.filter((fd) => testing().receive(fd).error === undefined);
      }
      const counts = connections(group);
      LIMITS.forEach((limit, each) => {
        if (limit) expect(counts[each]! + promised(group)[each]!).toBeLessThanOrEqual(limit);
      });
      most = Math.max(most, ...counts.map(Number));
    }
    expect(most).toBeGreaterThan(LIMITS[1]!);

    for (const fds of taken) for (const fd of fds) scene.close(fd);
    for (const fd of clients) scene.close(fd);
    scene.acceptAll(group);
    scene.endConnections();
    await until('nothing is counted any more', () => sum(connections(group).map(Number)) === 0);
    expect(promised(group)).toEqual([0, 0, 0]);
  });
});

const OVERFLOWS = [
  { overflow: 'drop', state: 'inProgress', count: 'dropped' },
  { overflow: 'reset', state: 'ECONNREFUSED', count: 'reset' },
] as const;

describe('a limit', () => {
  test.each(named(OVERFLOWS, ({ overflow }) => `is kept when it is reached, by ${overflow}`))(
    '%s',
    async (_, { overflow, state, count }) => {
      const group = await open({ sockets: 2, maxConnections: 3, overflow });
      const clients = scene.connect(group, 10);
      expect(clients.established).toBe(6);
      expect(clients.count(state)).toBe(4);
      expect(connections(group)).toEqual([3, 3]);
      expect(group.stats()[count]).toBe(4);

      // Accepted they are as many.
      const [first] = scene.acceptAll(group);
      expect(scene.connect(group, 1).established).toBe(0);
      scene.close(first![0]!);
      expect(scene.connect(group, 2).established).toBe(1);
      expect(connections(group)).toEqual([3, 3]);
    },
  );

  test('of one slot leaves the others without one', async () => {
    const group = await open({ sockets: 2, policy: 'hash', backlog: 100 });
    group.setOption('maxConnections', 2, 1);
    expect(scene.connect(group, 40).established).toBe(40);
    expect(connections(group)).toEqual([38, 2]);
  });

  test('that is lowered closes nothing, and one that is taken away lets everybody in', async () => {
    const group = await open({ sockets: 1, maxConnections: 5, overflow: 'reset' });
    expect(scene.connect(group, 5).established).toBe(5);
    group.setOption('maxConnections', 2);
    expect(connections(group)).toEqual([5]);
    const taken = scene.accept(group.fd(0));
    for (const fd of taken.slice(0, 3)) scene.close(fd);
    expect(scene.connect(group, 1).established).toBe(0);
    scene.close(taken[3]!);
    expect(scene.connect(group, 2).established).toBe(1);
    group.setOption('maxConnections', 0);
    expect(scene.connect(group, 20).established).toBe(20);
  });

  test('counts what a fresh socket in the slot gets from the one before', async () => {
    const group = await open({ sockets: 2, maxConnections: 4, overflow: 'reset' });
    expect(scene.connect(group, 6).established).toBe(6);
    await group.replace(0);
    expect(sum(connections(group).map(Number))).toBe(6);
    expect(promised(group)).toEqual([0, 0]);
    expect(scene.connect(group, 4).established).toBe(2);
    expect(connections(group)).toEqual([4, 4]);
  });
});

test('with exclusiveHandover nobody is given a second connection before he has accepted the first', async () => {
  const group = await open({ sockets: 3, exclusiveHandover: true, overflow: 'reset' });
  expect(scene.connect(group, 5).established).toBe(3);
  expect(connections(group)).toEqual([1, 1, 1]);
  expect(scene.accept(group.fd(1))).toHaveLength(1);
  expect(scene.connect(group, 5).established).toBe(1);
  expect(connections(group)).toEqual([1, 2, 1]);
  group.setOption('exclusiveHandover', false);
  expect(scene.connect(group, 5).established).toBe(5);
});

describe('the waiting list', () => {
  const openList = (options: Partial<OpenOptions> = {}) =>
    open({ sockets: 1, maxConnections: 1, overflow: 'wait', waitLimit: 4, ...options });

  /** Takes what there is room for, as the worker of slot 0 would, until the test has ended. */
  function take(group: SocketGroup) {
    group.setWorker(0, { process: process.pid, helps: false });
    const claims = group.openClaims(0)!;
    const taken: number[] = [];
    const listener = testing().duplicate(group.waitingList!);
    const list = new (native().WaitingList)(listener, claims.sender, claims.receiver, (fd) => {
      taken.push(scene.own(fd));
    });
    list.start();
    return {
      taken,
      done(fd: number) {
        scene.close(fd);
        list.room();
      },
      end() {
        list.close();
        claims.end();
      },
    };
  }

  test('takes whom nobody has room for, and refuses more than it may hold', async () => {
    const group = await openList();
    const clients = scene.connect(group, 8);
    expect(clients.established).toBe(5);
    expect(clients.count('ECONNREFUSED')).toBe(3);
    const { waiting, waited, reset } = group.stats();
    expect(waiting).toMatchObject({ length: 4, halfOpen: 0 });
    expect([waited, reset]).toEqual([4, 3]);
    await until('the first one has waited', () => group.stats().waiting!.age >= 20);
  });

  test('is served first come first served, one at a time, each as soon as there is room', async () => {
    const group = await openList();
    const clients = scene.connect(group, 5);
    clients.say((index) => `${index}`);
    const worker = take(group);
    try {
      const [own] = scene.accept(group.fd(0));
      let server = own!;
      for (let served = 0; served < 5; served++) {
        expect(testing().receive(server).text).toBe(`${served}`);
        expect(connections(group)).toEqual([1]);
        expect(group.stats().waiting!.length).toBe(4 - served);
        worker.done(server);
        if (served === 4) break;
        await until('the next one is taken', () => worker.taken.length > served);
        server = worker.taken[served]!;
      }
      expect(connections(group)).toEqual([0]);
      expect(promised(group)).toEqual([0]);
    } finally {
      worker.end();
    }
  });

  test('keeps newcomers behind those who wait, also when somebody has room', async () => {
    const group = await openList();
    const early = scene.connect(group, 3);
    expect(early.established).toBe(3);
    const [own] = scene.accept(group.fd(0));
    scene.close(own!);
    // There is room, and nobody has come for those who wait.
    expect(connections(group)).toEqual([0]);
    expect(scene.connect(group, 1).established).toBe(1);
    expect(connections(group)).toEqual([0]);
    expect(group.stats().waiting!.length).toBe(3);
  });

  test('gives no place to clients that have gone', async () => {
    const group = await openList();
    const [first, second, third] = [1, 1, 1].map(() => scene.connect(group, 1));
    first!.say('first');
    third!.say('third');
    second!.close();
    const worker = take(group);
    try {
      const [own] = scene.accept(group.fd(0));
      worker.done(own!);
      await until('somebody is taken', () => worker.taken.length > 0);
      expect(testing().receive(worker.taken[0]!).text).toBe('third');
      expect(group.stats().waiting!.length).toBe(0);
    } finally {
      worker.end();
    }
  });

  test('is no longer than the kernel allows', async () => {
    await expect(openList({ waitLimit: 65535 })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: expect.stringContaining('waitLimit'),
    });
  });

  test('may come later, and be given up for another policy', async () => {
    const group = await open({ sockets: 1, maxConnections: 1, overflow: 'reset' });
    expect(scene.connect(group, 2).established).toBe(1);
    group.setOption('overflow', 'wait');
    expect(scene.connect(group, 2).established).toBe(2);
    expect(group.stats().waiting).toMatchObject({ length: 2 });
    group.setOption('overflow', 'reset');
    expect(scene.connect(group, 2).established).toBe(0);
  });

  test('is told of by its descriptor, and belongs to the group', async () => {
    const group = await openList();
    const fd = testing().duplicate(group.waitingList!);
    expect(native().socketKind(fd)).toMatchObject({ listening: true });
    closeSync(fd);
    group.close();
  });
});
