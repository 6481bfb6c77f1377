// A master whose workers are of another user, and which gives up the right to end them. Argument: the package's entry.
import { fileURLToPath } from 'node:url';

const { Master } = await import(process.argv[2]);
const script = fileURLToPath(new URL('stubborn.mjs', import.meta.url));
const identity = { uid: 65_533, gid: 65_533 };
const master = await Master.start({
  script,
  cwd: '/',
  host: '127.0.0.1',
  port: 0,
  workers: 2,
  stdio: 'ignore',
  ...identity,
});
process.send({ pids: master.workers.map(({ pid }) => pid) });
process.setuid(65_532);

const error = await master.close({ timeout: 1 }).catch(({ code, message }) => ({ code, message }));
let use;
try {
  master.group.stats();
} catch ({ code }) {
  use = code;
}
process.send({ error, use }, () => process.exit());
