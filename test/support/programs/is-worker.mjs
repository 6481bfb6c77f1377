// A child or thread of a worker: whether it thinks that it is one, and what the worker's port is to it.
// Argument: the module that has the object `worker`.
import { createServer } from 'node:net';
import { parentPort } from 'node:worker_threads';

const { worker } = await import(process.argv[2]);
const report = (listening) => {
  const seen = { isWorker: worker.isWorker, listening };
  if (parentPort) parentPort.postMessage(seen);
  else process.send(seen, () => process.disconnect());
};
const server = createServer();
server.on('error', ({ code }) => report(code));
server.listen(process.env.PORT, '127.0.0.1', () => server.close(() => report('listens')));
