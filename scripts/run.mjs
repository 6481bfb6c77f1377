import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { at } from './project.mjs';
import { setUpOrExit } from './setup.mjs';

/** What can be started after set-up: `npm start` and `npm run bench`. */
const PROGRAMS = {
  start: ['dist/lib/cli/main.js', 'demo'],
  bench: ['dist/bench/main.js'],
};

const [name, ...args] = process.argv.slice(2);
const program = PROGRAMS[name];
if (!program) {
  process.stderr.write(`usage: node scripts/run.mjs ${Object.keys(PROGRAMS).join('|')} [arguments]\n`);
  process.exit(2);
}

await setUpOrExit();
runAndFollow([at(program[0]), ...program.slice(1), ...args]);

/** Runs Node on `argv` and ends as it ends: same exit code or same signal, and never before it. */
function runAndFollow(argv) {
  const child = spawn(process.execPath, argv, { stdio: 'inherit' });
  const forward = (signal) => {
    if (signal === 'SIGINT' && interruptKeyIsOurs()) return;
    child.kill(signal);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];
  for (const signal of signals) process.on(signal, forward);

  child.on('error', (error) => {
    process.stderr.write(`spillway: ${process.execPath} could not be started: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    for (const each of signals) process.off(each, forward);
    if (signal) process.kill(process.pid, signal);
    else process.exit(code);
  });
}

/**
 * Whether a SIGINT is to be taken for Ctrl-C, which the terminal sends to the child as well: forwarded, it would
 * be the second one, and that means "at once". So it is while we are in the foreground and the terminal makes
 * signals of keys; a child that reads single keys has switched that off.
 */
function interruptKeyIsOurs() {
  // proc(5), after the name in parentheses: state ppid pgrp session tty_nr tpgid.
  const [, , group, , , foreground] = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1).split(' ');
  if (group !== foreground) return false;
  try {
    const terminal = openSync('/dev/tty', 'r');
    try {
      const { stdout } = spawnSync('stty', ['-a'], { stdio: [terminal, 'pipe', 'ignore'], encoding: 'utf8' });
      return !/(^|\s)-isig\b/.test(stdout ?? '');
    } finally {
      closeSync(terminal);
    }
  } catch {
    return false;
  }
}
