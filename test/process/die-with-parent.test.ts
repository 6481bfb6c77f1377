/** A process that has asked for it ends with its parent, and is told when it is too late to ask. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../lib/native.js';
import { until } from '../support/until.js';

const ADDON = JSON.stringify(join(packageRoot, 'build/Release/spillway.node'));

test('it is killed when its parent is, even if it is stuck', async () => {
  const child = `
const asked = require(${ADDON}).dieWithParent(process.ppid, 9);
require('node:fs').writeSync(1, JSON.stringify({ asked }));
for (;;);
`;
  const parent = spawn(
    process.execPath,
    [
      '-e',
      `require('node:child_process').spawn(process.execPath, ['-e', process.argv[1]], { stdio: 'inherit' })`,
      child,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    const { asked } = JSON.parse(String((await once(parent.stdout, 'data'))[0]));
    expect(asked).toBe(true);
    parent.kill('SIGKILL');
    // The pipe ends with the last process that has it.
    await once(parent.stdout, 'end');
  } finally {
    parent.kill('SIGKILL');
  }
});

test('it is told when its parent is another one, and does not die with that', async () => {
  // The grandparent's id is asked for, as one that has adopted the process would find it.
  const child = `
const asked = require(${ADDON}).dieWithParent(Number(process.argv[1]), 9);
require('node:fs').writeSync(1, JSON.stringify({ asked, parent: process.ppid }));
process.stdin.resume();
process.stdin.on('end', () => require('node:fs').writeSync(1, 'lives'));
`;
  const parent = spawn(
    process.execPath,
    [
      '-e',
      `require('node:child_process').spawn(process.execPath, ['-e', process.argv[1], process.argv[2]], { stdio: 'inherit' })`,
      child,
      String(process.pid),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const [said] = await once(parent.stdout, 'data');
  expect(JSON.parse(String(said))).toEqual({ asked: false, parent: parent.pid });
  const last = once(parent.stdout, 'data');
  parent.kill('SIGKILL');
  await until('the parent is gone', () => !existsSync(`/proc/${parent.pid}`));
  parent.stdin.end();
  expect(String((await last)[0])).toBe('lives');
});

test('no parent has the number 0', () => {
  const code = `process.exitCode = require(${ADDON}).dieWithParent(0, 9) ? 1 : 0`;
  expect(spawnSync(process.execPath, ['-e', code]).status).toBe(0);
});
