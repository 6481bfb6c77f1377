/**
 * A master for tests of the keeper: says on stdout, as a JSON line, what it was given, and does what its arguments say, by
 * the number of its start, which it counts in the file that it stores.
 *
 *   kept.mjs ADDON STEP...   each of: store=NAME, drop=NAME, ready, stopping, alive, hang, exit=CODE, kill=SIGNAL, wait
 *                            separated by commas, for each start; the last one goes for all that follow
 */
import { closeSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [, , addon, ...starts] = process.argv;
const { notify } = createRequire(import.meta.url)(addon);
const { env, pid } = process;
const names = env.LISTEN_PID === String(pid) ? env.LISTEN_FDNAMES.split(':') : [];
const left = Object.fromEntries(
  names.map((name, index) => [name, readFileSync(`/proc/self/fd/${3 + index}`, 'utf8')]),
);
const number = names.includes('count') ? Number(left.count) + 1 : 0;

const tell = (text, fd) => notify(env.NOTIFY_SOCKET, text, fd);

function store(name, text) {
  const path = join(tmpdir(), `spillway-kept-${pid}-${name}`);
  writeFileSync(path, text);
  const fd = openSync(path, 'r');
  tell(`FDSTORE=1\nFDNAME=${name}`, fd);
  closeSync(fd);
  unlinkSync(path);
}

for (const signal of ['SIGTERM', 'SIGHUP', 'SIGUSR2']) {
  process.on(signal, () => {
    process.stdout.write(`${JSON.stringify({ signal })}\n`);
    if (signal === 'SIGTERM') process.exit(0);
  });
}
process.stdout.write(
  `${JSON.stringify({ pid, number, left, keeper: env.SPILLWAY_KEEPER, once: env.ONCE ?? null })}\n`,
);
store('count', String(number));

for (const step of (starts[Math.min(number, starts.length - 1)] ?? 'wait').split(',')) {
  const [what, value] = step.split('=');
  if (what === 'store') store(value, `${value} of ${number}`);
  if (what === 'drop') tell(`FDSTOREREMOVE=1\nFDNAME=${value}`);
  if (what === 'ready') tell('READY=1');
  if (what === 'stopping') tell('STOPPING=1');
  if (what === 'alive') setInterval(() => tell('WATCHDOG=1'), 50);
  if (what === 'exit') process.exit(Number(value));
  if (what === 'kill') process.kill(pid, value);
  if (what === 'hang') setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
  if (what === 'wait') setInterval(() => {}, 1000);
}
