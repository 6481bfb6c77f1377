/**
 * A server of lines that keeps every connection. It greets each with `{ pid, open, at }`: how many there are now in this
 * process, and when it came, in nanoseconds of CLOCK_MONOTONIC. A line says what is to be done: `bye` ends the
 * connection, `spin MILLISECONDS` lets the event loop stand still. With KEEP_MS every connection ends by itself.
 */
import { createServer } from 'node:net';

const keep = process.env.KEEP_MS;
let open = 0;

const server = createServer((client) => {
  open++;
  client.on('close', () => {
    open--;
  });
  client.on('error', () => {});
  client.setEncoding('latin1');
  client.write(`${JSON.stringify({ pid: process.pid, open, at: String(process.hrtime.bigint()) })}\n`);
  client.on('data', (text) => {
    const [word, number] = text.trim().split(' ');
    if (word === 'bye') client.destroySoon();
    if (word === 'spin') {
      const end = performance.now() + Number(number);
      while (performance.now() < end);
    }
  });
  if (keep !== undefined) setTimeout(() => client.destroySoon(), Number(keep));
});
server.listen(process.env.PORT);
