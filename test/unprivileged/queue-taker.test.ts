/** What is taken from the queues of listeners that nobody accepts from, and what has to wait there. */
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { createConnection } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { SocketGroup } from '../../lib/group/group.js';
import { QueueTaker } from '../../lib/serve/queue-taker.js';
import { Limits } from '../support/descriptors.js';
import { until } from '../support/until.js';

const host = '127.0.0.1';
const COUNT = 5;

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** A listener with a queue, and a taker for it that has room when it is told so. */
async function scene(take: (fd: number) => void = () => {}) {
  const group = await SocketGroup.open({ host, sockets: 1, selector: 'none' });
  cleanUps.push(() => group.close());
  const seen = { room: 0, taken: [] as number[], errors: [] as Error[] };
  const taker = new QueueTaker({
    hasRoom: () => seen.taken.length < seen.room,
    take: (fd) => {
      take(fd);
      seen.taken.push(fd);
    },
    report: (error) => seen.errors.push(error),
  });
  cleanUps.push(
    () => {
      for (const fd of seen.taken) closeSync(fd);
    },
    () => taker.close(),
  );
  const clients = Array.from({ length: COUNT }, () => createConnection(group.address.port, host));
  for (const client of clients) client.on('error', () => {});
  cleanUps.push(() => {
    for (const client of clients) client.destroy();
  });
  await Promise.all(clients.map((client) => once(client, 'connect')));
  return { seen, queue: () => group.queue(0), watch: () => taker.only(new Map([[0, group.fd(0)]])) };
}

/** Lets the event loop poll for events several times. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

test('no more is taken than there is room for, and the rest when there is', async () => {
  const { seen, queue, watch } = await scene();
  seen.room = 2;
  watch();
  await until('two are taken', () => seen.taken.length === 2);
  await turns();
  expect([seen.taken.length, queue()]).toEqual([2, COUNT - 2]);
  seen.room = COUNT;
  await until('all are taken', () => seen.taken.length === COUNT);
  expect(seen.errors).toEqual([]);
});

for (const when of ['before it watches', 'while it watches'] as const) {
  test(`without a descriptor, ${when}, the queue waits until there is one`, async () => {
    const { seen, queue, watch } = await scene();
    const limits = new Limits();
    cleanUps.push(() => limits.end());
    if (when === 'while it watches') {
      watch();
      await turns();
    }
    await limits.lower();
    seen.room = COUNT;
    watch();
    await turns();
    expect([seen.taken.length, queue()]).toEqual([0, COUNT]);
    await limits.raise();
    await until('all are taken', () => seen.taken.length === COUNT);
    expect(seen.errors).toEqual([]);
  });
}

test('a connection that nobody takes is closed, and its error reported once', async () => {
  const { seen, queue, watch } = await scene(() => {
    throw new Error('not wanted');
  });
  seen.room = 1;
  watch();
  await until('all are gone', () => queue() === 0);
  expect(seen.errors.map(({ message }) => message)).toEqual(['not wanted']);
});
