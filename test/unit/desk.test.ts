/** The master's desk towards workers that do not keep to the protocol. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { Desk, type Reply } from '../../lib/serve/desk.js';
import type { Question } from '../../lib/serve/protocol.js';
import { until } from '../support/until.js';

/** Milliseconds that these desks have. */
const PATIENCE = 150;

const KEYS = { ticketKeys: 'keys' };
const QUESTION = { ask: 'listener', address: '127.0.0.1', family: 4, port: 8080, v6Only: false, nth: 0 };

const cleanUps: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
});

/** One whose only worker is this process. */
async function open(answer: () => Promise<Reply> = async () => ({ answer: KEYS })) {
  const heard: Question[] = [];
  const desk = await Desk.open(
    (pid) => pid === process.pid,
    (question) => {
      heard.push(question);
      return answer();
    },
    PATIENCE,
  );
  cleanUps.push(() => desk.close());
  return { desk, heard };
}

/** A connection, and what has come on it. */
function talk(desk: Desk): { socket: Socket; text: () => string } {
  const socket = connect({ path: `\0${desk.name.slice(1)}`, allowHalfOpen: true });
  let text = '';
  socket.on('error', () => {});
  socket.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  cleanUps.push(() => socket.destroy());
  return { socket, text: () => text };
}

/** What comes back for that text. */
async function ask(desk: Desk, words: string) {
  const { socket, text } = talk(desk);
  socket.end(words);
  await once(socket, 'end');
  return JSON.parse(text());
}

test('its name fills the whole address, so that no second spelling of it is free', async () => {
  const { desk } = await open();
  expect(desk.name).toMatch(new RegExp(`^@spillway-${process.pid}-[0-9a-f]+$`));
  expect(desk.name).toHaveLength(108);
});

describe('what is no question is refused, and not acted on', () => {
  for (const words of [
    '',
    'no JSON',
    'null',
    '[]',
    '{}',
    '{"ask":"anything"}',
    '{"ask":"listener"}',
    ...[
      { port: -1 },
      { port: 65_536 },
      { port: '8080' },
      { address: 'localhost' },
      { address: '::' },
      { family: 6 },
      { family: 5 },
      { v6Only: 1 },
      { nth: 65 },
      { nth: 0.5 },
      { more: true },
    ].map((wrong) => JSON.stringify({ ...QUESTION, ...wrong })),
  ]) {
    test(words || 'nothing', async () => {
      const { desk, heard } = await open();
      expect(await ask(desk, words)).toEqual({
        error: { code: 'EPROTO', message: expect.stringMatching(/^no question: ./) },
      });
      expect(heard).toEqual([]);
    });
  }
});

test('what is one is answered', async () => {
  const { desk, heard } = await open();
  const questions = [
    QUESTION,
    { ...QUESTION, address: 'fe80::1%lo', family: 6, port: 0, nth: 64 },
    { ask: 'ticketKeys' },
  ];
  for (const question of questions) expect(await ask(desk, JSON.stringify(question))).toEqual(KEYS);
  expect(heard).toEqual(questions);
});

test('whoever goes on talking is cut off all the same', async () => {
  const { desk } = await open();
  const begin = performance.now();
  const { socket } = talk(desk);
  const timer = setInterval(() => socket.write(' '), 10);
  cleanUps.push(() => clearInterval(timer));
  await new Promise((resolve) => socket.once('close', resolve));
  expect(performance.now() - begin).toBeGreaterThanOrEqual(PATIENCE - 1);
  expect(performance.now() - begin).toBeLessThan(5000);
});

test('an answer that comes too late is given back', async () => {
  let undelivered = 0;
  const { desk } = await open(async () => {
    await delay(2 * PATIENCE);
    return { answer: KEYS, undelivered: () => undelivered++ };
  });
  const { socket, text } = talk(desk);
  socket.end(JSON.stringify(QUESTION));
  await once(socket, 'end');
  expect(text()).toBe('');
  await until('it has come back', () => undelivered === 1);
});

test('a process has only few connections at a time', async () => {
  const { desk } = await open();
  const talks = Array.from({ length: 10 }, () => talk(desk));
  const ended = talks.map(() => false);
  for (const [index, { socket }] of talks.entries())
    socket.on('end', () => {
      ended[index] = true;
    });
  await until('the rest have been hung up on', () => ended.filter(Boolean).length === 6);
  expect(ended.slice(0, 4)).toEqual([false, false, false, false]);
  talks[0]!.socket.end(JSON.stringify(QUESTION));
  await once(talks[0]!.socket, 'end');
  expect(JSON.parse(talks[0]!.text())).toEqual(KEYS);
  talks[0]!.socket.destroy();
  await until('there is room for another', async () => {
    const { socket, text } = talk(desk);
    socket.end(JSON.stringify(QUESTION));
    await new Promise((resolve) => socket.once('close', resolve));
    return text() !== '';
  });
});
