/** lib/group/layout.ts must say what native/bpf/layout.h says, as the compiler saw it. */
import { describe, expect, test } from 'vitest';
import {
  COUNTERS,
  decisionsOf,
  KINDS,
  MAX_SLOTS,
  OUTCOMES,
  OVERFLOWS,
  POLICIES,
  READING,
  SLOT_COUNTERS,
  SLOT_ENABLED,
} from '../../lib/group/layout.js';
import { native } from '../../lib/native.js';

const header = native().layout;

/** `cookieAck` → `COOKIE_ACK`, `two-choices` → `TWO_CHOICES`. */
function constant(name: string): string {
  return name
    .replace(/([A-Z])/g, '_$1')
    .replaceAll('-', '_')
    .toUpperCase();
}

describe('the header and TypeScript agree', () => {
  test('on the largest number of slots and the flags', () => {
    expect(MAX_SLOTS).toBe(header.SPILLWAY_MAX_SLOTS);
    expect(SLOT_ENABLED).toBe(header.SPILLWAY_SLOT_ENABLED);
  });

  test.each(Object.entries(POLICIES))('on the number of policy %s', (name, number) => {
    expect(number).toBe(header[`SPILLWAY_POLICY_${constant(name)}`]);
  });

  test.each(Object.entries(OVERFLOWS))('on the number of overflow %s', (name, number) => {
    expect(number).toBe(header[`SPILLWAY_OVERFLOW_${constant(name)}`]);
  });

  test('on the kinds and outcomes of decisions, all of them', () => {
    expect(KINDS.map((kind) => header[`SPILLWAY_KIND_${constant(kind)}`])).toEqual(KINDS.map((_, n) => n));
    expect(KINDS.length).toBe(header.SPILLWAY_KINDS);
    expect(OUTCOMES.map((outcome) => header[`SPILLWAY_OUTCOME_${constant(outcome)}`])).toEqual(
      OUTCOMES.map((_, n) => n),
    );
    expect(OUTCOMES.length).toBe(header.SPILLWAY_OUTCOMES);
  });

  test.each([
    ['spillway_slot_counters', SLOT_COUNTERS, 8],
    ['spillway_counters', COUNTERS, 8],
    ['spillway_reading', READING, 4],
  ] as const)('on size and fields of struct %s', (struct, { words, ...fields }, width) => {
    expect(words * width).toBe(header[`sizeof ${struct}`]);
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
  expect(decisions.syn).toEqual({ first: 0, redirected: 1, dropped: 2, reset: 3, failed: 4 });
  expect(decisions.migration.redirected).toBe(11);
  expect(decisions.stray.failed).toBe(19);
});
