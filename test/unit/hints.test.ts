/** The page in which a worker notes what its event loop does, across processes, and across threads that end. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { type NativeHints, native, packageRoot } from '../../lib/native.js';
import { until } from '../support/until.js';

const ADDON = join(packageRoot, 'build/Release/spillway.node');
/** What the time of a turn may be early by: libuv's clock may be a coarse one, of the kernel's ticks. */
const TICK = 10;
/** The watching thread looks so often, in milliseconds, and so rarely after a long rest (native/beat.cc). */
const LOOK_EVERY = 50;
const LOOK_AT_REST = 800;
/** Turns are counted up to this number, and then from 0. */
const TURNS = 2 ** 14;

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function create(): NativeHints {
  const hints = new (native().Hints)('create');
  cleanUps.push(() => hints.close());
  return hints;
}

const now = () => Number(process.hrtime.bigint() / 1_000_000n);
const age = (hints: NativeHints) => now() - hints.read().since;

type Child = ChildProcessByStdio<Writable, Readable, null>;

/** A process that has the page as descriptor 3, and runs `code` with `hints`, `spin(ms)` and `say(text)`. */
function run(hints: NativeHints, code: string): Child {
  const source = `
const { Hints } = require(${JSON.stringify(ADDON)});
const fs = require('node:fs');
const hints = new Hints('map', 3);
const say = (text) => fs.writeSync(1, text + '\\n');
const spin = (ms) => { for (const end = performance.now() + ms; performance.now() < end; ); };
${code}`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['pipe', 'pipe', 'inherit', hints.fd] });
  cleanUps.push(() => child.kill('SIGKILL'));
  return child as unknown as Child;
}

/** What the next chunk of the child's output says. */
const said = async (child: Child) => String((await once(child.stdout, 'data'))[0]).trim();

/** Waits until the page says so, and the state has gone on for that long. */
async function untilState(hints: NativeHints, state: string, longer = 0): Promise<void> {
  await until(`the loop is ${state} for ${longer} ms`, () => {
    const read = hints.read();
    return read.state === state && now() - read.since >= longer;
  });
}

describe('what another process reads', () => {
  test('is silence where nobody beats, also while the main module runs', async () => {
    const hints = create();
    expect(hints.read()).toEqual({ state: 'silent', since: 0, turn: 0 });
    const child = run(hints, 'hints.beat(); say("beats"); spin(200); say("over"); process.stdin.resume()');
    expect(await said(child)).toBe('beats');
    expect(hints.read()).toEqual({ state: 'silent', since: 0, turn: 0 });
    await untilState(hints, 'waiting');
  });

  test('is waiting, since it began, of a loop with nothing to do', async () => {
    const hints = create();
    const begin = now();
    run(hints, 'hints.beat(); process.stdin.resume()');
    await untilState(hints, 'waiting', 3 * LOOK_EVERY);
    const { since } = hints.read();
    expect(since).toBeGreaterThanOrEqual(begin);
    // Nothing turns, so nothing is noted: neither by the loop nor by the thread that watches over it.
    await untilState(hints, 'waiting', 8 * LOOK_EVERY);
    expect(hints.read()).toMatchObject({ state: 'waiting', since });
  });

  test.each([
    ['a timer', 'process.stdin.once("data", () => setTimeout(() => { say("spins"); spin(1500); }, 20))'],
    ['an immediate', 'process.stdin.once("data", () => setImmediate(() => { say("spins"); spin(1500); }))'],
    ['an event', 'process.stdin.once("data", () => { say("spins"); spin(1500); })'],
    [
      'a promise after an event',
      'process.stdin.once("data", async () => { await 0; say("spins"); spin(1500); })',
    ],
    [
      'an event, asleep',
      'process.stdin.once("data", () => { say("spins"); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500); })',
    ],
    [
      'an event, waiting for another process',
      'process.stdin.once("data", () => { say("spins"); require("node:child_process").execSync("sleep 1.5"); })',
    ],
  ])('is running of one that is stuck in the callback of %s, and waiting after that', async (_, code) => {
    const hints = create();
    const child = run(hints, `hints.beat(); process.stdin.resume(); ${code}; say("up")`);
    await said(child);
    // Long enough for a note of an earlier turn to be recognised.
    await untilState(hints, 'waiting', 3 * LOOK_EVERY);
    const asked = now();
    const rested = age(hints);
    child.stdin.write('go');
    await said(child);
    const begin = now();
    await untilState(hints, 'running', 200);
    const { since } = hints.read();
    expect(since).toBeGreaterThanOrEqual(asked - TICK);
    // Looks become rarer as long as nothing happens, each by no more than the time since it began. Two at most are needed;
    // the rest is for a machine that has other things to do.
    expect(since).toBeLessThanOrEqual(begin + Math.min(rested, LOOK_AT_REST) + LOOK_EVERY + 100);
    await untilState(hints, 'waiting');
    expect(hints.read().since).toBeGreaterThanOrEqual(begin + 1500 - 200);
  });

  test('is running as well of one that gets stuck after a long rest, when the next look is due', async () => {
    const hints = create();
    const child = run(
      hints,
      'hints.beat(); process.stdin.once("data", () => { say("spins"); spin(2500); }); say("up")',
    );
    await said(child);
    await untilState(hints, 'waiting', 2 * LOOK_AT_REST + 2 * LOOK_EVERY);
    child.stdin.write('go');
    await said(child);
    const begin = now();
    await untilState(hints, 'running');
    expect(hints.read().since).toBeLessThanOrEqual(begin + LOOK_AT_REST + LOOK_EVERY + 100);
    await untilState(hints, 'waiting');
  });

  test('counts every turn, so that two notes of one millisecond differ, and begins anew after 16384', async () => {
    const hints = create();
    const COUNT = 2 * TURNS;
    const child = run(
      hints,
      `
hints.beat();
const notes = [];
const again = () => {
  notes.push(hints.read());
  if (notes.length < ${COUNT}) return setImmediate(again);
  const [{ turn: first }] = notes;
  const wrong = notes.filter(({ turn }, index) => turn !== (first + index) % ${TURNS});
  say(JSON.stringify({ wrong: wrong.length, times: new Set(notes.map(({ since }) => since)).size }));
};
setImmediate(again);`,
    );
    const { wrong, times } = JSON.parse(await said(child)) as { wrong: number; times: number };
    expect(wrong).toBe(0);
    // Otherwise nothing here would have shown that the time alone is not enough.
    expect(times).toBeLessThan(COUNT);
  });

  test('has the number of its turn from one that waits until the next begins, also when it is stuck in between', async () => {
    const hints = create();
    const child = run(
      hints,
      'hints.beat(); process.stdin.on("data", () => { say("spins"); spin(1500); }); say("up")',
    );
    await said(child);
    await untilState(hints, 'waiting', 3 * LOOK_EVERY);
    const { turn } = hints.read();
    child.stdin.write('go');
    await said(child);
    await untilState(hints, 'running');
    // The thread that watches has corrected the note of the turn that goes on.
    expect(hints.read().turn).toBe(turn);
    await untilState(hints, 'waiting');
    expect(hints.read().turn).not.toBe(turn);
  });

  test('is a fresh time from a loop that turns and turns without ever waiting', async () => {
    const hints = create();
    const child = run(
      hints,
      'hints.beat(); const again = () => setImmediate(again); again(); setTimeout(() => say("up"))',
    );
    await said(child);
    // Ages grow where the reader itself is held up between the reading and the clock: the least of some counts.
    for (let look = 0; look < 20; look++) {
      await until('the loop has turned just now', () => age(hints) <= TICK);
      expect(hints.read().state).not.toBe('silent');
    }
  });

  test('stays as it is of a process that is stopped, and goes on with it', async () => {
    const hints = create();
    const child = run(hints, 'hints.beat(); setInterval(() => {}, 5); say("up")');
    await said(child);
    await until('it turns', () => hints.read().state !== 'silent' && age(hints) < 100);
    child.kill('SIGSTOP');
    await until('nothing is noted any more', () => age(hints) > 300);
    child.kill('SIGCONT');
    await until('it turns again', () => age(hints) < 100);
  });

  test('is left behind by a process that has ended', async () => {
    const hints = create();
    const child = run(hints, 'hints.beat(); setTimeout(() => {}, 20)');
    // Nothing is kept alive by the beat, or by the thread that watches.
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(['waiting', 'running']).toContain(hints.read().state);
  });

  test.each([
    ['all bits', Buffer.alloc(4096, 0xff), 'silent', TURNS - 1],
    ['no bits', Buffer.alloc(4096), 'silent', 0],
    ['a state that is none', Buffer.from([3, 0, 1, 0, 0, 0, 0, 0]), 'silent', 0],
    ['waiting since times to come', Buffer.from([1, 255, 255, 255, 255, 255, 255, 255]), 'waiting', 16_320],
    ['running since times to come', Buffer.from([2, 0, 255, 255, 255, 255, 255, 255]), 'running', 0],
    ['running since the start', Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), 'running', 0],
    ['the first turn', Buffer.from([1 | (1 << 2), 0, 1, 0, 0, 0, 0, 0]), 'waiting', 1],
    [
      'the last turn before they are counted anew',
      Buffer.from([254, 255, 1, 0, 0, 0, 0, 0]),
      'running',
      TURNS - 1,
    ],
  ])('is one of the states when a worker writes %s', (_, bytes, state, turn) => {
    const hints = create();
    writeSync(hints.fd, bytes, 0, bytes.length, 0);
    const read = hints.read();
    expect(read.state).toBe(state);
    expect(read.turn).toBe(turn);
    expect(read.since).toBeGreaterThanOrEqual(0);
    expect(read.since).toBeLessThanOrEqual(now());
    if (state === 'silent') expect(read.since).toBe(0);
  });
});

describe('the page', () => {
  test('cannot be taken away or made longer by who else has it', () => {
    const hints = create();
    for (const size of [0, 1, 8192]) {
      expect(() => ftruncateSync(hints.fd, size)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    }
    expect(hints.read().state).toBe('silent');
  });

  test('is shared by whoever maps its descriptor, which is not needed afterwards', () => {
    const hints = create();
    const { Hints } = native();
    const fd = openSync(`/proc/self/fd/${hints.fd}`, 'r+');
    const mapped = new Hints('map', fd);
    closeSync(fd);
    expect(mapped.fd).toBe(-1);
    writeSync(hints.fd, Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), 0, 8, 0);
    expect(mapped.read()).toEqual({ state: 'running', since: 0, turn: 0 });
    hints.close();
    expect(mapped.read().state).toBe('running');
    mapped.close();
  });

  test('cannot be mapped of what is none', () => {
    const { Hints } = native();
    const folder = mkdtempSync(join(tmpdir(), 'spillway-'));
    cleanUps.push(() => rmSync(folder, { recursive: true }));
    const short = openSync(join(folder, 'short'), 'w+');
    const readOnly = openSync('/proc/self/exe', 'r');
    cleanUps.push(() => {
      closeSync(short);
      closeSync(readOnly);
    });
    expect(() => new Hints('map', short)).toThrow(/^EINVAL/);
    expect(() => new Hints('map', readOnly)).toThrow(/^EACCES/);
    expect(() => new Hints('map', -1)).toThrow(/^EBADF/);
  });

  test('is closed once, however often it is asked to, and is of no use then', () => {
    const before = readdirSync('/proc/self/fd').length;
    const hints = new (native().Hints)('create');
    expect(hints.fd).toBeGreaterThan(2);
    hints.beat();
    hints.close();
    hints.close();
    expect(hints.fd).toBe(-1);
    expect(() => hints.read()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => hints.beat()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});

describe('a beat', () => {
  const threads = () => readdirSync('/proc/self/task').length;

  test('ends with close(), and can begin again with another object', async () => {
    const first = create();
    const before = threads();
    first.beat();
    first.beat();
    await untilState(first, 'running');
    expect(threads()).toBe(before + 1);
    const copy = new (native().Hints)('map', first.fd);
    cleanUps.push(() => copy.close());
    first.close();
    expect(threads()).toBe(before);
    const last = copy.read();
    await new Promise((turn) => setTimeout(turn, 20));
    expect(copy.read()).toEqual(last);
    copy.beat();
    await until('it is noted again', () => copy.read().since > last.since);
  });

  test('goes on when its object is garbage, and ends with the process', async () => {
    const hints = create();
    const child = run(
      hints,
      `
(() => { const { Hints } = require(${JSON.stringify(ADDON)}); new Hints('map', 3).beat(); })();
require('node:v8').setFlagsFromString('--expose-gc');
const gc = require('node:vm').runInNewContext('gc');
gc();
process.stdin.once('data', () => { gc(); say('collected'); process.stdin.once('data', () => process.exit(7)); });
say('up');`,
    );
    await said(child);
    child.stdin.write('go');
    await said(child);
    const collected = now();
    await until('a turn after that is noted', () => hints.read().since >= collected - TICK);
    child.stdin.write('go');
    expect(await once(child, 'exit')).toEqual([7, null]);
  });

  test('of a thread that is terminated ends with it: 50 of them leave nothing behind', async () => {
    const hints = create();
    const source = `
const { parentPort, workerData } = require('node:worker_threads');
const { Hints } = require(workerData.addon);
const hints = new Hints('map', workerData.fd);
hints.beat();
setInterval(() => {}, 1);
parentPort.postMessage('beats');
if (workerData.spins) for (;;);
`;
    const live = async (spins: boolean) => {
      const workerData = { addon: ADDON, fd: hints.fd, spins };
      const worker = new Worker(source, { eval: true, workerData });
      await once(worker, 'message');
      await worker.terminate();
    };
    await live(false);
    const before = { threads: threads(), descriptors: readdirSync('/proc/self/fd').length };
    for (let round = 0; round < 50; round++) await live(round % 5 === 4);
    await until('no thread and no descriptor is left', () => {
      return threads() <= before.threads && readdirSync('/proc/self/fd').length <= before.descriptors;
    });
  });

  test('of a thread that ends by itself does not hold it up', async () => {
    const hints = create();
    const source = `
const { workerData } = require('node:worker_threads');
const { Hints } = require(workerData.addon);
new Hints('map', workerData.fd).beat();
setTimeout(() => {}, 10);
`;
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(source, { eval: true, workerData: { addon: ADDON, fd: hints.fd } });
      expect(await once(worker, 'exit')).toEqual([0]);
    }
  });
});
