// Answers with its process id, and writes down at once, in the file COUNT_LOG, which connections it has accepted, and which
// requests it has begun with and answered. The message `{ block, time }` makes it block its event loop in that way, for so
// many milliseconds; it says `{ blocks }` before that and `{ free }` afterwards.
import { execSync } from 'node:child_process';
import { openSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';

const WAYS = {
  spin(time) {
    for (const end = performance.now() + time; performance.now() < end; );
  },
  execSync: (time) => execSync(`sleep ${time / 1000}`),
  'Atomics.wait': (time) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time),
};

// Appending is one step for the kernel, whoever else writes to the file (open(2), O_APPEND).
const log = openSync(process.env.COUNT_LOG, 'a');
const note = (event, what) => writeSync(log, `${event} ${process.pid} ${what}\n`);

const server = createServer((request, response) => {
  const id = request.headers['x-request'];
  note('began', id);
  response.on('finish', () => note('answered', id));
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT }));
});
server.on('connection', ({ remotePort }) => note('accepted', remotePort));

process.on('message', ({ block, time }) => {
  process.send({ blocks: block }, () => {
    WAYS[block](time);
    process.send({ free: block });
  });
});

server.listen(process.env.PORT);
