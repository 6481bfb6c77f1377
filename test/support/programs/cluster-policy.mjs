// A cluster with the scheduling policy that is its argument. Its workers say who they are.
import cluster from 'node:cluster';
import { createServer } from 'node:net';

if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster[process.argv[2]];
  cluster.fork();
} else {
  createServer((socket) => socket.end(String(process.pid))).listen(process.env.PORT);
}
