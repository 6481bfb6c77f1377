// A cluster with the scheduling policy that is its argument, and perhaps a handler of SIGTERM, which shows in the code
// that it ends with. Its workers say who they are.
import cluster from 'node:cluster';
import { createServer } from 'node:net';

if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster[process.argv[2]];
  cluster.fork();
  if (process.argv[3] === 'handles SIGTERM')
    process.on('SIGTERM', () => {
      process.exitCode = 5;
    });
} else {
  createServer((socket) => socket.end(String(process.pid))).listen(process.env.PORT);
}
