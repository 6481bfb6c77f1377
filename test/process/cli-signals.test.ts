/** Signals to a master, at any moment: what happens, and that nothing is left. */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { CLI, descendants, freePort, inTerminal } from '../support/cli.js';
import {
  app,
  ask,
  call,
  complains,
  endsBy,
  environment,
  file,
  here,
  isReady,
  run,
  sockets,
  started,
  status,
} from '../support/service.js';
import { gone } from '../support/serving.js';
import { until } from '../support/until.js';

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s ends it gracefully: an answer under way arrives',
  async (signal) => {
    const port = await freePort();
    const script = file(
      'slow.mjs',
      `import { createServer } from 'node:http';
     createServer((_, response) => {
       console.log('asked');
       setTimeout(() => response.end('{"slot":"slow"}'), 400);
     }).listen(process.env.PORT);`,
    );
    const service = await started([script, '-p', String(port)]);
    const answer = ask(port);
    await service.says('0 | asked');
    expect(await endsBy(service, () => service.child.kill(signal))).toBe(0);
    expect((await answer).slot).toBe('slow');
  },
);

test('a second SIGINT ends it at once with 130, but not one that follows on the heels of the first', async () => {
  const script = file(
    'stubborn.mjs',
    `import { createServer } from 'node:http';
     process.on('SIGTERM', () => console.log('I stay'));
     setInterval(() => {}, 1000);
     createServer().listen(process.env.PORT);`,
  );
  const service = await started([script, '-p', String(await freePort()), '--kill-timeout', '60s']);
  const below = descendants(service.pid);
  service.child.kill('SIGINT');
  service.child.kill('SIGINT');
  await service.says('I stay');
  service.child.kill('SIGINT');
  // The moment counts: only half a second after the first is it a second one.
  await wait(600);
  expect(service.child.exitCode).toBe(null);
  service.child.kill('SIGINT');
  expect(await service.ended).toEqual([130, null]);
  for (const pid of below) await gone(pid);
  expect(sockets()).toEqual([]);
});

test('SIGHUP reloads, SIGTTIN and SIGTTOU add and remove workers, in quick succession too', async () => {
  const service = await started([app(), '-p', String(await freePort())]);
  const [first] = (await status()).workers;
  service.child.kill('SIGHUP');
  await complains(service, 'reload: done');
  expect((await status()).workers.some(({ pid, state }) => pid === first?.pid && state === 'running')).toBe(
    false,
  );
  for (const more of [2, 3]) {
    service.child.kill('SIGTTIN');
    await complains(service, `to ${more} workers`);
  }
  service.child.kill('SIGTTOU');
  await complains(service, 'scaled from 3 to 2 workers');
  service.child.kill('SIGTTOU');
  await complains(service, 'scaled from 2 to 1 workers');
  service.child.kill('SIGTTOU');
  await complains(service, 'there cannot be 0 workers');
  expect((await status()).wanted).toBe(1);
});

test('SIGHUP ends it gracefully when its terminal has gone', async () => {
  const port = await freePort();
  const log = join(here.folder, 'err');
  // Without `exec` the shell would be in the foreground, and get the signal first.
  const command = `exec ${process.execPath} ${CLI} start ${app()} -p ${port} 2>${log}`;
  const terminal = inTerminal(command, environment());
  await until(
    'it serves',
    async () => (await call('status')).code === 0 && (await status()).state === 'running',
  );
  const { pid: master } = await status();
  const below = descendants(master);
  terminal.child.kill('SIGKILL');
  for (const pid of [master, ...below]) await gone(pid);
  expect(sockets()).toEqual([]);
});

const { between } = seededRandom(7);

test('a signal at any moment of the start leaves no process and no socket file', async () => {
  for (let round = 0; round < 10; round++) {
    const service = run(['start', app(), '-i', '2', '-p', String(await freePort())]);
    const seen = new Set<number>();
    const delay = between(0, 450);
    const end = performance.now() + delay;
    while (performance.now() < end) {
      for (const pid of below(service.pid)) seen.add(pid);
      await wait(5);
    }
    for (const pid of below(service.pid)) seen.add(pid);
    const signal = round % 2 === 0 ? 'SIGINT' : 'SIGTERM';
    service.child.kill(signal);
    const [code, by] = await service.ended;
    // Before the program has begun to run it is the system that ends it.
    expect([0, signal], `after ${delay} ms: ${service.stderr}`).toContain(code ?? by);
    for (const pid of seen) await gone(pid);
    expect(sockets(), `after ${delay} ms`).toEqual([]);
  }
});

test('a signal at any moment of a reload or a change of scale leaves nothing either', async () => {
  for (let round = 0; round < 4; round++) {
    const service = run(['start', app(), '-i', '2', '-p', String(await freePort())]);
    await isReady(service);
    service.child.kill(round % 2 === 0 ? 'SIGHUP' : 'SIGTTIN');
    const seen = new Set<number>();
    const end = performance.now() + between(0, 250);
    while (performance.now() < end) {
      for (const pid of below(service.pid)) seen.add(pid);
      await wait(5);
    }
    const code = await endsBy(service, () => service.child.kill('SIGINT'));
    expect(code, service.stderr).toBe(0);
    for (const pid of seen) await gone(pid);
  }
});

/** A process that ends while it is looked at has nobody below it. */
function below(pid: number): number[] {
  try {
    return descendants(pid);
  } catch {
    return [];
  }
}
