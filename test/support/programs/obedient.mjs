// A server that does what its messages say: closes, listens again in the form that is named, and tells what it saw.
import { lookup } from 'node:dns';
import { createServer } from 'node:http';
import { FORMS } from './listen-forms.mjs';

const answer = (_request, response) => {
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT }));
};
let server = createServer(answer);

const orders = {
  echo: ({ text }) => ({ text }),
  environment: () => ({ env: process.env, argv: process.argv.slice(2), execArgv: process.execArgv }),
  /** Stops accepting; answers when the server has emitted 'close'. */
  close: () => new Promise((resolve) => server.close(() => resolve({}))),
  /** A new server, by one of FORMS. */
  listen: ({ form, port }) => {
    server = createServer(answer);
    return listen(() => FORMS[form].call(server, port));
  },
  forms: () => ({ forms: Object.keys(FORMS) }),
  /** A new server, whose listen() has to resolve its host; it may be taken back at once. */
  resolve: ({ port, host, by }) => {
    server = createServer(answer);
    const abort = new AbortController();
    const events = [];
    return new Promise((resolve) => {
      // A name that is looked up after all would show within the turns that another look-up takes.
      const end = () => lookup('127.1', () => setImmediate(() => resolve({ events })));
      server.on('close', () => end(events.push('close')));
      server.on('error', ({ code }) => end(events.push(`error ${code}`)));
      server.listen({ port, host, signal: abort.signal }, () => events.push('callback'));
      server.on('listening', () => end(events.push('listening')));
      if (by === 'close') server.close();
      if (by === 'abort') abort.abort();
    });
  },
  /** The same server once more. */
  again: ({ port }) => listen(() => ({ returned: server.listen(port) })),
  /** A second server beside the first. */
  second: ({ port }) => {
    const other = createServer(answer);
    return new Promise((resolve) => {
      other.on('error', ({ code }) => resolve({ error: code }));
      other.listen(port, () => other.close(() => resolve({ error: null })));
    });
  },
  /** listen() while listening, on the same server. */
  twice: ({ port }) => {
    try {
      server.listen(port);
      return { error: null };
    } catch ({ code }) {
      return { error: code };
    }
  },
};

function listen(call) {
  return new Promise((resolve) => {
    const seen = { events: 0 };
    server.once('listening', () => {
      seen.events++;
      // Callbacks that were given to listen() are listeners of the same event: all have run after this turn.
      setImmediate(() => resolve({ ...seen, address: server.address() }));
    });
    server.once('error', ({ code }) => resolve({ error: code }));
    const { returned, callback, options, before } = call();
    seen.chained = returned === server;
    if (callback) seen.callback = callback;
    if (options) seen.untouched = JSON.stringify(options) === before;
  });
}

process.on('message', async ({ order, ...details }) => {
  process.send({ order, result: await orders[order](details) });
});

server.listen(process.env.PORT);
