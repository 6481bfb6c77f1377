/**
 * A worker thread that connects again and again, one client at a time, until it is told to stop, and tells how every
 * connection ended: `{ state: count }`. A client whose SYN was dropped counts as `inProgress`.
 *
 * workerData: the addon's path, a target, and `progress`: two shared 32-bit numbers, how many clients have connected
 * and how many the other side has taken out of the queues. The thread stays at most `ahead` before the other side.
 */
import { createRequire } from 'node:module';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

const { addon, target, progress, ahead } = workerData;
const testing = createRequire(import.meta.url)(addon);
const counts = {};
let stopped = false;

parentPort.on('message', () => {
  stopped = true;
});
while (!stopped) {
  if (Atomics.load(progress, 0) - Atomics.load(progress, 1) < ahead) {
    const [{ state }] = testing.connectMany({ ...target, count: 1, hold: false });
    counts[state] = (counts[state] ?? 0) + 1;
    Atomics.add(progress, 0, 1);
  }
  await nextTurn();
}
parentPort.postMessage(counts);
parentPort.close();
