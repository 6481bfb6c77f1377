/**
 * A master that dies, or hangs, is followed by another one (`--monitor`), and neither workers nor their clients notice:
 * nothing is lost, nobody is started twice, counters and limits go on.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import type { SelectorName } from '../../lib/group/options.js';
import { Notes } from '../support/apps/counted.js';
import { CLI, descendants } from '../support/cli.js';
import { Load } from '../support/load.js';
import { below, folder, Service } from '../support/monitored.js';
import { gone, goOn, status as ofProcess, program, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

/** Who watches over a worker that outlives its master. */
const LIFELINE = 'spillway-life';

const pidsOf = ({ workers }: ServiceStatus) => workers.map(({ pid }) => pid!).sort();

/** With a limit each generation of workers has listeners of its own. */
const LIMITS: Record<SelectorName, [string, string[]][]> = {
  ebpf: [
    ['', []],
    [', with a limit', ['--max-connections', '1000']],
  ],
  cbpf: [['', []]],
  none: [['', []]],
};

/** A child of the keeper that is the master: not what it has been left by one. */
function isMaster(pid: number, before: number): boolean {
  const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  return pid !== before && line.some((part) => part === CLI) && line.includes('start');
}

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    const kills = selector === 'ebpf' ? 20 : 5;
    test(`a master that is killed ${kills} times under load loses nothing, and doubles nobody`, async () => {
      const notes = new Notes();
      const { script, env } = notes.program;
      const service = await Service.start([script, '-i', '3', '--selector', selector], env);
      const before = await service.status();
      const loads = await Promise.all([
        Load.start({ name: 'new', port: service.port, mode: 'per-request', rate: 120 }),
        Load.start({ name: 'kept', port: service.port, mode: 'keep-alive', rate: 100, connections: 20 }),
      ]);
      let chosen = 0;
      for (let count = 0; count < kills; count++) {
        const begun = performance.now();
        process.kill(service.master!, 'SIGKILL');
        const now = await service.serving();
        expect(performance.now() - begun).toBeLessThan(3000);
        expect(pidsOf(now)).toEqual(pidsOf(before!));
        if (selector === 'ebpf') {
          const given = now.ports[0]!.sockets.reduce((sum, each) => sum + (each.chosen ?? 0), 0);
          expect(given).toBeGreaterThan(chosen);
          chosen = given;
        }
      }
      await loads[0]!.goesOn(30);
      for (const load of loads) {
        const { failures, connections } = await load.stop();
        expect(failures).toEqual([]);
        expect(connections.reset).toBe(0);
      }
    }, 90_000);

    test.each(LIMITS[selector])(
      'a master that is killed during a reload or a scale leaves as many workers as there are to be%s',
      async (_, limit) => {
        const notes = new Notes();
        const { script, env } = notes.program;
        const service = await Service.start([script, '-i', '3', '--selector', selector, ...limit], env);
        const load = await Load.start({ port: service.port, mode: 'per-request', rate: 100 });
        for (let count = 0; count < (selector === 'ebpf' ? 10 : 4); count++) {
          const order =
            count % 2 === 0
              ? service.order('/v1/reload')
              : service.order('/v1/scale', { workers: count % 4 === 1 ? 5 : 2 });
          // Somewhere in the middle of it.
          await new Promise((resolve) => setTimeout(resolve, selector === 'ebpf' ? 37 * count : 90 * count));
          process.kill(service.master!, 'SIGKILL');
          await order;
          const now = await service.serving();
          expect(new Set(now.workers.map(({ slot }) => slot)).size).toBe(now.wanted);
          await until('only those are left', async () => {
            const status = await service.status();
            const living = below(service.pid).filter(
              (pid) => pid !== status?.pid && ofProcess(pid, 'Name') !== LIFELINE,
            );
            return status?.workers.length === status?.wanted && living.length === status?.wanted;
          });
        }
        await load.goesOn(20);
        const { failures } = await load.stop();
        if (selector === 'ebpf') expect(failures).toEqual([]);
        // Below it the queue of a leaving listener goes through the master's hands, and ends with them.
        expect(failures.filter(({ outcome }) => outcome !== 'cut')).toEqual([]);
        expect(failures.length).toBeLessThanOrEqual(5);
      },
      90_000,
    );

    test('a master that is killed while it takes over leaves all to the next one', async () => {
      const notes = new Notes();
      const { script, env } = notes.program;
      const service = await Service.start([script, '-i', '3', '--selector', selector], env);
      const load = await Load.start({ port: service.port, mode: 'per-request', rate: 80 });
      for (let count = 0; count < (selector === 'ebpf' ? 6 : 2); count++) {
        const before = service.master!;
        // Also with somebody who is about to take over.
        const order = count % 2 === 0 ? service.order('/v1/reload') : undefined;
        if (order)
          await until('a successor is there', async () => (await service.status())!.workers.length > 3);
        process.kill(before, 'SIGKILL');
        await order;
        const next = await until('another master has begun', () =>
          below(service.pid).find(
            (pid) => ofProcess(pid, 'PPid') === String(service.pid) && isMaster(pid, before),
          ),
        );
        const begun = performance.now();
        await until('it is somewhere in its start', () => performance.now() - begun > 60 * count);
        process.kill(next, 'SIGKILL');
        const now = await service.serving();
        expect(now.workers).toHaveLength(3);
      }
      await load.goesOn(20);
      expect((await load.stop()).failures).toEqual([]);
    }, 60_000);
  });
}

test('a master that hangs is followed as well', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const before = await service.status();
  await stop(service.master!);
  const after = await service.serving();
  expect(pidsOf(after)).toEqual(pidsOf(before!));
  expect(service.stderr).toContain('has not answered');
});

test('workers that log while there is no master go on, and what they say then is not lost', async () => {
  const service = await Service.start([program('counts-aloud.mjs'), '-i', '1', '--logs', folder()]);
  const log = join(folder(), 'kept-0.out.log');
  const numbers = () =>
    [...readFileSync(log, 'utf8').matchAll(/^line (\d+)$/gm)].map(([, number]) => Number(number));
  const said = async () => Number(await (await fetch(`http://127.0.0.1:${service.port}/`)).text());
  await until('some lines are there', () => numbers().length > 50);
  // Nobody follows until it goes on.
  await stop(service.pid);
  process.kill(service.master!, 'SIGKILL');
  await gone(service.master!);
  const [begin, written] = [await said(), numbers().length];
  await until('it has said more', async () => (await said()) > begin + 100);
  const end = await said();
  expect(numbers()).toHaveLength(written);
  await goOn(service.pid);
  await service.serving();
  await until('all of that is there', () => {
    const all = new Set(numbers());
    return Array.from({ length: end - begin }, (_, index) => begin + index).every((each) => all.has(each));
  });
});

test('a worker that dies while there is no master is replaced by the next one', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const before = (await service.status())!;
  process.kill(service.master!, 'SIGKILL');
  process.kill(before.workers[0]!.pid!, 'SIGKILL');
  const after = await service.serving();
  expect(after.workers).toHaveLength(2);
  expect(pidsOf(after)).not.toEqual(pidsOf(before));
});

test('when keeper and master are both killed, the workers end as well', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const workers = pidsOf((await service.status())!);
  service.child.kill('SIGKILL');
  process.kill(service.master!, 'SIGKILL');
  for (const pid of workers) await gone(pid);
});

test('stop ends all of it', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const all = descendants(service.pid);
  await service.order('/v1/stop');
  expect(await service.ended).toEqual([0, null]);
  for (const pid of all) await gone(pid);
});

test('a keeper that dies leaves a master that serves, and says that nobody keeps it any more', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const before = (await service.status())!;
  const load = await Load.start({ port: service.port, mode: 'per-request', rate: 100 });
  service.child.kill('SIGKILL');
  await until('it is noticed', () => service.stderr.includes('the keeper has gone'));
  expect(await service.status()).toMatchObject({ pid: before.pid, kept: false, state: 'running' });
  expect(await service.order('/v1/upgrade')).toMatchObject({ error: { code: 'ERR_SPILLWAY_CONTROL' } });
  // It can do all the rest.
  expect(await service.order('/v1/reload')).toMatchObject({ reloaded: true });
  const after = (await service.status())!;
  await load.goesOn(20);
  expect((await load.stop()).failures).toEqual([]);
  process.kill(before.pid, 'SIGKILL');
  for (const pid of pidsOf(after)) await gone(pid);
});

test('executables go on as well', async () => {
  const script = program('listen-fds.py');
  const service = await Service.start(['python3', '--exec', '-i', '2', '--', script]);
  const before = (await service.status())!;
  const load = await Load.start({ port: service.port, mode: 'per-request', rate: 50 });
  for (let count = 0; count < 3; count++) {
    process.kill(service.master!, 'SIGKILL');
    expect(pidsOf(await service.serving())).toEqual(pidsOf(before));
  }
  await load.goesOn(20);
  expect((await load.stop()).failures).toEqual([]);
  // And end when they are told to.
  await service.order('/v1/reload');
  const after = (await service.status())!;
  expect(after.workers.filter(({ state }) => state === 'running')).toHaveLength(2);
  for (const pid of pidsOf(before)) await gone(pid);
});

describe.skipIf(TIERS.some(({ missing }) => missing.length > 0))('while there is no master', () => {
  test('whoever waits is served by workers that get room', async () => {
    const limits = ['--max-connections', '1', '--overflow', 'wait'];
    const service = await Service.start([program('keeps.mjs'), '-i', '2', '--selector', 'ebpf', ...limits]);
    const greeted: number[] = [];
    const guests = Array.from({ length: 6 }, (_, index) => {
      const guest = connect(service.port, '127.0.0.1');
      guest.once('data', () => greeted.push(index));
      return guest;
    });
    await until('two are greeted', () => greeted.length === 2);
    // It would start the next one at once.
    await stop(service.pid);
    process.kill(service.master!, 'SIGKILL');
    await gone(service.master!);
    for (let count = 2; count < 5; count++) {
      guests[greeted[count - 2]!]!.write('bye\n');
      await until('the next one is greeted', () => greeted.length === count + 1);
    }
    expect(await service.status()).toBeUndefined();

    await goOn(service.pid);
    const now = await service.serving();
    expect(now.ports[0]).toMatchObject({ waiting: { length: 1 } });
    guests[greeted[3]!]!.write('bye\n');
    await until('the last one is greeted', () => greeted.length === 6);
    for (const guest of guests) guest.destroy();
    await until('nothing is counted any more', async () => {
      const status = await service.status();
      return status!.workers.every(({ connections }) => connections === 0);
    });
  });
});
