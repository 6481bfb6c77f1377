import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeFolder } from '../../lib/control/make-folder.js';
import { isName, nameOfProgram, namesIn, runtimeFolder, socketPath } from '../../lib/control/names.js';

test.each([
  ['/srv/shop/server.js', 'server'],
  ['my app.mjs', 'my-app'],
  ['.hidden', 'hidden'],
  ['--x.js', 'x'],
  ['日本.js', 'app'],
  [`${'x'.repeat(80)}.js`, 'x'.repeat(64)],
  ['shop.v2.js', 'shop.v2'],
])('the service of %s is called %s', (path, name) => {
  expect(nameOfProgram(path)).toBe(name);
  expect(isName(name)).toBe(true);
});

test.each(['', '.', '..', '-a', 'a/b', 'a b', 'a\0', 'é', 'x'.repeat(65)])('%j is no name', (name) => {
  expect(isName(name)).toBe(false);
});

test('the runtime folder', () => {
  expect(runtimeFolder({ XDG_RUNTIME_DIR: '/x' }, 0)).toBe('/x/spillway');
  expect(runtimeFolder({ XDG_RUNTIME_DIR: 'x' }, 0)).toBe('/run/spillway');
  expect(runtimeFolder({}, 0)).toBe('/run/spillway');
  expect(runtimeFolder({}, 4_000_000)).toBe(join(tmpdir(), 'spillway-4000000'));
});

test('a path has at most 107 bytes', () => {
  expect(socketPath(`/${'x'.repeat(99)}`, 'a')).toHaveLength(107);
  expect(() => socketPath(`/${'x'.repeat(100)}`, 'a')).toThrow('has 108 bytes, and the kernel takes 107');
});

test('a folder is made with those above it; what is in the way is told', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spw-'));
  try {
    makeFolder(join(folder, 'a/b/c'), 0o700);
    expect(statSync(join(folder, 'a/b/c')).mode & 0o777).toBe(0o700);
    makeFolder(join(folder, 'a/b/c'));
    writeFileSync(join(folder, 'file'), '');
    expect(() => makeFolder(join(folder, 'file'))).toThrow('EEXIST');
    expect(() => makeFolder(join(folder, 'file/a'))).toThrow('ENOTDIR');
    expect(() => makeFolder('/proc/spillway/a')).toThrow('ENOENT');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('names come from socket files in a folder of ours; without a folder there are none', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spw-'));
  try {
    for (const name of ['b.sock', 'a.sock', 'c', '.sock', '-.sock']) writeFileSync(join(folder, name), '');
    expect(namesIn(folder)).toEqual(['a', 'b']);
    expect(namesIn(join(folder, 'missing'))).toEqual([]);
    mkdirSync(join(folder, 'open'));
    chmodSync(join(folder, 'open'), 0o755);
    expect(() => namesIn(join(folder, 'open'))).toThrow('can be entered by others');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
