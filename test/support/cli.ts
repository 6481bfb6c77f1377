/** The command line as its users meet it: the compiled program in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { packageRoot } from '../../lib/native.js';
import { until } from './until.js';

export const CLI = join(packageRoot, 'dist/lib/cli/main.js');

const running = new Set<ChildProcess>();

afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

/** A program that has been started; it does not outlive the test. */
export class Run {
  readonly child: ChildProcess;
  readonly ended: Promise<[code: number | null, signal: NodeJS.Signals | null]>;
  stdout = '';
  stderr = '';

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(program, args, { stdio: 'pipe', env: { ...process.env, ...env } });
    running.add(this.child);
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = once(this.child, 'close') as typeof this.ended;
    void this.ended.then(() => running.delete(this.child));
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** Waits until stdout holds the text, and returns everything that came so far. */
  async says(text: string | RegExp): Promise<string> {
    await until(`${text} appears in: ${this.stdout}`, () =>
      typeof text === 'string' ? this.stdout.includes(text) : text.test(this.stdout),
    );
    return this.stdout;
  }
}

export function spillway(...args: string[]): Run {
  return new Run(process.execPath, [CLI, ...args]);
}

/**
 * A terminal of its own with a program in its foreground; what is written to its stdin is typed. The shell is `sh`
 * whoever runs the tests: a shell that Ctrl-C ends before the program says so by its code, so `exec` where it is typed.
 */
export function inTerminal(command: string, env: NodeJS.ProcessEnv = {}): Run {
  return new Run('script', ['-qec', command, '/dev/null'], { SHELL: '/bin/sh', ...env });
}

/** Runs the command to its end. */
export async function runSpillway(
  ...args: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const run = spillway(...args);
  const [code] = await run.ended;
  return { code, stdout: run.stdout, stderr: run.stderr };
}

/** Every process below one, the grandchildren included. */
export function descendants(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/**
 * Below those that the kernel gives to clients (net.ipv4.ip_local_port_range), each test file has ports of its own: one that
 * is free stays free until the test takes it.
 */
const FIRST_PORT = 10_000;
const PORTS_PER_FILE = 100;
const FILES = 200;
let portsGiven = 0;

/** A TCP port that nobody holds. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < PORTS_PER_FILE; attempt++) {
    const port = FIRST_PORT + (process.pid % FILES) * PORTS_PER_FILE + (portsGiven++ % PORTS_PER_FILE);
    const holder = createServer();
    holder.listen(port);
    const held = await once(holder, 'listening').then(
      () => true,
      () => false,
    );
    if (!held) continue;
    await new Promise((resolve) => holder.close(resolve));
    return port;
  }
  throw new Error('no port is free');
}

/** The fields of a JSON value as docs/cli.md names them, such as `load.sent` and `workers[].pid`. */
function fieldsOf(value: unknown, path: string, described: (path: string) => boolean): string[] {
  // Names below a described one are data, or described with it.
  if (typeof value !== 'object' || value === null || described(path)) return [path];
  if (Array.isArray(value)) return value.flatMap((each) => fieldsOf(each, `${path}[]`, described));
  const prefix = path === '' ? '' : `${path}.`;
  return Object.entries(value).flatMap(([name, each]) => fieldsOf(each, prefix + name, described));
}

/** Those fields of a verb's JSON object that its section of docs/cli.md leaves out. */
export function undescribed(verb: string, result: object): string[] {
  const text = readFileSync(join(packageRoot, 'docs/cli.md'), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith(`\`spillway ${verb}\``)) ?? '';
  const described = (path: string) => section.includes(`\`${path}\``);
  return fieldsOf(result, '', described).filter((path) => !described(path));
}
