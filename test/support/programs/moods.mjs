// A server that can be told to misbehave, over HTTP. Arguments: `ready=ms` says that it is ready so long after it listens,
// and `later=ms` so much later for every slot before its own,
// `fail-if=FILE` throws at its start if that file exists, `exit-after=ms` ends by itself.
import { execSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';

const options = Object.fromEntries(process.argv.slice(2).map((each) => each.split('=')));
if (options['fail-if'] && existsSync(options['fail-if'])) throw new Error('told to fail');

const kept = [];
const moods = {
  '/': () => {},
  '/exit': () => setImmediate(() => process.exit(7)),
  '/throw': () => {
    throw new Error('thrown by the program');
  },
  '/grow': () => kept.push(Buffer.alloc(64 << 20, 1)),
  '/spin': () => {
    for (;;);
  },
  '/block': () => execSync('sleep 1'),
};

const server = createServer((request, response) => {
  moods[request.url]?.();
  response.setHeader('connection', 'close');
  response.end(
    JSON.stringify({
      pid: process.pid,
      slot: process.env.SPILLWAY_SLOT,
      mine: process.env.MINE,
      argv: process.argv.slice(2),
    }),
  );
});
server.listen(Number(process.env.PORT ?? options.port), '127.0.0.1', () => {
  const later = Number(process.env.SPILLWAY_SLOT) * Number(options.later ?? 0);
  if (options.ready) setTimeout(() => process.send('ready'), Number(options.ready) + later);
  if (options['exit-after']) setTimeout(() => process.exit(9), Number(options['exit-after']));
});
