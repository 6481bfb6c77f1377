import { spawn, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { StepError, say } from './exec.mjs';
import { at, root } from './project.mjs';

/**
 * Runs `work(fd)` while no other set-up works in this tree.
 *
 * The lock is the kernel's flock(2) on a file, so it cannot go stale: it ends with the last process that holds
 * the descriptor, and a builder that inherits `fd` keeps it although its set-up was killed. flock(1) of
 * util-linux locks the open file that we share with it; the number in the file only serves the message.
 */
export async function withLock(work) {
  const file = at('build', '.setup.lock');
  const fd = openToWrite(file);
  try {
    const attempt = spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    if (attempt.error) {
      say('flock (util-linux) was not found: do not run two set-ups in this tree at the same time');
    } else if (attempt.status !== 0) {
      const owner = readFileSync(file, 'utf8').trim();
      say(`another set-up works in this tree${owner ? ` (process ${owner})` : ''}: waiting for it`);
      await waitForLock(fd);
    }
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return await work(fd);
  } finally {
    closeSync(fd);
  }
}

/** The first thing that set-up writes, so the place to notice that it must not. */
function openToWrite(file) {
  try {
    mkdirSync(dirname(file), { recursive: true });
    return openSync(file, 'a');
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(error.code)) throw error;
    throw new StepError(`this user may not write into ${root}, and something is left to set up there`, {
      hint: `Let its owner start it once, or start a copy of your own:\n\n  cp -r "${root}" ~/spillway && cd ~/spillway && npm start\n`,
    });
  }
}

function waitForLock(fd) {
  return new Promise((resolve, reject) => {
    const waiter = spawn('flock', ['3'], { stdio: ['ignore', 'ignore', 'inherit', fd] });
    waiter.on('error', reject);
    waiter.on('exit', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`flock ended with ${signal ?? code}`)),
    );
  });
}
