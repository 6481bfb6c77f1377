/**
 * The keeper: what it holds outlives its masters, it starts another one when one has died or hangs, and ends when one has
 * ended by its own decision. Played here by a program that does what it is told.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../lib/native.js';
import { descendants, Run } from '../support/cli.js';
import { named } from '../support/named.js';
import { gone, program } from '../support/serving.js';
import { until } from '../support/until.js';

const KEEPER = join(packageRoot, 'build/Release/spillway-keeper');
const ADDON = join(packageRoot, 'build/Release/spillway.node');

interface Told {
  pid: number;
  number: number;
  left: Record<string, string>;
  keeper: string;
  once: string | null;
}

/** A keeper with a master that does these steps, one list for each start. */
class Kept extends Run {
  constructor(starts: readonly string[], options: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
    const master = [process.execPath, program('kept.mjs'), ADDON, ...starts];
    super(KEEPER, [...options, '--', ...master], env);
  }

  get told(): Told[] {
    return this.stdout
      .split('\n')
      .filter((line) => line.includes('"number"'))
      .map((line) => JSON.parse(line));
  }

  async start(number: number): Promise<Told> {
    return until(`master ${number} has started: ${this.stderr}`, () => this.told[number]);
  }
}

describe('what a master has stored', () => {
  test('is given to the next one by name, as it was last, and is gone when it was dropped', async () => {
    const kept = new Kept([
      'store=a,store=b,ready,alive,wait',
      'store=b,store=c,drop=a,ready,alive,wait',
      'wait',
    ]);
    const first = await kept.start(0);
    expect(first.left).toEqual({});
    await until('it has stored them', () => readdirSync(`/proc/${kept.pid}/fd`).length >= 3 + 7);
    process.kill(first.pid, 'SIGKILL');
    const second = await kept.start(1);
    expect(second.left).toEqual({ count: '0', a: 'a of 0', b: 'b of 0' });
    expect(second.keeper).toBe(String(kept.pid));
    const drops = () =>
      readdirSync(`/proc/${kept.pid}/fd`).filter((fd) =>
        readlinkSync(`/proc/${kept.pid}/fd/${fd}`).includes('-a (deleted)'),
      );
    await until('it has dropped the first', () => drops().length === 0);
    process.kill(second.pid, 'SIGKILL');
    const third = await kept.start(2);
    expect(third.left).toEqual({ count: '1', b: 'b of 1', c: 'c of 1' });
  });

  test('is believed only of the master itself', async () => {
    const kept = new Kept(['ready,alive,wait', 'ready,alive,wait']);
    const { pid } = await kept.start(0);
    const environment = new Run('sh', ['-c', `tr '\\0' '\\n' < /proc/${pid}/environ | grep ^NOTIFY_SOCKET=`]);
    await environment.ended;
    const stranger = new Run(process.execPath, [program('kept.mjs'), ADDON, 'store=evil,stopping,exit=0'], {
      NOTIFY_SOCKET: environment.stdout.trim().split('=')[1],
    });
    await stranger.ended;
    process.kill(pid, 'SIGKILL');
    expect((await kept.start(1)).left).toEqual({ count: '0' });
  });
});

describe('another master follows', () => {
  const ENDS = [
    { what: 'is killed', steps: 'ready,alive,kill=SIGKILL', says: 'was ended by signal Killed' },
    { what: 'ends with an error', steps: 'ready,alive,exit=7', says: 'has ended with exit code 7' },
    { what: 'asks for it', steps: 'exit=75', says: 'asks to be started anew' },
    { what: 'hangs', steps: 'ready,alive,hang', says: 'has not answered for 500 ms and is killed' },
  ];
  test.each(named(ENDS, ({ what }) => `one that ${what}`))('%s', async (_, { steps, says }) => {
    const kept = new Kept([steps, 'ready,alive,wait'], ['--watchdog', '500']);
    const first = await kept.start(0);
    const second = await kept.start(1);
    expect(second.pid).not.toBe(first.pid);
    expect(kept.stderr).toContain(`the master (process ${first.pid}) ${says}`);
    await gone(first.pid);
    expect(descendants(kept.pid)).toEqual([second.pid]);
    kept.child.kill('SIGTERM');
    expect(await kept.ended).toEqual([0, null]);
  });

  test('within a second of the end, and more slowly when one after another fails', async () => {
    const kept = new Kept(['ready,exit=1', 'exit=1', 'exit=1', 'exit=1', 'ready,alive,wait']);
    const begun = performance.now();
    await kept.start(1);
    expect(performance.now() - begun).toBeLessThan(2000);
    await kept.start(4);
    expect(kept.stderr).toContain('the next one is started in 200 ms');
  });
});

describe('the keeper ends', () => {
  const ENDS = [
    { what: 'that was never ready', steps: 'exit=3', code: 3 },
    { what: 'that has ended with 0', steps: 'ready,alive,exit=0', code: 0 },
    { what: 'that was stopping, whatever becomes of it', steps: 'ready,stopping,exit=9', code: 9 },
    { what: 'that is no program', steps: '', code: 125 },
  ];
  test.each(named(ENDS, ({ what }) => `with a master ${what}`))('%s', async (_, { steps, code }) => {
    const kept = steps === '' ? new Run(KEEPER, ['--', '/no/such/program']) : new Kept([steps]);
    expect(await kept.ended).toEqual([code, null]);
  });

  test.each(['', '--', '--watchdog x -- true', '--nonsense 1 -- true'])(
    'with the words %j',
    async (words) => {
      const run = new Run(KEEPER, words.split(' ').filter(Boolean));
      expect(await run.ended).toEqual([125, null]);
      expect(run.stderr).toContain('spillway-keeper: ');
    },
  );
});

test('signals are passed on, each once', async () => {
  const kept = new Kept(['ready,alive,wait']);
  await kept.start(0);
  kept.child.kill('SIGHUP');
  await kept.says('"SIGHUP"');
  kept.child.kill('SIGUSR2');
  await kept.says('"SIGUSR2"');
  kept.child.kill('SIGTERM');
  expect(await kept.ended).toEqual([0, null]);
  expect(kept.stdout.match(/"signal"/g)).toHaveLength(3);
});

test('a master that is told to end is the last one, however it ends', async () => {
  const kept = new Kept(['ready,alive,hang', 'ready,alive,wait'], ['--watchdog', '500']);
  await kept.start(0);
  kept.child.kill('SIGTERM');
  expect(await kept.ended).toEqual([128 + 9, null]);
});

test('a variable for the first master is nobody else’s', async () => {
  const kept = new Kept(['ready,alive,kill=SIGKILL', 'ready,alive,wait'], ['--once', 'ONCE'], { ONCE: 'x' });
  expect((await kept.start(0)).once).toBe('x');
  expect((await kept.start(1)).once).toBeNull();
});

test('what a master leaves behind is waited for', async () => {
  const kept = new Kept(['ready,alive,wait', 'ready,alive,wait']);
  const { pid } = await kept.start(0);
  // A child of the master's that outlives it: no process of ours but the shell that it is.
  const orphan = new Run('true', []);
  await orphan.ended;
  process.kill(pid, 'SIGKILL');
  await kept.start(1);
  await gone(pid);
});
