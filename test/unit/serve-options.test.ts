/** What a master takes from its options before it starts anybody. */
import { expect, test } from 'vitest';
import { hintsRowsOf } from '../../lib/serve/options.js';
import { named } from '../support/named.js';

const CASES: { what: string; workers: number; capacity?: number; rows: number }[] = [
  { what: 'twice 64 workers', workers: 4, rows: 128 },
  { what: 'twice as many as are to start, when they are more', workers: 100, rows: 200 },
  { what: 'twice the capacity that was asked for', workers: 4, capacity: 300, rows: 600 },
  { what: 'twice 64 workers also with a small capacity', workers: 2, capacity: 3, rows: 128 },
];

test.each(named(CASES, ({ what }) => `there is memory that the kernel reads for ${what}`))(
  '%s',
  (_, { workers, capacity, rows }) => {
    expect(
      hintsRowsOf({ workers, demand: undefined, options: capacity === undefined ? {} : { capacity } }),
    ).toBe(rows);
  },
);
