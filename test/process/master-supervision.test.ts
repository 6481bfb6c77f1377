/** How a master keeps its workers: restarts, their end, readiness, memory, hangs, reloads that fail, scaling. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Master, type MasterEvents, serve } from '../../lib/serve/master.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import {
  ask,
  askMany,
  children,
  descriptorCount,
  gone,
  program,
  startMaster,
  stop,
  TIERS,
} from '../support/serving.js';
import { until } from '../support/until.js';

const moods = program('moods.mjs');
const pidsOf = (master: Master) => master.workers.map(({ pid }) => pid);

/** What the master tells, from now on. */
function heard<Name extends keyof MasterEvents>(master: Master, name: Name): MasterEvents[Name][] {
  const list: MasterEvents[Name][] = [];
  master.on(name, ((...details: MasterEvents[Name]) => list.push(details)) as never);
  return list;
}

/** Who takes the request has its mood, whatever becomes of the answer. */
function mood(master: Master, path: string): void {
  ask(master, path).catch(() => {});
}

const folder = mkdtempSync(join(tmpdir(), 'spillway-moods-'));
const flag = join(folder, 'fail');
afterEach(() => rmSync(flag, { force: true }));

describe('a worker that ends by itself', () => {
  for (const { selector, missing } of TIERS) {
    test.skipIf(missing.length > 0)(
      `is followed at once if it has lived long enough, with ${selector}`,
      async () => {
        const master = await startMaster({ script: moods, minUptime: 0, selector });
        const before = pidsOf(master);
        const restarts = heard(master, 'worker:restart');
        const exits = heard(master, 'worker:exit');
        mood(master, '/exit');
        await until(
          'another is ready',
          () => restarts.length === 1 && master.workers.every(({ state }) => state === 'running'),
        );
        const [exit] = exits[0]!;
        expect(exit).toMatchObject({ code: 7, signal: null, expected: false, reason: 'exited with code 7' });
        expect(before).toContain(exit.pid);
        expect(restarts[0]?.[0]).toMatchObject({ slot: exit.slot, delay: 0, failures: 0 });
        await until('both answer', async () => {
          const answers = await askMany(master, 30);
          return new Set(answers.map(({ slot }) => slot)).size === 2;
        });
        const { workers } = await master.status();
        expect(workers[exit.slot]).toMatchObject({
          restarts: 1,
          reason: 'exited with code 7',
          state: 'running',
        });
      },
    );
  }

  test('is followed after a growing delay if it has not, and after too many no more', async () => {
    const master = await startMaster({
      script: moods,
      args: ['exit-after=1'],
      workers: 1,
      restartDelay: 10,
      maxRestarts: 4,
    });
    const restarts = heard(master, 'worker:restart');
    const failed = heard(master, 'worker:failed');
    await expect(master.closed).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_NO_WORKER',
      message: expect.stringMatching(/^no worker is left: worker 0 \(process \d+\) exited with code 9$/),
    });
    expect(restarts.map(([{ delay, failures, most }]) => [delay, failures, most])).toEqual([
      [10, 1, 4],
      [20, 2, 4],
      [40, 3, 4],
      [80, 4, 4],
    ]);
    expect(failed).toHaveLength(1);
    expect(master.state).toBe('stopped');
    expect(master.workers).toEqual([]);
  });

  test('stays away for good when it fails too often, and the others serve on', async () => {
    const master = await startMaster({
      script: moods,
      args: [`fail-if=${flag}`],
      restartDelay: 1,
      maxRestarts: 3,
    });
    const failed = heard(master, 'worker:failed');
    writeFileSync(flag, '');
    master.workers[1]?.kill('SIGKILL');
    await until('the slot has failed', () => failed.length === 1);
    expect(failed[0]?.[0]).toEqual({
      slot: 1,
      reason: expect.stringMatching(/^worker 1 \(process \d+\) exited with code 1 before it listened$/),
    });
    expect((await master.status()).workers.map(({ state }) => state)).toEqual(['running', 'failed']);
    for (const { slot } of await askMany(master, 20)) expect(slot).toBe('0');
    // A reload brings it back.
    rmSync(flag);
    await master.reload();
    expect((await master.status()).workers.map(({ state }) => state)).toEqual(['running', 'running']);
  });

  test('a thousand times leaves no descriptor, no process and no listener behind', async () => {
    const run = async (maxRestarts: number) => {
      rmSync(flag, { force: true });
      // Only the first lives long enough to be seen running.
      const once = `[ -e ${flag} ] || { touch ${flag}; sleep 0.2; }`;
      const master = await startMaster({
        command: 'sh',
        args: ['-c', once],
        workers: 1,
        restartDelay: 0,
        maxRestarts,
      });
      const restarts = heard(master, 'worker:restart');
      await expect(master.closed).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_WORKER' });
      expect(restarts).toHaveLength(maxRestarts);
    };
    // The first run opens what Node and the addon keep.
    await run(1);
    const before = descriptorCount();
    const childrenBefore = children();
    await run(1000);
    await until('every descriptor is closed', () => descriptorCount() <= before);
    expect(children()).toEqual(childrenBefore);
  });

  test('takes with it what it has started', async () => {
    const sleeper = await startMaster({
      command: 'sh',
      args: ['-c', 'sleep 1000 & echo $!; wait'],
      stdio: 'pipe',
      workers: 1,
    });
    let text = '';
    sleeper.workers[0]?.stdout?.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    await until('it has started something', () => text.endsWith('\n'));
    sleeper.workers[0]?.kill('SIGKILL');
    await gone(Number(text));
  });
});

describe('a worker that is waited for', () => {
  test('is ready when it says so, and not before', async () => {
    const begun = performance.now();
    const master = await startMaster({ script: moods, args: ['ready=300'], waitReady: true, workers: 1 });
    expect(performance.now() - begun).toBeGreaterThan(300);
    expect(master.workers[0]?.state).toBe('running');
  });

  test('and never says so: the start fails, with the reason', async () => {
    await expect(
      startMaster({ script: moods, waitReady: true, workers: 1, startTimeout: 800 }),
    ).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_WORKER',
      message: expect.stringMatching(/has not said that it is ready$/),
    });
  });
});

describe('a worker that does not react', () => {
  for (const path of ['/spin', '/block']) {
    test(`is passed by while ${path} lasts, and killed at the limit if it lasts`, async () => {
      const master = await startMaster({
        script: moods,
        stuckAfter: 100,
        hangTimeout: path === '/spin' ? 700 : 0,
      });
      const stuck = heard(master, 'worker:stuck');
      const exits = heard(master, 'worker:exit');
      mood(master, path);
      await until('it is seen', () => stuck.length === 1);
      const [[worker, isStuck, why]] = stuck as [[Worker, boolean, string]];
      expect([isStuck, why]).toEqual([true, 'its event loop is stuck']);
      expect((await master.status()).workers[worker.slot]?.state).toBe('stuck');
      for (const { pid } of await askMany(master, 20)) expect(pid).not.toBe(worker.pid);
      if (path === '/spin') {
        await until('it is killed', () => exits.length === 1);
        expect(exits[0]?.[0].reason).toBe('was killed: its event loop is stuck for 1 s');
        await until('another has come', () => master.workers.every(({ state }) => state === 'running'));
        expect(pidsOf(master)).not.toContain(worker.pid);
      } else {
        await until('it is back', () => stuck.length === 2);
        expect(stuck[1]?.[1]).toBe(false);
        expect(exits).toEqual([]);
      }
      await until(
        'both answer',
        async () => new Set((await askMany(master, 20)).map(({ slot }) => slot)).size === 2,
      );
    });
  }

  test('because it is stopped is passed by, and killed at the limit', async () => {
    const master = await startMaster({ script: moods, stuckAfter: 100, hangTimeout: 1500 });
    const stuck = heard(master, 'worker:stuck');
    const exits = heard(master, 'worker:exit');
    const [worker] = master.workers as [Worker];
    await stop(worker.pid!);
    await until('it is seen', () => stuck.length === 1);
    expect(stuck[0]?.[2]).toBe('its process is stopped');
    for (const { pid } of await askMany(master, 20)) expect(pid).not.toBe(worker.pid);
    await until('it is killed', () => exits.length === 1);
    await until('another has come', () => master.workers.every(({ state }) => state === 'running'));
  });

  test('when there is no other, is given what comes all the same', async () => {
    const master = await startMaster({ script: moods, stuckAfter: 50, hangTimeout: 0, workers: 1 });
    const stuck = heard(master, 'worker:stuck');
    mood(master, '/block');
    await until('it is seen', () => stuck.length === 1);
    expect((await ask(master)).pid).toBe(master.workers[0]?.pid);
  });
});

test('a worker that has too much memory is replaced, and nobody is refused', async () => {
  const master = await startMaster({ script: moods, workers: 1, maxMemory: 160 << 20 });
  const before = pidsOf(master);
  const drained = heard(master, 'worker:drain');
  const exits = heard(master, 'worker:exit');
  for (let round = 0; round < 3; round++) await ask(master, '/grow');
  await until('another has taken its place', async () => {
    const { pid } = await ask(master);
    return pid !== before[0] && exits.length === 1;
  });
  expect(drained.map(([worker, reason]) => [worker.pid, reason])).toEqual([[before[0], 'replace']]);
  expect((await master.status()).workers[0]?.reason).toMatch(
    /^was replaced: \d+ bytes of memory, 167772160 allowed$/,
  );
});

describe('a reload', () => {
  for (const together of [false, true]) {
    const how = together ? 'all at once' : 'one after another';
    test(`${how} gives every slot a new worker, with what was changed`, async () => {
      const master = await startMaster({ script: moods, args: ['a'], env: { MINE: '1' } });
      const before = pidsOf(master);
      const phases = heard(master, 'reload');
      await master.reload({ together, change: { args: ['b'], env: { MINE: '2' } } });
      expect(phases.map(([{ phase }]) => phase)).toEqual(['begin', 'done']);
      await until('the old ones have gone', () => master.workers.length === 2);
      for (const pid of pidsOf(master)) expect(before).not.toContain(pid);
      expect(await ask(master)).toMatchObject({ argv: ['b'], mine: '2' });
    });

    test(`${how} whose first new worker fails leaves all old ones`, async () => {
      const master = await startMaster({ script: moods, args: [`fail-if=${flag}`] });
      const before = pidsOf(master);
      const phases = heard(master, 'reload');
      const restarts = heard(master, 'worker:restart');
      writeFileSync(flag, '');
      await expect(master.reload({ together })).rejects.toMatchObject({
        code: 'ERR_SPILLWAY_RELOAD',
        message: expect.stringMatching(
          /exited with code 1 before it listened; all workers are those of before$/,
        ),
      });
      expect(phases.map(([{ phase }]) => phase)).toEqual(['begin', 'failed']);
      expect(master.state).toBe('running');
      await until('only the old ones are left', () => master.workers.length === 2);
      expect(pidsOf(master)).toEqual(before);
      expect(restarts).toEqual([]);
      expect(await askMany(master, 10)).toHaveLength(10);
    });
  }

  test('to a program that is not there changes nothing', async () => {
    const master = await startMaster({ script: moods });
    const before = pidsOf(master);
    await expect(master.reload({ change: { script: '/no/such/program.js' } })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_SCRIPT_MISSING',
    });
    expect(pidsOf(master)).toEqual(before);
    await master.reload();
    await until('the old ones have gone', () => master.workers.length === 2);
  });

  test('that is under way when the master is closed ends with it', async () => {
    const master = await startMaster({ script: moods, workers: 3 });
    const starts = heard(master, 'worker:start');
    const reloading = expect(master.reload()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
    await until('it has begun', () => starts.length === 1);
    await master.close();
    await reloading;
    for (const [worker] of starts) expect(worker.state).toBe('exited');
  });
});

describe('scaling', () => {
  test('beyond what the group can hold is refused, and nothing has changed', async () => {
    const master = await startMaster({ script: moods, capacity: 3 });
    const before = pidsOf(master);
    for (const workers of [4, 0, 1.5, Number.NaN]) {
      await expect(master.scale(workers)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_RANGE' });
    }
    expect(pidsOf(master)).toEqual(before);
  });

  test('up to workers that do not start takes them back', async () => {
    const master = await startMaster({ script: moods, args: [`fail-if=${flag}`] });
    const before = pidsOf(master);
    writeFileSync(flag, '');
    await expect(master.scale(4)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_WORKER' });
    expect(pidsOf(master)).toEqual(before);
    expect((await master.status()).wanted).toBe(2);
    rmSync(flag);
    await master.scale(3);
    expect(master.workers).toHaveLength(3);
    expect(master.group.slots).toEqual([0, 1, 2]);
  });

  test('up and down again and again leaves as many slots and workers as were asked for', async () => {
    const master = await startMaster({ script: moods, drainTimeout: 1000 });
    for (const workers of [4, 1, 3, 2]) {
      await master.scale(workers);
      await until('the rest has gone', () => master.workers.length === workers);
      expect(master.group.slots).toEqual([...Array(workers).keys()]);
      expect(await askMany(master, 10)).toHaveLength(10);
    }
  });
});

test('a restart ends all workers and starts others; who connects meanwhile is served by them', async () => {
  const master = await startMaster({ script: moods });
  const before = pidsOf(master);
  const restarting = master.restart();
  const drained = heard(master, 'worker:drain');
  await until('they have been told to end', () => drained.length === 2);
  const asked = askMany(master, 20);
  await restarting;
  for (const { pid } of await asked) expect(before).not.toContain(pid);
});

describe('serve()', () => {
  test("without a declared port: what the program listens on is the master's, once it listens", async () => {
    const free = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => free.once('listening', resolve));
    const { port } = free.address() as { port: number };
    await new Promise((resolve) => free.close(resolve));
    const master = serve({
      script: moods,
      args: [`port=${port}`],
      workers: 2,
      stdio: 'ignore',
      env: { PORT: undefined },
    });
    try {
      expect(() => master.group).toThrow(expect.objectContaining({ code: 'ERR_SPILLWAY_NO_PORT' }));
      await master.ready;
      expect(master.groups.map(({ address }) => address)).toEqual([
        { address: '127.0.0.1', family: 4, port },
      ]);
      const answers = await askMany(master, 40);
      expect(new Set(answers.map(({ slot }) => slot)).size).toBe(2);
      await master.reload();
      await master.scale(3);
      await until(
        'all three answer',
        async () => new Set((await askMany(master, 40)).map(({ slot }) => slot)).size === 3,
      );
    } finally {
      await master.close();
    }
  });

  test("a start that fails is told by 'error' where somebody listens for it", async () => {
    const master = serve({
      script: program('throws.mjs'),
      args: ['0'],
      port: 0,
      workers: 1,
      stdio: 'ignore',
    });
    const errors = heard(master, 'error');
    await until('it is told', () => errors.length === 1);
    expect(errors[0]?.[0]).toMatchObject({ code: 'ERR_SPILLWAY_WORKER' });
    await until('everything is gone', () => master.state === 'stopped');
  });

  test('overflow is told with numbers', async () => {
    const master = await startMaster({
      script: moods,
      workers: 1,
      backlog: 1,
      overflow: 'reset',
      selector: 'auto',
      stuckAfter: 60_000,
    });
    if (master.group.getOption('selector') !== 'ebpf') return;
    const overflows = heard(master, 'overflow');
    await stop(master.workers[0]!.pid!);
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => {
        const asked = ask(master);
        return Promise.race([asked, until('it is told', () => overflows.length > 0)]);
      }),
    );
    const refused = results.filter(({ status }) => status === 'rejected').length;
    expect(refused).toBeGreaterThan(0);
    await until('it is told', () => overflows.length > 0);
    expect(overflows[0]?.[0]).toMatchObject({ dropped: 0, reset: refused });
    process.kill(master.workers[0]!.pid!, 'SIGCONT');
  });
});

describe('the end', () => {
  test('of a master that is only starting leaves nothing behind', async () => {
    const before = descriptorCount();
    const childrenBefore = children();
    const master = serve({ script: moods, host: '127.0.0.1', port: 0, workers: 2, stdio: 'ignore' });
    await master.close();
    expect(master.state).toBe('stopped');
    await expect(master.ready).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
    expect(children()).toEqual(childrenBefore);
    await until('every descriptor is closed', () => descriptorCount() <= before);
    await expect(master.reload()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
  });

  test('comes also when a slot waits for its restart during the start', async () => {
    const master = serve({
      script: moods,
      args: ['exit-after=1'],
      host: '127.0.0.1',
      port: 0,
      workers: 2,
      stdio: 'ignore',
      restartDelay: 60_000,
    });
    const restarts = heard(master, 'worker:restart');
    await until('both wait', () => restarts.length === 2);
    const ready = master.ready.then(
      () => 'ready',
      ({ code }) => code,
    );
    await master.close();
    // One that was ready in time counts, whatever became of it.
    expect(['ready', 'ERR_SPILLWAY_CLOSED']).toContain(await ready);
  });

  test('is not held up by a worker that drains with more patience', async () => {
    const master = await startMaster({ script: program('obedient.mjs'), workers: 1, drainTimeout: 20_000 });
    const { address, port } = master.group.address;
    // An idle keep-alive connection holds the old worker until its time is over.
    const client = connect(port, address);
    client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    const { length } = await new Promise<Buffer>((resolve) => client.once('data', resolve));
    expect(length).toBeGreaterThan(0);
    client.on('error', () => {});
    const begun = performance.now();
    await master.reload();
    await master.close({ timeout: 2000 });
    expect(performance.now() - begun).toBeLessThan(5000);
    client.destroy();
  });

  for (const timeout of [-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]) {
    test(`in ${timeout} ms is refused`, async () => {
      const master = await startMaster({ script: moods, workers: 1 });
      await expect(master.close({ timeout })).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_RANGE' });
      expect(master.state).toBe('running');
    });
  }
});

describe('what is asked for and makes no sense', () => {
  const CASES: { what: string; change: Record<string, unknown> }[] = [
    { what: 'a reload with other ports', change: { port: 1 } },
    { what: 'a reload with another user', change: { uid: 1 } },
    { what: 'a reload that makes a command of a script', change: { script: undefined, command: 'sleep' } },
  ];
  for (const { what, change } of CASES) {
    test(what, async () => {
      const master = await startMaster({ script: moods, workers: 1 });
      await expect(master.reload({ change })).rejects.toMatchObject({ code: 'ERR_SPILLWAY_OPTION_FIXED' });
    });
  }
});

test('a reload follows a link that points elsewhere by then', async () => {
  const link = join(folder, 'current.mjs');
  const release = (name: string) => {
    const file = join(folder, `${name}.mjs`);
    writeFileSync(
      file,
      `import { createServer } from 'node:http';
       createServer((_, response) => response.setHeader('connection', 'close').end('{"release":"${name}"}')).listen(process.env.PORT);`,
    );
    rmSync(link, { force: true });
    symlinkSync(file, link);
  };
  release('one');
  const master = await startMaster({ script: link, workers: 1 });
  expect(await ask(master)).toMatchObject({ release: 'one' });
  release('two');
  await master.reload();
  await until('the old one has gone', () => master.workers.length === 1);
  expect(await ask(master)).toMatchObject({ release: 'two' });
});

test('a reload of all at once takes nothing over when a new worker has gone before the others are ready', async () => {
  const args = ['ready=1', 'later=1500'];
  const master = await startMaster({ script: moods, args, waitReady: true, workers: 2 });
  const before = pidsOf(master);
  const started: Worker[] = [];
  master.on('worker:start', (worker) => started.push(worker));
  const reloading = master.reload({ together: true });
  reloading.catch(() => {});
  await until('the first new one is ready', () => started.some(({ state }) => state === 'running'));
  expect(started.map(({ state }) => state).sort()).toEqual(['running', 'starting']);
  started.find(({ state }) => state === 'running')?.kill('SIGKILL');
  await expect(reloading).rejects.toMatchObject({ code: 'ERR_SPILLWAY_RELOAD' });
  await until('only the old ones are left', () => master.workers.length === 2);
  expect(pidsOf(master)).toEqual(before);
  expect(await askMany(master, 10)).toHaveLength(10);
});

test('scaling down to slots that have failed starts them again first', async () => {
  const master = await startMaster({ script: moods, args: [`fail-if=${flag}`], maxRestarts: 0 });
  const failed = heard(master, 'worker:failed');
  master.workers[0]?.kill('SIGKILL');
  await until('it has failed', () => failed.length === 1);
  writeFileSync(flag, '');
  await expect(master.scale(1)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_WORKER' });
  expect((await ask(master)).slot).toBe('1');
  rmSync(flag);
  await master.scale(1);
  expect((await ask(master)).slot).toBe('0');
});
