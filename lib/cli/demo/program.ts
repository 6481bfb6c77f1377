/**
 * The program the demo's workers run: plain Node, which knows nothing of Spillway. `node program.js` works as well.
 *
 * It tells which worker answers, and reports over Node's own IPC channel, where there is one, how many requests it has
 * answered. The message `{ slow: ms }` makes every request block it that long, as heavy computing would.
 */
import { createServer } from 'node:http';
import { page } from './page.js';

/** Milliseconds between two reports. */
const REPORT_EVERY = 250;

// The variable that process managers use for "which of the workers am I".
const name = process.env.NODE_APP_INSTANCE ?? '0';
let slow = 0;
let served = 0;
let reported = 0;

function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

const server = createServer((request, response) => {
  block(slow);
  served++;
  response.setHeader('x-worker', name);
  // One connection per request: a browser's reload may then come to another worker.
  response.setHeader('connection', 'close');
  if (request.headers.accept?.includes('text/html')) {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(page({ worker: name, pid: process.pid, served, slow }));
  } else {
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    response.end(`worker ${name}, process ${process.pid}: request ${served}\n`);
  }
});

process.on('message', (message: { slow?: unknown } | null) => {
  if (typeof message?.slow === 'number') slow = message.slow;
});

if (process.send) {
  // The demo ends its workers; a Ctrl-C that reaches all of them is for the demo alone.
  process.on('SIGINT', () => {});
  setInterval(() => {
    if (served === reported || !process.connected) return;
    process.send?.({ served });
    reported = served;
  }, REPORT_EVERY).unref();
}

server.listen(Number(process.env.PORT ?? 8080), process.env.HOST);
