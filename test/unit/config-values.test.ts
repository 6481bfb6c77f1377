import { expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { faultIn } from '../../lib/cli/start/json-place.js';
import {
  parseDuration,
  parseInstanceRange,
  parseInstances,
  parseSize,
  splitWords,
} from '../../lib/cli/start/values.js';

test.each([
  ['5000', 5000],
  [250, 250],
  ['1.5s', 1500],
  ['500ms', 500],
  ['2 m', 120_000],
  ['1H', 3_600_000],
  ['1d', 86_400_000],
  ['', undefined],
  ['s', undefined],
  ['-1s', undefined],
  ['5 weeks', undefined],
])('duration %s', (text, expected) => expect(parseDuration(text)).toBe(expected));

test.each([
  ['1024', 1024],
  ['300M', 300 * 2 ** 20],
  ['1.5g', 1.5 * 2 ** 30],
  ['10KB', 10_240],
  ['2GiB', 2 ** 31],
  ['7b', 7],
  ['1X', undefined],
  ['constructor', undefined],
])('size %s', (text, expected) => expect(parseSize(text)).toBe(expected));

test.each([
  ['max', 8],
  [0, 8],
  ['-1', 7],
  [-20, 1],
  ['3', 3],
  [1024, 1024],
  [1025, undefined],
  ['2.5', undefined],
  ['', undefined],
])('instances %s of 8 CPUs', (text, expected) => expect(parseInstances(text, 8)).toBe(expected));

test.each([
  ['2-6', { min: 2, max: 6 }],
  ['1-max', { min: 1, max: 8 }],
  [' 2 - 2 ', { min: 2, max: 2 }],
  [
    { min: 1, max: '4' },
    { min: 1, max: 4 },
  ],
  ['6-2', undefined],
  ['1-2000', undefined],
  ['-1', 7],
  [3, 3],
])('instances %j of 8 CPUs', (given, expected) => expect(parseInstanceRange(given, 8)).toEqual(expected));

test.each([
  ['', []],
  ['  a  b ', ['a', 'b']],
  [`'a b' "c'd" e\\ f`, ['a b', "c'd", 'e f']],
  [`'' x""y`, ['', 'xy']],
  [`'\\'`, ['\\']],
  ['"open', undefined],
])('words of %s', (text, expected) => expect(splitWords(text)).toEqual(expected));

test.each([
  ['', { line: 1, column: 1 }],
  ['{\n  "a": 1,\n}', { line: 3, column: 1 }],
  ['{"a":}', { line: 1, column: 6 }],
  ['[1,\n 2\n 3]', { line: 3, column: 2 }],
  ['{"a": 1} x', { line: 1, column: 10 }],
  ['{"a": "x\ny"}', { line: 1, column: 7 }],
  ["{'a': 1}", { line: 1, column: 2 }],
  ['[true, nul]', { line: 1, column: 8 }],
  ['[01]', { line: 1, column: 3 }],
])('%j stops being JSON at its place', (text, place) => expect(faultIn(text)).toEqual(place));

test('no text that is JSON has a fault before its end', () => {
  let seen = 0;
  const { between } = seededRandom(3);
  const good = JSON.stringify({ a: [1, -2.5e3, true, null, 'é"\\\n\u2028'], b: { c: '' } }, null, 2);
  for (let i = 0; i < 2000; i++) {
    const at = between(0, good.length - 1);
    const text = good.slice(0, at) + '{}[]:,"x1 '[between(0, 9)] + good.slice(at + between(0, 1));
    let isJson = true;
    try {
      JSON.parse(text);
    } catch {
      isJson = false;
    }
    if (!isJson) continue;
    const lines = text.split('\n');
    expect(faultIn(text), text).toEqual({ line: lines.length, column: (lines.at(-1) as string).length + 1 });
    seen++;
  }
  expect(seen).toBeGreaterThan(50);
});
