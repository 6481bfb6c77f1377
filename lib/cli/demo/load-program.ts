/**
 * The demo's load, in a process of its own so that it does not share a thread with anybody it measures.
 *
 * Arrivals are scheduled (an open loop): a slow answer does not make the next request wait, as a slow server does not
 * keep strangers from coming. Every request is a new connection.
 */
import { request } from 'node:http';
import { type LoadOrder, type LoadReport, noCounts } from './load-protocol.js';

/** Milliseconds from a request's start until it is given up. */
const TIMEOUT = 5000;
/** Requests under way at one time, so that a server that hangs costs a bounded number of sockets. */
const MOST_UNDER_WAY = 500;
/** Milliseconds between two looks at the schedule. */
const LOOK_EVERY = 4;
/** Of what is due, so much of a second's load is sent at one look: when we were late, strangers would not have come all at once. */
const AT_ONCE = 0.01;
/** Milliseconds between two reports. */
const REPORT_EVERY = 100;

const counts = noCounts();
let underWay = 0;
let order: LoadOrder = { number: 0, send: null };
/** When the schedule began, and how many requests of it have been dealt with. */
let begun = 0;
let dealtWith = 0;

function sendDue(): void {
  if (!order.send) return;
  const { host, port, rate } = order.send;
  const due = Math.floor(((performance.now() - begun) / 1000) * rate);
  for (const last = Math.min(due, dealtWith + Math.ceil(rate * AT_ONCE)); dealtWith < last; dealtWith++) {
    if (underWay < MOST_UNDER_WAY) sendOne(host, port);
    else counts.skipped++;
  }
}

function sendOne(host: string, port: number): void {
  counts.sent++;
  underWay++;
  let ended = false;
  const end = (count: () => void) => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    count();
    underWay--;
    if (underWay === 0 && !order.send) report();
  };
  const failed = () => end(() => counts.failed++);
  const client = request({ host, port, agent: false }, (response) => {
    const worker = String(response.headers['x-worker'] ?? '?');
    response.on('error', failed).on('aborted', failed).resume();
    response.on('end', () => {
      if (response.statusCode !== 200) return failed();
      end(() => {
        counts.answered++;
        counts.byWorker[worker] = (counts.byWorker[worker] ?? 0) + 1;
      });
    });
  });
  const timer = setTimeout(() => {
    end(() => counts.timedOut++);
    client.destroy();
  }, TIMEOUT);
  client.on('error', failed).end();
}

let reported = '';

function report(): void {
  const message: LoadReport = { order: order.number, counts, underWay };
  const text = JSON.stringify(message);
  if (text === reported || !process.connected) return;
  reported = text;
  process.send?.(message);
}

process.on('message', (message: LoadOrder) => {
  order = message;
  begun = performance.now();
  dealtWith = 0;
  report();
});
// The demo ends this process; a Ctrl-C that reaches both of them is for the demo alone.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());
// The demo may have gone before anybody listened for it.
if (!process.connected) process.exit();
setInterval(sendDue, LOOK_EVERY);
setInterval(report, REPORT_EVERY);
