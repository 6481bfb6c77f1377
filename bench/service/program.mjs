/**
 * The one program that every rival runs: a server as a user would write it, in HTTP/1.1 or in a protocol of lines, and
 * beside it a connection to the benchmark's desk, over which it can be made to stand still.
 *
 * Every answer is the id of the worker that gave it: its process id, in a worker thread `PID.THREAD`.
 *
 *   /                                answers
 *   /block?how=HOW&ms=MILLISECONDS   its event loop stands still for so long (blocking.ts), then it answers
 *
 * HTTP: these paths, in the body of an answer with status 200. Lines over TCP: a request is a line with such a path, the
 * answer a line with the id.
 *
 * Variables: PORT and HOST (127.0.0.1): where to listen; BENCH_FD: a descriptor to listen on instead; BENCH_BACKLOG
 * (511), as in listen(2); BENCH_REUSEPORT=1: with Node's own `reusePort`; BENCH_PROTOCOL: `http` or `tcp`;
 * BENCH_SERVICE_MS (0): how long every request's event loop sleeps before the answer; BENCH_DESK: the path of the desk's
 * Unix socket, without which it only serves.
 *
 * SIGTERM, and SIGINT (pm2's), end it as Node's own guides recommend: no new connections, idle ones closed, the rest
 * finished, at most 10 s.
 */
import { execSync } from 'node:child_process';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { createInterface } from 'node:readline';
import { isMainThread, threadId } from 'node:worker_threads';

const { env } = process;
const ID = isMainThread ? String(process.pid) : `${process.pid}.${threadId}`;
const END_WITHIN = 10_000;

let serveIn = Number(env.BENCH_SERVICE_MS ?? 0);

const never = new Int32Array(new SharedArrayBuffer(4));
const sleep = (milliseconds) => Atomics.wait(never, 0, 0, milliseconds);

const BLOCK = {
  spin(milliseconds) {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
  },
  'exec-sync': (milliseconds) => execSync(`sleep ${milliseconds / 1000}`),
  'atomics-wait': sleep,
};

function work(path) {
  if (serveIn > 0) sleep(serveIn);
  if (path === '/') return;
  const { pathname, searchParams } = new URL(path, 'http://program');
  if (pathname === '/block') BLOCK[searchParams.get('how')](Number(searchParams.get('ms')));
}

const HTTP_ANSWER = { 'Content-Type': 'text/plain', 'Content-Length': ID.length };

function answerHttp(request, response) {
  work(request.url);
  response.writeHead(200, HTTP_ANSWER);
  response.end(ID);
}

function answerLines(socket) {
  let text = '';
  socket.setEncoding('latin1');
  socket.on('error', () => {});
  socket.on('data', (piece) => {
    text += piece;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const path = text.slice(0, end);
      text = text.slice(end + 1);
      work(path);
      socket.write(`${ID}\n`);
    }
  });
}

const SERVERS = {
  http: () => createHttpServer(answerHttp),
  tcp: () => createTcpServer(answerLines),
};

const server = SERVERS[env.BENCH_PROTOCOL ?? 'http']();
const backlog = Number(env.BENCH_BACKLOG ?? 511);

if (env.BENCH_FD) {
  // For a descriptor Node takes the backlog only as an argument of its own.
  server.listen({ fd: Number(env.BENCH_FD) }, backlog);
} else {
  server.listen({
    port: Number(env.PORT),
    host: env.HOST ?? '127.0.0.1',
    backlog,
    ...(env.BENCH_REUSEPORT === '1' ? { reusePort: true } : {}),
  });
}

server.on('listening', () => {
  process.send?.('ready');
});

function end() {
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
  setTimeout(() => process.exit(0), END_WITHIN).unref();
}

process.once('SIGTERM', end);
process.once('SIGINT', end);

if (env.BENCH_DESK) {
  const desk = connect(env.BENCH_DESK).unref();
  const tell = (what) => desk.write(`${JSON.stringify(what)}\n`);
  const listens = (listening) => tell({ listening });

  // The desk may be closed before this program is: that is nothing to it.
  desk.on('error', () => {});
  tell({ id: ID, pid: process.pid, thread: !isMainThread });
  if (server.listening) listens(true);
  server.on('listening', () => listens(true));
  server.on('close', () => listens(false));
  process.once('SIGTERM', () => listens(false));
  process.once('SIGINT', () => listens(false));

  createInterface({ input: desk }).on('line', (line) => {
    const { block, ...settings } = JSON.parse(line);
    if (block) BLOCK[block.how](block.ms);
    else serveIn = settings.serveIn;
  });
}
