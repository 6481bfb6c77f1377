/** How errors end a command, and what a claimed name leaves. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exitCodeOf } from '../../lib/cli/failure.js';
import { Control } from '../../lib/control/client.js';
import { NameLock } from '../../lib/control/lock.js';
import { claimFolder } from '../../lib/control/names.js';
import { ERRORS, type ErrorCode, SpillwayError } from '../../lib/errors.js';
import { packageRoot } from '../../lib/native.js';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spw-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('the exit codes are those of docs/cli.md', () => {
  const text = readFileSync(join(packageRoot, 'docs/cli.md'), 'utf8').split('## Exit codes')[1] ?? '';
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const row = text.split('\n').find((line) => line.includes(`\`${code}\``));
    const told = Number(/^\| (\d+) \|/.exec(row ?? '| 1 |')?.[1]);
    expect(exitCodeOf(new SpillwayError(code, '')), code).toBe(told);
  }
  expect(exitCodeOf(new Error('anything'))).toBe(1);
});

test('a name is held once, by a file that goes with its release; what a killed master has left is used again', async () => {
  const file = join(folder, 'a.lock');
  writeFileSync(file, '4000000\n');
  const lock = await NameLock.claim(folder, 'a');
  expect(readFileSync(file, 'latin1')).toBe(`${process.pid}\n`);
  await expect(NameLock.claim(folder, 'a')).rejects.toThrow(`runs already: process ${process.pid}`);
  // No child has a copy of the descriptor.
  const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
  expect(stdout).not.toContain('a.lock');
  lock.release();
  expect(existsSync(file)).toBe(false);
  const again = await NameLock.claim(folder, 'a');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  again.release();
});

test('the file of somebody else is left alone at the release', async () => {
  const file = join(folder, 'a.lock');
  const lock = await NameLock.claim(folder, 'a');
  rmSync(file);
  writeFileSync(file, 'other');
  lock.release();
  expect(readFileSync(file, 'utf8')).toBe('other');
});

// Nobody else could make such a folder.
if (process.getuid?.() === 0)
  test('root claims no folder of another user, and none below one', () => {
    const theirs = join(folder, 'theirs');
    mkdirSync(join(theirs, 'spillway'), { recursive: true, mode: 0o700 });
    chownSync(join(theirs, 'spillway'), 65_534, 65_534);
    expect(() => claimFolder(join(theirs, 'spillway'))).toThrow('belongs to the user with id 65534');
    chownSync(theirs, 65_534, 65_534);
    expect(() => claimFolder(join(theirs, 'other'))).toThrow('belongs to the user with id 65534');
    expect(existsSync(join(theirs, 'other'))).toBe(false);
  });

test('a socket file that cannot be talked to hides no other master', async () => {
  spawnSync('python3', [
    '-c',
    `import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(${JSON.stringify(join(folder, 'b.sock'))})`,
  ]);
  const server = createServer().listen(join(folder, 'a.sock'));
  await once(server, 'listening');
  expect((await Control.all(folder)).map(({ name }) => name)).toEqual(['a']);
  server.close();
});

test.each([
  ['answers with an error', 'ERR_SPILLWAY_WORKER', 'it would not'],
  ['ends without an answer', 'ERR_SPILLWAY_CONTROL', 'has ended without an answer'],
])('stop fails when the master %s, although its process has gone', async (how, code, says) => {
  const process = spawn('sleep', ['60']);
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/status')) {
      response.end(JSON.stringify({ pid: process.pid }));
      return;
    }
    process.once('exit', () => {
      if (code === 'ERR_SPILLWAY_CONTROL') response.destroy();
      else response.writeHead(409).end(JSON.stringify({ error: { code, message: says, hint: how } }));
    });
    process.kill('SIGKILL');
  }).listen(join(folder, 'a.sock'));
  await once(server, 'listening');
  const control = await Control.find('a', folder);
  await expect(control.stop()).rejects.toMatchObject({ code, message: expect.stringContaining(says) });
  server.close();
});
