// A program that is a cluster itself: its primary distributes what the worker's listener accepts.
import cluster from 'node:cluster';
import { createServer } from 'node:http';

if (cluster.isPrimary) {
  for (let index = 0; index < 2; index++) cluster.fork();
} else {
  createServer((_request, response) => {
    response.setHeader('connection', 'close');
    response.end(JSON.stringify({ pid: process.pid, primary: process.ppid }));
  }).listen(process.env.PORT);
}
