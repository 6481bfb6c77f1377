// A worker with children of its own: each of them tells what it sees of the worker's listener.
import { fork } from 'node:child_process';
import { createServer } from 'node:net';
import { Worker } from 'node:worker_threads';

const server = createServer((socket) => socket.end());
server.listen(process.env.PORT, async () => {
  const look = new URL('look.mjs', import.meta.url);
  const forked = await new Promise((resolve) => fork(look, { stdio: 'inherit' }).on('message', resolve));
  const thread = await new Promise((resolve) => new Worker(look).on('message', resolve));
  process.send({ forked, thread });
});
