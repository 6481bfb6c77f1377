/**
 * Clients of programs/keeps.mjs that do what they like, as one process. PORT is where they go. Each order on the IPC
 * channel is answered when it has been carried out:
 *
 *   { act: steps, seed }   connects, ends in all ways and words to the server, at random; `{ greetings }` since the last one
 *   { join: count, stay }  as many clients, one after the other; each says goodbye when it is greeted, unless it stays
 *   { look: true }         `{ alive, waiting, order }`: clients whose connections nobody has ended; how many of those have
 *                          not been greeted; and when those that joined were, in their order
 *   { leave: true }        everybody goes
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';

const port = Number(process.env.PORT);
const MOST = 25;
/** Of this many steps the loop turns once, so that there is something to read. */
const STEPS_PER_TURN = 3;

const guests = new Set();
let joined = [];
let greetings = [];

/** A random generator that gives the same numbers for the same seed, from 0 to `most` (mulberry32). */
function randomFrom(seed) {
  let state = seed;
  return (most) => {
    state = (state + 0x6d2b79f5) | 0;
    let mix = Math.imul(state ^ (state >>> 15), 1 | state);
    mix = (mix + Math.imul(mix ^ (mix >>> 7), 61 | mix)) ^ mix;
    return ((mix ^ (mix >>> 14)) >>> 0) % (most + 1);
  };
}

function enter(polite = false) {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const guest = { socket, greeting: undefined };
  guests.add(guest);
  let text = '';
  socket.setEncoding('latin1');
  socket.on('data', (part) => {
    text += part;
    if (guest.greeting || !text.endsWith('\n')) return;
    guest.greeting = JSON.parse(text);
    greetings.push(guest.greeting);
    if (polite) socket.write('bye\n');
  });
  socket.on('end', () => socket.end());
  socket.on('close', () => guests.delete(guest));
  socket.on('error', () => {});
  return guest;
}

const DEEDS = [
  () => enter(),
  () => enter(),
  ({ socket }) => socket.end(),
  ({ socket }) => socket.resetAndDestroy(),
  ({ socket }) => socket.destroy(),
  ({ socket }) => socket.write('bye\n'),
  ({ socket }, random) => socket.write(`spin ${random(4)}\n`),
];

async function act(steps, seed) {
  const random = randomFrom(seed);
  for (let step = 0; step < steps; step++) {
    const all = [...guests].filter(({ socket }) => socket.writable && !socket.connecting);
    const deed = all.length === 0 ? 0 : random(DEEDS.length - 1);
    if (deed > 1 || guests.size < MOST) DEEDS[deed](all[random(Math.max(all.length - 1, 0))], random);
    if (step % STEPS_PER_TURN === 0) await turn();
  }
  const told = greetings;
  greetings = [];
  return { greetings: told };
}

async function join(count, stay) {
  joined = [];
  for (let index = 0; index < count; index++) {
    const guest = enter(!stay);
    joined.push(guest);
    await once(guest.socket, 'connect');
  }
  return {};
}

function look() {
  const all = [...guests].filter(({ socket }) => !socket.readableEnded && !socket.destroyed);
  return {
    alive: all.length,
    waiting: all.filter(({ greeting }) => !greeting).length,
    order: joined.map(({ greeting }) => greeting?.at ?? null),
  };
}

function leave() {
  for (const { socket } of guests) socket.destroy();
  return {};
}

process.on('message', async (order) => {
  const answer = order.act
    ? await act(order.act, order.seed)
    : order.join
      ? await join(order.join, order.stay)
      : order.look
        ? look()
        : leave();
  process.send(answer);
});
process.on('disconnect', () => process.exit());
