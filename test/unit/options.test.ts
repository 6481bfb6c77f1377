/** The option table: every row is whole, every value is checked, every selector's limits are kept. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../lib/errors.js';
import {
  assertGives,
  assertOptionName,
  checkOptions,
  checkValue,
  defaultFor,
  gives,
  OPTION_NAMES,
  OPTIONS,
  type OptionName,
  optionRow,
  SELECTORS,
} from '../../lib/group/options.js';
import { packageRoot } from '../../lib/native.js';
import { MASTER_OPTIONS } from '../../lib/serve/options.js';
// @ts-expect-error: a plain script without types
import { errorPage, masterPage, optionPage } from '../../scripts/docs.mjs';

const code = (name: string) => expect.objectContaining({ code: `ERR_SPILLWAY_OPTION_${name}` });

/** Values each option takes and refuses, at the edges of its range. */
const VALUES: Record<OptionName, { takes: unknown[]; refuses: unknown[] }> = {
  backlog: { takes: [1, 511, 65535], refuses: [0, 65536, 1.5, '8', null] },
  policy: {
    takes: [
      'idle-first',
      'two-choices',
      'least-queue',
      'least-connections',
      'weighted',
      'hash',
      'sticky',
      'local-cpu',
    ],
    refuses: ['random', '', 0],
  },
  rescue: { takes: [0, 100, 1_000_000], refuses: [-1, 99, 100.5, true, 1_000_001] },
  overflow: { takes: ['drop', 'reset', 'wait'], refuses: ['queue', true] },
  maxConnections: { takes: [0, 1, 1_000_000], refuses: [-1, 1_000_001, 0.5, '1'] },
  exclusiveHandover: { takes: [true, false], refuses: [1] },
  countConnections: { takes: [true, false], refuses: ['yes'] },
  waitLimit: { takes: [1, 65535], refuses: [0, 65536] },
  waitTimeout: { takes: [0, 86_400_000], refuses: [-1, 86_400_001] },
  migrate: { takes: [true, false], refuses: [1, 'yes'] },
  selector: { takes: ['auto', 'ebpf', 'cbpf', 'none'], refuses: ['bpf', null] },
  weight: { takes: [1, 1000], refuses: [0, 1001, -1, 0.5] },
  enabled: { takes: [true, false], refuses: [0, 'true'] },
  cpu: { takes: [-1, 0, 4095], refuses: [-2, 4096, 0.5, '0'] },
  noDelay: { takes: [true, false], refuses: [1] },
  keepAlive: {
    takes: [false, { idle: 1, interval: 1, count: 1 }, { idle: 32767, interval: 32767, count: 127 }],
    refuses: [true, {}, { idle: 0, interval: 1, count: 1 }, { idle: 1, interval: 1, count: 128 }, 60],
  },
  userTimeout: { takes: [0, 2 ** 31 - 1], refuses: [-1, 2 ** 31] },
  receiveBuffer: { takes: [1, 65536], refuses: [0, -1] },
  sendBuffer: { takes: [1, 65536], refuses: [0, Number.POSITIVE_INFINITY] },
  congestion: { takes: ['cubic', 'bbr'], refuses: ['', 'Cubic', 'a-name-that-is-too-long', 1] },
  notSentLowat: { takes: [0, 16384], refuses: [-1] },
  deferAccept: { takes: [0, 3600], refuses: [-1, 3601] },
  fastOpen: { takes: [0, 65535], refuses: [-1, 65536, true] },
  v6Only: { takes: [true, false], refuses: [0] },
  freeBind: { takes: [true, false], refuses: ['on'] },
  bindToDevice: { takes: ['lo', 'eth0.100'], refuses: ['', 'a/b', 'sixteen-letters-'] },
  tos: { takes: [0, 255], refuses: [-1, 256] },
  busyPoll: { takes: [0, 1_000_000], refuses: [-1, 1_000_001] },
};

describe.each(OPTION_NAMES)('%s', (name) => {
  const { takes, refuses } = VALUES[name];

  test.each(takes)('takes %j', (value) => {
    expect(checkValue(name, value)).toEqual(value);
  });

  test.each(refuses)('refuses %j and says what it takes', (value) => {
    expect(() => checkValue(name, value)).toThrowError(code('RANGE'));
    expect(() => checkValue(name, value)).toThrowError(optionRow(name).range);
  });

  test('has a default that every selector gives', () => {
    for (const selector of SELECTORS) {
      const value = defaultFor(selector, name);
      if (value === undefined) continue;
      expect(checkValue(name, value)).toEqual(value);
      expect(gives(selector, name, value)).toBe(true);
    }
  });

  test('is whole: the ebpf selector gives all of it, the text is a sentence', () => {
    const row = optionRow(name);
    expect(row.gives.ebpf).toBe('all');
    expect(row.text).toMatch(/^[A-Z`].*\.$/s);
  });
});

test('an unknown option is named', () => {
  expect(() => assertOptionName('backlogg')).toThrowError(code('UNKNOWN'));
  expect(() => assertOptionName('toString')).toThrowError(code('UNKNOWN'));
});

test('a value the selector in force cannot give is an error that names the one that can', () => {
  expect(() => assertGives('cbpf', 'policy', 'least-queue')).toThrowError(code('TIER'));
  expect(() => assertGives('none', 'weight', 2)).toThrowError(/'ebpf' or 'cbpf'/);
  expect(() => assertGives('none', 'weight', 1)).not.toThrow();
});

test('only what is asked for is kept, and all of it is checked', () => {
  expect(checkOptions({ backlog: 8, host: '::1', policy: undefined })).toEqual({ backlog: 8 });
  expect(() => checkOptions({ backlog: 8, overflow: 'queue' })).toThrowError(code('RANGE'));
});

describe('the documentation says what the code does', () => {
  const page = (name: string) => readFileSync(join(packageRoot, 'docs', name), 'utf8');

  test('docs/options.md is what `npm run docs` makes of the table', () => {
    expect(page('options.md')).toBe(optionPage(OPTIONS, { defaultFor, selectors: SELECTORS }));
  });

  test('docs/errors.md is what `npm run docs` makes of the error codes', () => {
    expect(page('errors.md')).toBe(errorPage(ERRORS));
  });

  test('docs/master.md has what `npm run docs` makes of the options of a master', () => {
    expect(page('master.md')).toBe(masterPage(page('master.md'), MASTER_OPTIONS));
    expect(() => masterPage('# Another page', MASTER_OPTIONS)).toThrow(/marks of its table/);
  });

  test.each(Object.entries(MASTER_OPTIONS))('what %s does is said in sentences', (_name, row) => {
    expect(row.text).toMatch(/^[A-Z].*\.$/);
  });
});
