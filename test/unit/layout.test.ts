/** lib/group/layout.ts must say what native/bpf/layout.h says, as the compiler saw it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  BUCKETS,
  COUNTERS,
  decisionsOf,
  KINDS,
  MAX_CPUS,
  MAX_SLOTS,
  OUTCOMES,
  OVERFLOWS,
  POLICIES,
  READINESS,
  READING,
  SLOT_COUNTERS,
  SLOT_ENABLED,
  SLOT_HELPS,
  STANDINGS,
} from '../../lib/group/layout.js';
import { native, packageRoot } from '../../lib/native.js';

const header = native().layout;
const source = readFileSync(join(packageRoot, 'native/bpf/layout.h'), 'utf8');

/** `cookieAck` → `COOKIE_ACK`, `two-choices` → `TWO_CHOICES`. */
function constant(name: string): string {
  return name
    .replace(/([A-Z])/g, '_$1')
    .replaceAll('-', '_')
    .toUpperCase();
}

/** What the compiler made of an enum of the header. The names are from its text, so that none is overlooked here. */
function numbersOf(name: string): Record<string, number | undefined> {
  const [, body] = new RegExp(`enum spillway_${name} \\{(.*?)\\};`, 's').exec(source) ?? [];
  if (body === undefined) throw new Error(`there is no enum spillway_${name}`);
  const members = body.replaceAll(/\/\/.*/g, '').match(/SPILLWAY_\w+/g) ?? [];
  return Object.fromEntries(members.map((member) => [member, header[member]]));
}

/** The fields of a struct that the compiler has told the place of. */
function fieldsOf(struct: string): string[] {
  return Object.keys(header)
    .filter((key) => key.startsWith(`${struct}.`))
    .map((key) => key.slice(struct.length + 1));
}

/** The numbers of names, as the header calls them. */
function named(prefix: string, numbers: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(numbers).map(([name, number]) => [`SPILLWAY_${prefix}${constant(name)}`, number]),
  );
}

const inOrder = (names: readonly string[]) => Object.fromEntries(names.map((name, number) => [name, number]));

describe('the header and TypeScript agree', () => {
  test.each([
    ['SPILLWAY_MAX_SLOTS', MAX_SLOTS],
    ['SPILLWAY_MAX_CPUS', MAX_CPUS],
    ['SPILLWAY_BUCKETS', BUCKETS],
    ['SPILLWAY_SLOT_ENABLED', SLOT_ENABLED],
    ['SPILLWAY_SLOT_HELPS', SLOT_HELPS],
  ])('on %s', (name, number) => {
    expect(number).toBe(header[name]);
  });

  test.each([
    ['policy', named('POLICY_', POLICIES)],
    ['overflow', named('OVERFLOW_', OVERFLOWS)],
    ['kind', { ...named('KIND_', inOrder(KINDS)), SPILLWAY_KINDS: KINDS.length }],
    ['outcome', { ...named('OUTCOME_', inOrder(OUTCOMES)), SPILLWAY_OUTCOMES: OUTCOMES.length }],
    ['standing', named('', inOrder(STANDINGS))],
    ['readiness', named('', inOrder(READINESS))],
  ])('on the numbers of enum spillway_%s, all of them', (name, numbers) => {
    expect(numbers).toEqual(numbersOf(name));
  });

  test.each([
    ['spillway_slot_counters', SLOT_COUNTERS, 8],
    ['spillway_counters', COUNTERS, 8],
    ['spillway_reading', READING, 4],
  ] as const)('on size and fields of struct %s', (struct, { words, ...fields }, width) => {
    expect(words * width).toBe(header[`sizeof ${struct}`]);
    expect(Object.keys(fields).map((field) => constant(field).toLowerCase())).toEqual(fieldsOf(struct));
    for (const [field, word] of Object.entries(fields)) {
      const offset = header[`${struct}.${constant(field).toLowerCase()}`];
      expect(offset, `${struct}.${field}`).toBe(word * width);
    }
  });

  test('on a row of the alias table: threshold, then alias, 32 bits each', () => {
    expect(header['sizeof spillway_choice']).toBe(8);
    expect(header['spillway_choice.threshold']).toBe(0);
    expect(header['spillway_choice.alias']).toBe(4);
  });
});

test('decisions are read row by row: kinds, then outcomes', () => {
  const counters = Float64Array.from({ length: COUNTERS.words }, (_, word) => word);
  const decisions = decisionsOf(counters);
  expect(decisions.syn).toEqual({ first: 0, redirected: 1, dropped: 2, reset: 3, failed: 4, waiting: 5 });
  expect(decisions.migration.redirected).toBe(13);
  expect(decisions.stray.failed).toBe(22);
});
