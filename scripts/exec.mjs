import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { root } from './project.mjs';

/** A step that did not work: `log` is what the program said, `hint` what to do now. */
export class StepError extends Error {
  constructor(message, { log = '', hint = '' } = {}) {
    super(message);
    this.log = log.trimEnd();
    this.hint = hint;
  }
}

/** Messages go to stderr: stdout belongs to the program that is started afterwards. */
export function say(text) {
  process.stderr.write(`spillway: ${text}\n`);
}

export function explain(error) {
  if (!(error instanceof StepError)) throw error;
  if (error.log) process.stderr.write(`${error.log}\n`);
  say(error.message);
  if (error.hint) process.stderr.write(`\n${error.hint}\n`);
}

/**
 * Runs `work` with one line of progress ("compiling TypeScript …  2.1 s"), finished when the work is.
 */
export async function announced(title, work) {
  const start = performance.now();
  process.stderr.write(`spillway: ${title} … `);
  try {
    const result = await work();
    process.stderr.write(` ${((performance.now() - start) / 1000).toFixed(1)} s\n`);
    return result;
  } catch (error) {
    process.stderr.write(' failed\n');
    throw error;
  }
}

/**
 * Runs a program to its end and returns `{ status, output }`; output is stdout and stderr as they came.
 *
 * The program leads a process group of its own: make and npm start children which do not end with them, so a
 * signal to us ends the whole group, and we go only after it. `held` is a file descriptor that the program
 * inherits, so that a lock on it lives as long as the work does even if we are killed.
 */
export function capture(command, args, { env = process.env, cwd = root, held } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', ...(held === undefined ? [] : [held])],
    });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));

    let interruptedBy;
    const interrupt = (signal) => {
      interruptedBy = signal;
      try {
        process.kill(-child.pid, 'SIGTERM');
      } catch {
        // The group has ended between the signal and here.
      }
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, interrupt);
    const release = () => {
      for (const signal of signals) process.off(signal, interrupt);
    };

    child.on('error', (error) => {
      release();
      reject(new StepError(`${command} could not be started: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      release();
      if (interruptedBy) process.exit(128 + constants.signals[interruptedBy]);
      resolve({
        status: code ?? 128 + constants.signals[signal],
        output: Buffer.concat(chunks).toString(),
      });
    });
  });
}

/** As `capture`, but a non-zero exit is a StepError that carries the whole output and `hint`. */
export async function mustRun(what, command, args, { hint, ...options } = {}) {
  const { status, output } = await capture(command, args, options);
  if (status !== 0) {
    throw new StepError(`${what} failed (exit ${status}): ${[command, ...args].join(' ')}`, {
      log: output,
      hint,
    });
  }
  return output;
}
