/** `--daemon`: the same command in a session of its own, watched until it is ready or has failed. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { makeFolder } from '../../control/make-folder.js';
import { ERRORS, type ErrorCode, SpillwayError, systemError } from '../../errors.js';
import type { Plan } from './plan.js';

/** In the environment of the detached process: the descriptor on which it reports. */
export const DAEMON_VARIABLE = 'SPILLWAY_DAEMON_FD';
const REPORT_FD = 3;

export interface Ready {
  name: string;
  pid: number;
  /** The folder of log files. */
  logs: string;
  urls: string[];
}

interface Failed {
  code: string;
  message: string;
  hint: string;
  exitCode: number;
  /** The last lines of the workers. */
  output: string[];
}

type Report = { ready: Ready } | { failed: Failed } | { ended: true };

/** Where a service that was given no folder for its logs keeps them. */
export function stateFolder(name: string, env = process.env, uid = process.getuid?.() ?? 0): string {
  const { XDG_STATE_HOME: given } = env;
  if (given && isAbsolute(given)) return join(given, 'spillway', name);
  return uid === 0 ? join('/var/log/spillway', name) : join(homedir(), '.local/state/spillway', name);
}

/** The folder for the log files of a plan that runs as a daemon. */
export function logFolder(plan: Plan): string {
  return plan.settings.logs ?? stateFolder(plan.name);
}

/** The master's own log. */
export function masterLog(plan: Plan): string {
  return join(logFolder(plan), `${plan.name}.log`);
}

/** How the detached process tells the one that waits for it. */
export class DaemonReport {
  readonly #fd: number;
  #told = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Undefined in a process that is not detached. */
  static take(env: NodeJS.ProcessEnv = process.env): DaemonReport | undefined {
    const { [DAEMON_VARIABLE]: fd } = env;
    delete env[DAEMON_VARIABLE];
    return fd === undefined ? undefined : new DaemonReport(Number(fd));
  }

  ready(ready: Ready): void {
    this.#tell({ ready });
  }

  failed(error: unknown, exitCode: number, output: string[]): void {
    const { code, message, hint } =
      error instanceof SpillwayError
        ? error
        : { code: 'ERR_SPILLWAY_SYSTEM', message: String((error as Error)?.stack ?? error), hint: '' };
    this.#tell({ failed: { code, message, hint, exitCode, output } });
  }

  /** It was told to end before it was ready. */
  ended(): void {
    this.#tell({ ended: true });
  }

  #tell(report: Report): void {
    if (this.#told) return;
    this.#told = true;
    try {
      writeSync(this.#fd, `${JSON.stringify(report)}\n`);
      closeSync(this.#fd);
    } catch {
      // Nobody waits any more; the service does not depend on it.
    }
  }
}

export type Outcome =
  | { ready: Ready }
  | { failed: SpillwayError; exitCode: number; output: string[] }
  | { ended: true };

/**
 * Starts this command line once more, detached, and waits for its report.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_LOGS`
 */
export async function startDaemon(plan: Plan): Promise<Outcome> {
  const log = openMasterLog(plan);
  const { argv } = process;
  // Of several services the one that is meant.
  const named = plan.service === undefined || argv.includes('--service') ? [] : ['--service', plan.service];
  const child = spawn(process.execPath, [...process.execArgv, ...withOptions(argv.slice(1), named)], {
    detached: true,
    // What Node itself has to say at a crash goes to the log as well.
    stdio: ['ignore', log, log, 'pipe'],
    env: { ...process.env, [DAEMON_VARIABLE]: String(REPORT_FD) },
  });
  closeSync(log);
  // A service that is not ready yet belongs to the command that starts it.
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    return await outcomeOf(child, plan);
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
    child.unref();
  }
}

/** Options go before the arguments of the program. */
function withOptions(args: readonly string[], options: readonly string[]): string[] {
  const end = args.indexOf('--');
  return end < 0 ? [...args, ...options] : [...args.slice(0, end), ...options, ...args.slice(end)];
}

const FORWARDED = ['SIGINT', 'SIGTERM'] as const;

function outcomeOf(child: ReturnType<typeof spawn>, plan: Plan): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let text = '';
    const pipe = child.stdio[REPORT_FD] as NodeJS.ReadableStream;
    pipe.setEncoding('utf8');
    pipe.on('data', (part: string) => {
      text += part;
    });
    const gone = new Promise<string>((tell) => {
      child.on('exit', (code, signal) => tell(signal ? `was ended by ${signal}` : `ended with code ${code}`));
    });
    child.on('error', (error) =>
      reject(systemError('ERR_SPILLWAY_SYSTEM', 'the daemon cannot be started', error)),
    );
    pipe.on('end', async () => {
      if (text === '') {
        const failed = new SpillwayError(
          'ERR_SPILLWAY_SYSTEM',
          `the daemon ${await gone} before it was ready`,
          {
            hint: `${masterLog(plan)} may say why.`,
          },
        );
        resolve({ failed, exitCode: 1, output: [] });
        return;
      }
      const report = JSON.parse(text) as Report;
      // Nothing of a failed start is left when this command returns.
      if (!('ready' in report)) await gone;
      resolve('failed' in report ? failure(report.failed) : report);
    });
  });
}

function failure({ code, message, hint, exitCode, output }: Failed): Outcome {
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'ERR_SPILLWAY_SYSTEM';
  return { failed: new SpillwayError(known, message, { hint }), exitCode, output };
}

function openMasterLog(plan: Plan): number {
  try {
    makeFolder(logFolder(plan));
    return openSync(masterLog(plan), 'a', 0o640);
  } catch (error) {
    throw systemError('ERR_SPILLWAY_LOGS', `the log file ${masterLog(plan)} cannot be written`, error);
  }
}
