/** Which processors each slot is given, on machines of all kinds, and when some of them are offline. */
import { describe, expect, test } from 'vitest';
import {
  assertPlaces,
  assign,
  isPlace,
  type Machine,
  parseList,
  rangesOf,
} from '../../lib/serve/placement.js';

function machine(cpus: number[], nodes: number[][] = [], siblings: number[][] = []): Machine {
  return {
    cpus,
    nodes: new Map(nodes.entries()),
    siblings: new Map(cpus.map((cpu) => [cpu, siblings.find((core) => core.includes(cpu)) ?? [cpu]])),
  };
}

/** Two nodes of two cores with two threads each, numbered as Linux does: the second threads come last. */
const LARGE = machine(
  [0, 1, 2, 3, 4, 5, 6, 7],
  [
    [0, 1, 4, 5],
    [2, 3, 6, 7],
  ],
  [
    [0, 4],
    [1, 5],
    [2, 6],
    [3, 7],
  ],
);

test.each([
  ['0', [0]],
  ['0-3,7', [0, 1, 2, 3, 7]],
  ['2,0-1\n', [0, 1, 2]],
  ['', []],
])('the list %j', (text, cpus) => {
  expect(parseList(text)).toEqual(cpus);
  if (!text.startsWith('2')) expect(rangesOf(cpus)).toBe(text);
});

test.each([
  ['0', true],
  ['0-3', true],
  ['0+2', true],
  ['0-1+4-5', true],
  ['node0', true],
  ['3-1', false],
  ['-1', false],
  ['node', false],
  ['a', false],
  ['9999', false],
  ['', false],
])('%j is a place: %s', (text, is) => expect(isPlace(text)).toBe(is));

describe('auto', () => {
  test('gives each slot a processor, all of them before any twice', () => {
    expect(assign('auto', 5, machine([0, 1, 2]))).toEqual([[0], [1], [2], [0], [1]]);
  });

  test('takes the cores in turn from all nodes, and their second threads last', () => {
    expect(assign('auto', 8, LARGE)).toEqual([[0], [2], [1], [3], [4], [6], [5], [7]]);
  });

  test('takes what there is when some are offline', () => {
    expect(assign('auto', 3, machine([1, 3]))).toEqual([[1], [3], [1]]);
  });
});

describe('a list', () => {
  test('is gone through in turn', () => {
    expect(assign(['0', '2-3', '0+1'], 4, LARGE)).toEqual([[0], [2, 3], [0, 1], [0]]);
  });

  test('may name nodes', () => {
    expect(assign(['node1', 'node0'], 2, LARGE)).toEqual([
      [2, 3, 6, 7],
      [0, 1, 4, 5],
    ]);
  });

  test('leaves a slot whose processors are offline to all others', () => {
    expect(assign(['0-1', '3'], 2, machine([0, 2]))).toEqual([[0], undefined]);
  });

  test('must name what the machine has', () => {
    expect(() => assertPlaces(['0', '9'], LARGE, LARGE.cpus)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPILLWAY_OPTION_RANGE',
        message: "placement cannot be '9': this machine has processors 0-7, and not 9",
      }),
    );
    expect(() => assertPlaces(['node2'], LARGE, LARGE.cpus)).toThrow(/has nodes 0,1, and not node2/);
    // One that is offline now is there.
    assertPlaces(['5'], machine([0]), LARGE.cpus);
    assertPlaces('auto', LARGE, LARGE.cpus);
  });
});
