/**
 * Several services of one config file: each is a master of its own, with its own name, socket and log, so that one that
 * fails leaves the others alone. This process only starts them, passes signals on, and waits for all of them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { native } from '../../native.js';
import type { Plan } from './plan.js';

/** In the environment of each master: the process that has started it, and whose end is its own. */
const STARTER_VARIABLE = 'SPILLWAY_STARTER';

/** To be called first: a master of several ends gracefully with whoever started them, however that ends. */
export function endWithStarter(env: NodeJS.ProcessEnv = process.env): void {
  const { [STARTER_VARIABLE]: starter } = env;
  delete env[STARTER_VARIABLE];
  if (starter === undefined) return;
  if (!native().dieWithParent(Number(starter), constants.signals.SIGTERM)) process.exit(0);
}

/** What is passed on to every master. */
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2', 'SIGTTIN', 'SIGTTOU'] as const;

/**
 * Runs all services until the last of them has ended.
 *
 * @param again the command line of this process; each service gets it with its own name.
 * @returns the exit code: 0 when all have ended gracefully, otherwise that of the first that has not.
 */
export async function runServices(plans: readonly Plan[], again: readonly string[]): Promise<number> {
  const children = new Map<string, ChildProcess>();
  for (const { name } of plans) children.set(name, startOne(name, again));
  const pass = (signal: NodeJS.Signals) => {
    for (const child of children.values()) child.kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, pass);
  try {
    const codes = await Promise.all([...children].map(([name, child]) => untilEnded(name, child, children)));
    return codes.find((code) => code !== 0) ?? 0;
  } finally {
    for (const signal of SIGNALS) process.off(signal, pass);
  }
}

function startOne(name: string, [script = '', ...args]: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...process.execArgv, script, ...args, '--service', name], {
    stdio: 'inherit',
    env: { ...process.env, [STARTER_VARIABLE]: String(process.pid) },
    // A signal of the terminal comes here, and is passed on once.
    detached: true,
  });
}

function untilEnded(name: string, child: ChildProcess, children: Map<string, ChildProcess>): Promise<number> {
  return new Promise((resolve) => {
    const ended = (code: number) => {
      children.delete(name);
      if (code !== 0 && children.size > 0)
        process.stderr.write(`spillway: ${name} has ended with exit code ${code}; the others go on\n`);
      resolve(code);
    };
    child.once('error', (error) => {
      process.stderr.write(`spillway: ${name} could not be started: ${error.message}\n`);
      ended(1);
    });
    child.once('exit', (code, signal) => ended(code ?? 128 + (constants.signals[signal ?? 'SIGKILL'] ?? 0)));
  });
}
