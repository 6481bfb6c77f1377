/** `spillway demo`: what it shows, what it counts, and that it ends without leaving anything, however it is ended. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { DemoResult } from '../../lib/cli/demo.js';
import { packageRoot } from '../../lib/native.js';
import {
  CLI,
  descendants,
  freePort,
  inTerminal,
  Run,
  runSpillway,
  spillway,
  undescribed,
} from '../support/cli.js';
import { gone, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

const sum = (numbers: Iterable<number>) => [...numbers].reduce((total, number) => total + number, 0);

/** A demo on any port, ready, with its workers' ids; the load program is there as soon as it has been started. */
async function startDemo(...args: string[]): Promise<{ demo: Run; port: number; workers: number[] }> {
  const demo = spillway('demo', '--port', '0', ...args);
  const text = await demo.says('0 s |');
  const workers = [...text.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid));
  return { demo, workers, port: Number(/localhost:(\d+)/.exec(text)?.[1]) };
}

async function allGone(pids: readonly number[]): Promise<void> {
  for (const pid of pids) await gone(pid);
}

describe('--flood --seconds 2 --json', () => {
  for (const { selector, missing } of TIERS) {
    test.skipIf(missing.length > 0)(`gives one object whose sums agree, with ${selector}`, async () => {
      const args = ['--port', '0', '--flood', '--seconds', '2', '--json', '--selector', selector];
      const { code, stdout, stderr } = await runSpillway('demo', ...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const lines = stdout.trimEnd().split('\n');
      expect(lines).toHaveLength(1);
      const result: DemoResult = JSON.parse(lines[0]!);

      expect(result).toMatchObject({ selector, notice: null });
      expect(undescribed('demo', result)).toEqual([]);
      expect(result.seconds).toBeGreaterThanOrEqual(2);
      expect(result.workers.map(({ slot }) => slot)).toEqual([0, 1, 2, 3]);
      const { load, workers } = result;
      expect(load.sent).toBeGreaterThan(100);
      expect(load.answered + load.failed + load.timedOut).toBe(load.sent);
      expect(load).toMatchObject({ answered: load.sent, failed: 0, timedOut: 0 });
      expect(Object.fromEntries(workers.map(({ slot, served }) => [slot, served]))).toEqual(load.byWorker);
      // The worker that was made slow had more to do than it could.
      expect(workers[1]?.queue).toBeGreaterThan(8);

      const into = workers.map(({ redirectedIn }) => redirectedIn);
      const out = workers.map(({ redirectedOut }) => redirectedOut);
      if (selector === 'ebpf') {
        expect(result.redirected).toBeGreaterThan(0);
        expect(sum(into as number[])).toBe(result.redirected);
        expect(sum(out as number[])).toBe(result.redirected);
        expect(out[1]).toBeGreaterThan(0);
      } else {
        expect(result).toMatchObject({ redirected: null, dropped: null });
        expect([...into, ...out]).toEqual(new Array(8).fill(null));
      }
      await allGone(workers.map(({ pid }) => pid as number));
    });
  }
});

test('without a terminal it prints how to try it, and a line per second with all facts', async () => {
  const { code, stdout, stderr } = await runSpillway(
    'demo',
    '--port',
    '0',
    '--seconds',
    '2',
    '--workers',
    '2',
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const lines = stdout.trimEnd().split('\n');
  expect(lines[0]).toMatch(
    /^Spillway demo on http:\/\/localhost:\d+: selector \w+, policy hash, backlog 16$/,
  );
  expect(lines[1]).toMatch(/^Workers: 0 \(process \d+\), 1 \(process \d+\)$/);
  expect(lines[2]).toMatch(/curl -s localhost:\d+$/);
  const facts = lines.filter((line) => /^ +\d+ s \|/.test(line));
  expect(facts.length).toBeGreaterThanOrEqual(2);
  for (const line of facts) {
    expect(line).toMatch(/connections\/s, .* redirected, .* dropped, \d+ kernel drops \|/);
    expect(line).toMatch(/\| 0: queue 0\/17, served 0, chosen .*, in .*, out .* \| 1: queue 0\/17/);
  }
  expect(lines.at(-1)).toBe('The demo has ended: 0 connections served.');
});

test('it takes the next port when the one it was asked for is taken, and says so', async () => {
  const holder = createServer().listen(0);
  await once(holder, 'listening');
  const { port } = holder.address() as { port: number };
  try {
    const { code, stdout, stderr } = await runSpillway(
      'demo',
      '--port',
      String(port),
      '--seconds',
      '1',
      '--json',
    );
    const result: DemoResult = JSON.parse(stdout);
    expect(code).toBe(0);
    expect(result.port).toBeGreaterThan(port);
    expect(stderr).toBe(
      `spillway: port ${port} is taken; the demo takes the next free one, ${result.port}\n`,
    );
  } finally {
    holder.close();
  }
});

test('two demos do not share a port, although the kernel would let them', async () => {
  const first = await startDemo();
  const second = spillway('demo', '--port', String(first.port));
  await second.says('Spillway demo on');
  expect(second.stderr).toContain(`port ${first.port} is taken`);
});

describe('it ends with code 0 and leaves no process', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`after ${signal}, also when it comes twice within milliseconds`, async () => {
      const { demo } = await startDemo('--flood');
      const below = descendants(demo.pid);
      expect(below).toHaveLength(5);
      demo.child.kill(signal);
      demo.child.kill(signal);
      expect(await demo.ended).toEqual([0, null]);
      expect(demo.stderr).toBe('');
      await allGone(below);
    });
  }

  test('when whoever read its output has gone', async () => {
    const { demo } = await startDemo('--flood');
    const below = descendants(demo.pid);
    demo.child.stdout?.destroy();
    expect(await demo.ended).toEqual([0, null]);
    expect(demo.stderr).toBe('');
    await allGone(below);
  });
});

test('a second Ctrl-C ends it at once, though a worker does not end', async () => {
  const { demo, workers } = await startDemo('--flood');
  const below = descendants(demo.pid);
  await stop(workers[0]!);
  demo.child.kill('SIGINT');
  // Repeats within half a second count as one.
  await wait(600);
  expect(demo.child.exitCode).toBeNull();
  demo.child.kill('SIGINT');
  expect(await demo.ended).toEqual([130, null]);
  await allGone(below);
});

test('killed without a chance to clean up, it leaves no process', async () => {
  const { demo } = await startDemo('--flood');
  const below = descendants(demo.pid);
  demo.child.kill('SIGKILL');
  await demo.ended;
  await allGone(below);
});

test('a worker that dies is told of, and another follows', async () => {
  const { demo, port, workers } = await startDemo('--workers', '2');
  process.kill(workers[0]!, 'SIGKILL');
  await until('it is told of', () =>
    demo.stderr.includes(`worker 0 (process ${workers[0]}) has gone: SIGKILL; another follows`),
  );
  await until('another worker 0 answers', async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
    const [, slot, pid] = /worker (\d+).*process (\d+)/s.exec(await answer.text()) ?? [];
    return slot === '0' && Number(pid) !== workers[0];
  });
  demo.child.kill('SIGINT');
  expect(await demo.ended).toEqual([0, null]);
});

test('an empty --host is none', async () => {
  const { code, stdout } = await runSpillway('demo', '--port', '0', '--host', '', '--seconds', '1');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Spillway demo on http:\/\/localhost:\d+:/);
});

test('started by scripts/run.mjs it is that process: whatever ends it leaves nothing', async () => {
  const script = join(packageRoot, 'scripts/run.mjs');
  const demo = new Run(process.execPath, [script, 'start', '--port', '0', '--flood']);
  const text = await demo.says('0 s |');
  const workers = [...text.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid));
  const below = descendants(demo.pid);
  expect(below).toHaveLength(5);
  expect(below).toEqual(expect.arrayContaining(workers));
  demo.child.kill('SIGKILL');
  await demo.ended;
  await allGone(below);
});

describe('in a terminal', () => {
  const found = existsSync('/usr/bin/script');

  test.skipIf(!found)('the table is redrawn, f floods, q quits, and the terminal is as before', async () => {
    const command = `stty cols 100 rows 40; ${process.execPath} ${CLI} demo --port 0; echo code=$?; stty -a`;
    const demo = inTerminal(command, { NO_COLOR: '1' });
    await demo.says('q quits');
    expect(demo.stdout).toMatch(/worker +pid +queue +served +per s +chosen +redir\. in +out/);
    demo.child.stdin?.write('f');
    await demo.says(/1 slow +\d+ +█+ 17\/17/);
    demo.child.stdin?.write('s');
    await demo.says(/2 slow +\d+ +█/);
    const before = demo.stdout.length;
    demo.child.stdin?.write('q');
    await demo.says('code=');
    const last = demo.stdout.slice(before);
    expect(last).toContain('code=0');
    expect(last).toMatch(/The demo has ended: [1-9]\d* connections served\./);
    await demo.ended;
    expect(demo.stdout).toMatch(/[^-]icanon/);
    expect(demo.stdout).toMatch(/[^-]isig/);
    expect(demo.stdout.lastIndexOf('\u001b[?25h')).toBeGreaterThan(demo.stdout.lastIndexOf('\u001b[?25l'));
  });

  test.skipIf(!found)('Ctrl-C, which reaches every process, leaves the workers to the demo', async () => {
    const port = await freePort();
    const demo = inTerminal(`exec ${process.execPath} ${CLI} demo --port ${port} --flood --json`);
    // By then the slow worker's queue, which holds 17, is full.
    await until('the flood has brought a worker 60 requests', async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
      return Number(/request (\d+)/.exec((await answer?.text()) ?? '')?.[1]) >= 60;
    });
    demo.child.stdin?.write('\u0003');
    expect(await demo.ended).toEqual([0, null]);
    const result: DemoResult = JSON.parse(demo.stdout.slice(demo.stdout.indexOf('{')));
    expect(result.workers[1]?.queue).toBeGreaterThan(8);
    expect(result.load).toMatchObject({ failed: 0, timedOut: 0 });
    if (result.selector === 'ebpf') expect(result.dropped).toBe(0);
  });

  test.skipIf(!found)('when the slow worker dies, the next one that lives becomes it', async () => {
    const command = `stty cols 100 rows 40; ${process.execPath} ${CLI} demo --port 0 --workers 3 --flood`;
    const demo = inTerminal(command, { NO_COLOR: '1' });
    const text = await demo.says('Worker 1 takes 100 ms');
    const pidOf = (slot: number) => Number(new RegExp(`^${slot}[^\\d\\n]+(\\d+)`, 'm').exec(text)?.[1]);
    process.kill(pidOf(1), 'SIGKILL');
    await demo.says('Worker 2 takes 100 ms');
    expect(demo.stdout).not.toContain('Worker 0 takes');
    demo.child.stdin?.write('q');
    expect(await demo.ended).toEqual([0, null]);
  });

  test.skipIf(!found)('a terminal without a size, and without keys, shows the table as well', async () => {
    const command = `stty cols 0 rows 0; ${process.execPath} ${CLI} demo --port 0 --seconds 1 < /dev/null`;
    const demo = inTerminal(command);
    expect(await demo.ended).toEqual([0, null]);
    expect(demo.stdout).toContain('Spillway demo on http://localhost:');
    expect(demo.stdout).not.toContain('q quits');
  });
});

test("the demo's program runs under plain Node as well", async () => {
  const port = await freePort();
  const script = join(packageRoot, 'dist/lib/cli/demo/program.js');
  const program = new Run(process.execPath, [script], { PORT: String(port), HOST: '127.0.0.1' });
  const ask = (accept: string) =>
    fetch(`http://127.0.0.1:${port}/`, { headers: { accept } }).catch(() => undefined);
  const text = await until('the program answers', () => ask('*/*'));
  expect(text.headers.get('x-worker')).toBe('0');
  expect(await text.text()).toBe(`worker 0, process ${program.pid}: request 1\n`);
  const page = await ask('text/html');
  expect(page?.headers.get('content-type')).toContain('text/html');
  expect(await page?.text()).toContain(`process ${program.pid}, request 2`);
});

test.each([
  ['no worker', ['--workers', '0']],
  ['a port that does not exist', ['--port', '65536']],
  ['half a second', ['--seconds', '0.5']],
  ['an unknown selector', ['--selector', 'magic']],
  ['an unknown option', ['--fast']],
])('%s is a usage error: code 2, one sentence on stderr', async (_, args) => {
  const { code, stdout, stderr } = await runSpillway('demo', ...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^error: .*\n(\(Did you mean .*\n)?\(`spillway --help` [^\n]*\n$/);
});
