/** Several services in one config file: each with workers, ports and settings of its own. */
import { expect, test } from 'vitest';
import { descendants, freePort } from '../support/cli.js';
import { ask, call, complains, endsBy, file, run, sockets, status } from '../support/service.js';
import { gone } from '../support/serving.js';

/** @returns its path. */
function config(...services: readonly object[]): string {
  return file('spillway.config.json', JSON.stringify({ services }));
}

test('each has its workers, ports and environment, and one that fails leaves the others alone', async () => {
  const [shop, api] = [await freePort(), await freePort()];
  const broken = file('broken.mjs', 'throw new Error("out of luck");');
  const path = config(
    { name: 'shop', script: 'app.mjs', workers: 2, port: shop, env: { COLOUR: 'red' } },
    { name: 'broken', script: broken, workers: 1, port: await freePort() },
    { name: 'api', script: 'app.mjs', workers: 1, port: api, policy: 'hash' },
  );
  const services = run(['start', path]);
  await complains(services, / shop is ready after .*: 2 workers/);
  await complains(services, / api is ready after .*: 1 worker,/);
  await complains(services, 'spillway: broken has ended with exit code 3; the others go on');

  expect(await ask(shop)).toMatchObject({ colour: 'red' });
  expect(await ask(api)).toMatchObject({ colour: null, slot: '0' });
  expect((await status('shop')).workers).toHaveLength(2);
  expect((await status('api')).ports).toMatchObject([{ port: api }]);

  expect((await call('scale', 'shop', '3')).code).toBe(0);
  expect((await status('shop')).workers).toHaveLength(3);
  expect((await status('api')).workers).toHaveLength(1);

  expect((await call('stop', 'api')).code).toBe(0);
  expect((await ask(shop)).colour).toBe('red');
  expect(await endsBy(services, () => services.child.kill('SIGTERM'))).toBe(3);
});

test('one of them can be started by itself', async () => {
  const [shop, api] = [await freePort(), await freePort()];
  const path = config(
    { name: 'shop', script: 'app.mjs', workers: 1, port: shop },
    { name: 'api', script: 'app.mjs', workers: 1, port: api },
  );
  const service = run(['start', path, '--service', 'api']);
  await complains(service, / api is ready after /);
  expect((await ask(api)).slot).toBe('0');
  await expect(ask(shop)).rejects.toThrow('ECONNREFUSED');
  expect(await endsBy(service, () => service.child.kill('SIGTERM'))).toBe(0);
});

test('whatever is wrong with any of them is said at once, and none is started', async () => {
  const port = await freePort();
  const path = config(
    { name: 'shop', script: 'app.mjs', port, workers: { min: 3, max: 2 } },
    { name: 'api', script: 'app.mjs', port },
    { name: 'mail', script: 'app.mjs', port: await freePort(), placement: ['4095'] },
    { name: 'jobs', script: 'app.mjs', port: await freePort(), logs: '/no/such/folder\0' },
  );
  const { code, stderr } = await call('start', path);
  expect(code).toBe(2);
  for (const problem of [
    /services\[0\].*workers/,
    new RegExp(`services\\[1\\]\\.port: ${port} is used by services\\[0\\]`),
    /services\[2\].*4095/,
    /services\[3\].*logs/,
  ])
    expect(stderr).toMatch(problem);
  expect(sockets()).toEqual([]);
});

test.each([
  ['without a keeper', {}],
  ['each under a keeper', { monitor: true }],
])('all end with whoever started them, however that ends: %s', async (_, more) => {
  const path = config(
    { name: 'shop', script: 'app.mjs', workers: 2, port: await freePort(), ...more },
    { name: 'api', script: 'app.mjs', workers: 1, port: await freePort(), ...more },
  );
  const services = run(['start', path]);
  await complains(services, / shop is ready after /);
  await complains(services, / api is ready after /);
  const all = descendants(services.pid);
  expect(all.length).toBeGreaterThanOrEqual(5);
  services.child.kill('SIGKILL');
  for (const pid of all) await gone(pid);
  expect(sockets()).toEqual([]);
});
