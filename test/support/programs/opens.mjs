/**
 * Listens where and when it is told to, and says that it is ready before it does. With `at=PORT,PORT` in its arguments it
 * begins with these, one after another, and is ready then; with `late=MS` it waits so long before each but the first.
 */
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const { at = '', late = '0' } = Object.fromEntries(process.argv.slice(2).map((each) => each.split('=')));
const servers = new Map();

/** Fulfilled with the address, or with the error's code and message. */
function listens(server, port, host) {
  return new Promise((resolve) => {
    server.once('error', ({ code, message }) => resolve({ code, message }));
    server.listen(port, host, () => resolve(server.address()));
  });
}

const orders = {
  open({ port, host = '127.0.0.1' }) {
    const server = createServer((_request, response) => {
      response.setHeader('connection', 'close');
      response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT }));
    });
    servers.set(port, server);
    return listens(server, port, host);
  },
  close: ({ port }) => new Promise((resolve) => servers.get(port).close(() => resolve({}))),
  /** Closes its server, and listens again with the same one: when it has closed, or at once. */
  reopen({ port, atOnce, host = '127.0.0.1' }) {
    const server = servers.get(port);
    if (!atOnce) return new Promise((done) => server.close(() => done(listens(server, port, host))));
    server.close();
    return orders.open({ port, host });
  },
  /** What no worker of ours would say. */
  say: ({ message }) => void process.send(message) ?? {},
};

process.on('message', async ({ order, ...details }) => {
  process.send({ order, result: await orders[order](details) });
});

for (const [index, port] of at.split(',').filter(Boolean).entries()) {
  if (index > 0) await delay(Number(late));
  await orders.open({ port: Number(port) });
}
process.send('ready');
