// What a child of a worker, or a thread in one, has of the worker's listener.
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { parentPort } from 'node:worker_threads';

const descriptors = readdirSync('/proc/self/fd').flatMap((fd) => {
  try {
    return [readlinkSync(`/proc/self/fd/${fd}`)];
  } catch {
    return [];
  }
});
const variables = Object.keys(process.env).filter((name) => /^LISTEN_|^SPILLWAY_LISTENERS$/.test(name));
const server = createServer();
const report = (listening) => {
  const seen = { descriptors, variables, execArgv: process.execArgv, listening };
  if (parentPort) parentPort.postMessage(seen);
  else process.send(seen, () => process.disconnect());
};
server.on('error', ({ code }) => report(code));
server.listen(process.env.PORT, () => server.close(() => report('listens')));
