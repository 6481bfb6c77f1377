/**
 * A worker thread that keeps a number of clients going at once until it is told to stop. Each says something and waits
 * for an answer; how it ended is told as `{ 'phase: outcome': count }`, with the phase at its start.
 *
 * - `served`: it heard "served" and the end;
 * - `unserved`: the end came before that;
 * - `dropped`: no answer to its SYN for so long that it would have come;
 * - otherwise the code of an error.
 *
 * workerData: the port, the addresses to call in turn, how many clients at once, and `shared`: two 32-bit numbers, the
 * phase and how many clients have begun in it.
 */
import { connect } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

/** Milliseconds: a handshake on loopback is over within connect(2); a repeated SYN comes after a second. */
const PATIENCE = 60;

const { port, addresses, atOnce, shared } = workerData;
const counts = {};
let stopped = false;
let begun = 0;
let running = 0;

function start() {
  const phase = Atomics.load(shared, 0);
  running++;
  const client = connect({ port, host: addresses[begun++ % addresses.length], autoSelectFamily: false });
  Atomics.add(shared, 1, 1);
  let text = '';
  let outcome;
  const patience = setTimeout(() => {
    outcome = 'dropped';
    client.destroy();
  }, PATIENCE);
  client.setEncoding('latin1');
  client.on('connect', () => {
    clearTimeout(patience);
    client.write('hello');
  });
  client.on('data', (piece) => {
    text += piece;
  });
  client.on('end', () => {
    outcome ??= text === 'served' ? 'served' : 'unserved';
  });
  client.on('error', ({ code }) => {
    outcome ??= code;
  });
  client.on('close', () => {
    clearTimeout(patience);
    const key = `${phase}: ${outcome}`;
    counts[key] = (counts[key] ?? 0) + 1;
    running--;
    if (!stopped) setImmediate(start);
    else if (running === 0) {
      parentPort.postMessage(counts);
      parentPort.close();
    }
  });
}

parentPort.on('message', () => {
  stopped = true;
});
for (let count = 0; count < atOnce; count++) start();
