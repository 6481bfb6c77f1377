/** The benchmark's desk, with workers that say what the test wants, in pieces as it wants. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Desk } from '../../bench/service/desk.js';
import { until } from '../support/until.js';

let folder: string;
let desk: Desk;
let sockets: Socket[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spw-'));
  desk = await Desk.open(folder);
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await desk.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Connects, and keeps what it is told. */
async function comes(...lines: object[]): Promise<{ socket: Socket; told: string }> {
  const socket = connect(desk.env.BENCH_DESK as string);
  sockets.push(socket);
  const worker = { socket, told: '' };
  socket.setEncoding('utf8').on('data', (text: string) => {
    worker.told += text;
  });
  await once(socket, 'connect');
  for (const line of lines) socket.write(`${JSON.stringify(line)}\n`);
  return worker;
}

const hello = (id: string) => ({ id, pid: Number.parseInt(id, 10), thread: id.includes('.') });
const LISTENS = { listening: true };

const ids = () => desk.workers().map(({ id }) => id);

test('a worker counts while it listens and is connected', async () => {
  const { socket } = await comes(hello('11'));
  await comes(hello('12.3'), LISTENS);
  await desk.untilListening(1);
  expect(desk.workers()).toMatchObject([{ id: '12.3', pid: 12, thread: true }]);

  socket.write(`${JSON.stringify(LISTENS)}\n`);
  await desk.untilListening(2);
  expect(ids()).toEqual(['11', '12.3']);
  expect(desk.workers()[0]).toMatchObject({ id: '11', pid: 11, thread: false });

  socket.write(`${JSON.stringify({ listening: false })}\n`);
  await desk.untilListening(1);
  expect(ids()).toEqual(['12.3']);

  sockets[1]?.destroy();
  await desk.untilListening(0);
  expect(desk.workers()).toEqual([]);
});

test('lines may come in any pieces', async () => {
  const { socket } = await comes();
  const text = Buffer.from(`${JSON.stringify(hello('7'))}\n${JSON.stringify(LISTENS)}\n`);
  for (const byte of text) {
    socket.write(Buffer.of(byte));
    await new Promise(setImmediate);
  }
  await desk.untilListening(1);
  expect(ids()).toEqual(['7']);
});

test('orders go to that worker alone, one line each', async () => {
  const first = await comes(hello('1'), LISTENS);
  const second = await comes(hello('2'), LISTENS);
  await desk.untilListening(2);
  const worker = desk.workers().find(({ id }) => id === '2');
  worker?.block('spin', 200);
  worker?.serveIn(5);
  await until('both orders have come', () => second.told.split('\n').length > 2);
  expect(
    second.told
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([{ block: { how: 'spin', ms: 200 } }, { serveIn: 5 }]);
  expect(first.told).toBe('');
});

test('who has gone is told nothing, and nothing breaks', async () => {
  await comes(hello('1'), LISTENS);
  await desk.untilListening(1);
  const [worker] = desk.workers();
  sockets[0]?.destroy();
  await desk.untilListening(0);
  worker?.block('spin', 1);
});

test('a wait for a count of workers that does not come says how many there were', async () => {
  await comes(hello('5'), LISTENS);
  await desk.untilListening(1);
  await expect(desk.untilListening(3, 20)).rejects.toThrow('after 20 ms 1 workers listen (5), and not 3');
  await expect(desk.untilListening(0, 20)).rejects.toThrow('after 20 ms 1 workers listen (5), and not 0');
});

test('a wait ends with the desk, which may be closed twice', async () => {
  const waiting = desk.untilListening(1);
  const ended = expect(waiting).rejects.toThrow('the desk was closed');
  await desk.close();
  await desk.close();
  await ended;
});

test('a folder whose path is too long for a Unix socket is refused', async () => {
  await expect(Desk.open(join(folder, 'x'.repeat(110)))).rejects.toThrow('has 107 bytes at most');
});
