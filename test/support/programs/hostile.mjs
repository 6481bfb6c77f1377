// A program that writes into its IPC channel what no program should, by the names of `deeds`: at its start, if an argument
// names one; otherwise it is a server that is told over HTTP.
import { readdirSync, readlinkSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';

const mine = (event, details) => process.send({ cmd: 'NODE_SPILLWAY', event, ...details });
/** Node passes on what is wrapped in a message with a handle. */
const wrapped = (type, handle) => process.send({ cmd: 'NODE_HANDLE', type, msg: 1 }, handle);

/** The channel and the listeners. */
const inherited = readdirSync('/proc/self/fd').filter((fd) => {
  try {
    return Number(fd) > 2 && readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
  } catch {
    return false;
  }
});

let sent = 0;

const deeds = {
  acknowledge: () => process.send({ cmd: 'NODE_HANDLE_ACK' }),
  garbage: () => {
    for (const fd of inherited) {
      try {
        writeSync(Number(fd), 'garbage\n');
      } catch {}
    }
  },
  type: (socket) => wrapped('nonsense', socket),
  server: (socket) => wrapped('net.Server', socket),
  handles: (socket) => {
    for (let i = 0; i < 50; i++) process.send(i, socket, { keepOpen: true }, () => sent++);
  },
  nothing: () => {
    for (const event of ['listening', 'closed', 'elsewhere', 'accepted', 'nonsense']) mine(event);
    for (const id of [-1, 1.5, '1', {}, 999]) mine('listening', { id });
    mine('closed', { id: 999 });
    for (const port of [-1, 65_536, 'x'.repeat(1000)]) mine('elsewhere', { port });
    for (let port = 1; port <= 20; port++) mine('elsewhere', { port });
  },
};

function begin(deed) {
  if (deed.length === 0) deed();
  else {
    const socket = connect(process.env.PORT, '127.0.0.1', () => deed(socket));
    socket.on('error', () => {});
  }
}

const server = createServer((request, response) => {
  const deed = deeds[request.url.slice(1)];
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT, sent }));
  if (deed) response.on('close', () => begin(deed));
});

const [atStart] = process.argv.slice(2);
if (atStart) {
  begin(deeds[atStart]);
  setInterval(() => {}, 1000);
} else server.listen(process.env.PORT);
