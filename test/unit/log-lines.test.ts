import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { Destination, type Sink } from '../../lib/cli/start/destination.js';
import { History } from '../../lib/cli/start/history.js';
import { LineSplitter, LONGEST_LINE } from '../../lib/cli/start/lines.js';
import { logFileOf } from '../../lib/cli/start/output.js';

function split(chunks: Buffer[]): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line.toString('utf8')));
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return lines;
}

describe('lines', () => {
  test('are the same however the bytes come', () => {
    const text = `one\n\ntwo é 日本 😀\n${'long '.repeat(30_000)}\nlast`;
    const bytes = Buffer.from(text);
    const whole = split([bytes]);
    const { between } = seededRandom(1);
    for (let round = 0; round < 20; round++) {
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; ) {
        const next = Math.min(bytes.length, at + between(1, 40_000));
        chunks.push(bytes.subarray(at, next));
        at = next;
      }
      expect(split(chunks)).toEqual(whole);
    }
    expect(whole.slice(0, 3)).toEqual(['one', '', 'two é 日本 😀']);
    expect(whole.slice(3, -1).join('')).toBe('long '.repeat(30_000));
    expect(whole.at(-1)).toBe('last');
  });

  test.each(['x', 'é', '日', '😀'])('longer than the limit come in parts that tear no %s', (character) => {
    const text = `a${character.repeat(100_000)}`;
    const parts = split([Buffer.from(text)]);
    expect(parts.join('')).toBe(text);
    for (const part of parts) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(LONGEST_LINE);
  });

  test('of bytes that are no text end somewhere as well', () => {
    const lines: Buffer[] = [];
    const splitter = new LineSplitter((line) => lines.push(line));
    splitter.push(Buffer.alloc(LONGEST_LINE * 3, 0xbf));
    splitter.end();
    expect(Buffer.concat(lines)).toHaveLength(LONGEST_LINE * 3);
  });
});

/** A sink that finishes a write when the test says so. */
class Slow implements Sink {
  written = '';
  final = false;
  #pending: { bytes: Buffer; done: (error?: NodeJS.ErrnoException) => void } | undefined;

  write(bytes: Buffer, done: (error?: NodeJS.ErrnoException) => void): void {
    this.#pending = { bytes, done };
  }

  isFinal(): boolean {
    return this.final;
  }

  close(): void {}

  finish(error?: NodeJS.ErrnoException): boolean {
    const pending = this.#pending;
    this.#pending = undefined;
    if (!pending) return false;
    if (!error) this.written += pending.bytes;
    pending.done(error);
    return true;
  }
}

function destination() {
  const sink = new Slow();
  const told: string[] = [];
  const trouble = {
    failed: (error: Error) => told.push(`failed: ${error.message}`),
    recovered: (lost: number) => told.push(`recovered: ${lost}`),
  };
  return { sink, told, to: new Destination(sink, trouble) };
}

describe('a destination', () => {
  test('writes everything in order while it has room', async () => {
    const { sink, to } = destination();
    for (let i = 0; i < 1000; i++) to.write(Buffer.from(`${i}\n`));
    const flushed = to.flush(1000);
    while (sink.finish());
    await flushed;
    expect(sink.written).toBe(Array.from({ length: 1000 }, (_, i) => `${i}\n`).join(''));
    expect(to.lostLines).toBe(0);
  });

  test('drops what finds no room, and says in its place how much', () => {
    const { sink, to } = destination();
    const line = Buffer.from(`${'x'.repeat(1023)}\n`);
    for (let i = 0; i < 5000; i++) to.write(line);
    expect(to.lostLines).toBe(5000 - 4096);
    while (sink.finish());
    to.write(Buffer.from('after\n'));
    while (sink.finish());
    expect(sink.written.match(/^x+$/gm)).toHaveLength(4096);
    expect(sink.written).toMatch(/\nspillway: 904 lines were dropped here: .*\nafter\n$/);
  });

  test('tells of a failure once, and of its end with the number of lines', () => {
    const { sink, told, to } = destination();
    for (let i = 0; i < 3; i++) {
      to.write(Buffer.from('lost\n'));
      sink.finish(new Error('full'));
    }
    expect(told).toEqual(['failed: full']);
    to.write(Buffer.from('kept\n'));
    sink.finish();
    expect(told).toEqual(['failed: full', 'recovered: 3']);
    expect(sink.written).toBe('kept\n');
    expect(to.lostLines).toBe(3);
  });

  test('gives up when the error is final, and nobody waits for it', async () => {
    const { sink, told, to } = destination();
    sink.final = true;
    to.write(Buffer.from('lost\n'));
    const flushed = to.flush(60_000);
    sink.finish(new Error('gone'));
    await flushed;
    to.write(Buffer.from('lost\n'));
    expect(sink.finish()).toBe(false);
    expect({ told, broken: to.discards, lost: to.lostLines }).toEqual({
      told: ['failed: gone'],
      broken: true,
      lost: 2,
    });
  });
});

test('the history keeps the last thousand lines, and not too much text', () => {
  const history = new History();
  const line = (slot: number, text: string) => ({ time: 0, slot, stream: 'stdout' as const, text });
  for (let i = 0; i < 1500; i++) history.add(line(i % 2, String(i)));
  expect(history.recent(5000, undefined)).toHaveLength(1000);
  expect(history.recent(2, 0).map(({ text }) => text)).toEqual(['1496', '1498']);
  expect(history.recent(0, undefined)).toEqual([]);
  for (let i = 0; i < 200; i++) history.add(line(0, 'x'.repeat(LONGEST_LINE)));
  expect(history.recent(5000, undefined)).toHaveLength(64);
});

test.each([
  [{ logs: '/l' }, '/l/shop-2.out.log', '/l/shop-2.err.log'],
  [{}, undefined, undefined],
  [{ outFile: '/l/out.log' }, '/l/out-2.log', undefined],
  [{ logs: '/l', errorFile: '/e/err' }, '/l/shop-2.out.log', '/e/err-2'],
  [{ logFile: '/l/all.log' }, '/l/all-2.log', '/l/all-2.log'],
  [{ logs: '/l', outFile: '/dev/null' }, '/dev/null', '/l/shop-2.err.log'],
])('log files of %j', (places, out, err) => {
  expect(logFileOf(places, 'shop', 2, 'stdout')).toBe(out);
  expect(logFileOf(places, 'shop', 2, 'stderr')).toBe(err);
});
