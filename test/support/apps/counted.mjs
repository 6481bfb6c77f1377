/**
 * Writes down every connection it has accepted, every request it has begun with and every one it has answered, at once
 * and in the file COUNT_LOG: what it had done is known however it ends.
 */
import { openSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { who } from './control.mjs';

/** Milliseconds that a request waits for something else, as most do. */
const WAIT = 5;
/** Of so many requests one keeps the processor, so that others queue behind it; for so many milliseconds. */
const BUSY_EVERY = 20;
const BUSY_FOR = 10;

// Appending is one step for the kernel, whoever else writes to the file (open(2), O_APPEND).
const log = openSync(process.env.COUNT_LOG, 'a');
const note = (event, what) => writeSync(log, `${event} ${process.pid} ${what}\n`);

let requests = 0;
const server = createServer(async (request, response) => {
  const id = request.headers['x-request'];
  note('began', id);
  response.on('finish', () => note('answered', id));
  if (++requests % BUSY_EVERY === 0) {
    const end = performance.now() + BUSY_FOR;
    while (performance.now() < end);
  }
  await delay(WAIT);
  response.end(JSON.stringify(who()));
});
server.on('connection', ({ remotePort }) => note('accepted', remotePort));
server.listen(process.env.PORT);
