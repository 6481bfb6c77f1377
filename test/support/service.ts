/** Services started by the command line, in a runtime folder and a working folder that belong to one test. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import { CLI, descendants, Run } from './cli.js';
import { gone } from './serving.js';
import { until } from './until.js';

/** Answers every request with its slot, process and a variable; says what it is told by `?say=` and `?long=`. */
export const APP = `
import { createServer } from 'node:http';
console.log('hello from ' + process.env.NODE_APP_INSTANCE);
createServer((request, response) => {
  const { searchParams: asked } = new URL(request.url, 'http://app');
  if (asked.has('say')) console.log(asked.get('say'));
  if (asked.has('complain')) console.error(asked.get('complain'));
  if (asked.has('long')) process.stdout.write('x'.repeat(Number(asked.get('long'))) + '\\n');
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({
    slot: process.env.NODE_APP_INSTANCE, pid: process.pid, colour: process.env.COLOUR ?? null,
    uid: process.getuid(), args: process.argv.slice(2), env: Object.keys(process.env),
  }));
}).listen(process.env.PORT);
`;

export interface Answered {
  slot: string;
  pid: number;
  colour: string | null;
  uid: number;
  args: string[];
  env: string[];
}

/** Of the running test; short, since the path of a socket is. */
export const here = { folder: '', runtime: '', sockets: '', state: '' };

beforeEach(() => {
  here.folder = mkdtempSync(join(tmpdir(), 'spw-'));
  here.runtime = join(here.folder, 'run');
  here.sockets = join(here.runtime, 'spillway');
  here.state = join(here.folder, 'state');
  mkdirSync(here.runtime, { mode: 0o700 });
  file('app.mjs', APP);
});

afterEach(() => rmSync(here.folder, { recursive: true, force: true }));

/** Writes a file into the test's folder and returns its path. */
export function file(name: string, text: string): string {
  const path = join(here.folder, name);
  writeFileSync(path, text);
  return path;
}

/** The path of APP in the test's folder. */
export function app(): string {
  return join(here.folder, 'app.mjs');
}

export function environment(): NodeJS.ProcessEnv {
  return { XDG_RUNTIME_DIR: here.runtime, XDG_STATE_HOME: here.state, WEB_CONCURRENCY: '1' };
}

/** The command line with the folders of this test. */
export function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Run {
  return new Run(process.execPath, [CLI, ...args], { ...environment(), ...env });
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The same, to its end. */
export async function call(...args: string[]): Promise<Ended> {
  return ending(run(args));
}

export async function ending(process: Run): Promise<Ended> {
  const [code] = await process.ended;
  return { code, stdout: process.stdout, stderr: process.stderr };
}

/** A service that is ready. */
export async function started(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  const service = run(['start', ...args], env);
  await isReady(service);
  return service;
}

export async function isReady(service: Run): Promise<void> {
  await until('the service is ready', () => {
    if (service.child.exitCode !== null) throw new Error(`the service has ended:\n${service.stderr}`);
    return / is ready after .*: \d+ workers?, process/.test(service.stderr);
  });
}

export function complains(service: Run, text: string | RegExp): Promise<unknown> {
  return until(`stderr holds ${text}`, () => {
    return typeof text === 'string' ? service.stderr.includes(text) : text.test(service.stderr);
  });
}

export async function status(name = ''): Promise<ServiceStatus> {
  const { stdout } = await call('status', '--json', ...(name === '' ? [] : [name]));
  return JSON.parse(stdout) as ServiceStatus;
}

/** One request on a connection of its own. */
export function ask(port: number, path = '/'): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const query = request({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      let body = '';
      response.on('data', (part) => {
        body += part;
      });
      response.on('end', () => resolve(JSON.parse(body)));
      response.on('error', reject);
    });
    query.on('error', reject);
    query.end();
  });
}

/** Control sockets that are there. */
export function sockets(): string[] {
  return existsSync(here.sockets) ? readdirSync(here.sockets) : [];
}

/** Calls `act` and waits until the service and every process below it have gone; nothing of it may be left. */
export async function endsBy(service: Run, act: () => void): Promise<number | null> {
  const below = descendants(service.pid);
  act();
  const [code] = await service.ended;
  for (const pid of below) await gone(pid);
  expect(sockets()).toEqual([]);
  return code;
}
