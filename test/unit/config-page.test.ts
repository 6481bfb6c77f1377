import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RELOADABLE } from '../../lib/cli/start/options.js';
import { packageRoot } from '../../lib/native.js';
import { familiarTable, ignoredList, keyTable, unsupportedTable } from '../support/config-table.js';

const page = readFileSync(join(packageRoot, 'docs/config.md'), 'utf8');

test.each([
  ['the keys', keyTable],
  ['the familiar keys', familiarTable],
  ['the keys that are not supported', unsupportedTable],
  ['the keys that change nothing', ignoredList],
])('docs/config.md has %s as the code has them', (_, made) => {
  expect(page).toContain(made());
});

test('docs/config.md and docs/cli.md name what a reload takes over', () => {
  for (const name of RELOADABLE) expect(page.split('## Reload')[1]).toContain(`\`${name}\``);
});
