/** Set-up where it must not write, and what the published package holds. */
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { hasCapability } from '../../lib/group/capability.js';
import { packageRoot } from '../../lib/native.js';
import { Run } from '../support/cli.js';

const root = process.getuid?.() === 0;

test.skipIf(root && !hasCapability('CAP_SETPCAP'))(
  'a tree that must not be written is told of, with a command',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'spillway-readonly-'));
    try {
      for (const part of ['scripts', 'package.json', 'package-lock.json']) {
        cpSync(join(packageRoot, part), join(folder, part), { recursive: true });
      }
      chmodSync(folder, 0o555);
      // Without its capabilities root is a user like any other.
      const bare = root ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : [];
      const [program = '', ...args] = [...bare, process.execPath, join(folder, 'scripts/setup.mjs')];
      const run = new Run(program, args);
      expect(await run.ended).toEqual([1, null]);
      expect(run.stderr).toContain(`this user may not write into ${folder}`);
      expect(run.stderr).toContain(`\n  cp -r "${folder}" `);
      expect(run.stderr).not.toMatch(/^ +at /m);
    } finally {
      chmodSync(folder, 0o755);
      rmSync(folder, { recursive: true, force: true });
    }
  },
);

test.skipIf(!hasCapability('CAP_SYS_ADMIN'))(
  'what is set up starts from a file system that is read only',
  async () => {
    const mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && ! touch x 2>&-';
    const start = `exec ${process.execPath} scripts/run.mjs start --port 0 --seconds 1 --json`;
    const run = new Run('unshare', ['--mount', 'sh', '-c', `${mount} && ${start}`, packageRoot]);
    await run.ended;
    expect(run.stderr).toBe('');
    expect(JSON.parse(run.stdout).workers).toHaveLength(4);
  },
);

test('the package holds what installing it needs, and nothing that only tests need', async () => {
  const run = new Run('npm', ['pack', '--dry-run', '--ignore-scripts', '--json', packageRoot]);
  await run.ended;
  const [{ files }] = Object.values<{ files: { path: string }[] }>(JSON.parse(run.stdout)) as [
    { files: { path: string }[] },
  ];
  const packed = files.map(({ path }) => path);
  expect(packed.filter((path) => path.includes('test'))).toEqual([]);

  const needed = new Set<string>();
  const follow = (file: string) => {
    if (needed.has(file)) return;
    needed.add(file);
    for (const [, name = ''] of readFileSync(join(packageRoot, file), 'utf8').matchAll(/from '(\.[^']+)'/g))
      follow(join(dirname(file), name));
  };
  follow('scripts/install.mjs');
  const gyp = readFileSync(join(packageRoot, 'binding.gyp'), 'utf8');
  for (const [, name = ''] of gyp.matchAll(/"((?:native|scripts)\/[^"]+)"/g)) {
    if (name.endsWith('.mjs')) follow(name);
    else if (!name.startsWith('native/testing/')) needed.add(name);
  }
  expect([...needed].filter((file) => !packed.includes(file))).toEqual([]);
  expect(packed.filter((path) => path.startsWith('scripts/') && !needed.has(path))).toEqual([]);
});
