/** Load for tests: requests on loopback from a process of their own, each counted under what became of it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach } from 'vitest';
import {
  type ConnectionCounts,
  type FromLoad,
  type LoadOptions,
  OUTCOMES,
  type Outcome,
  type RequestRecord,
  type ToLoad,
} from './load/protocol.js';
import { until } from './until.js';

export { type LoadOptions, monotonic, type Outcome, type RequestRecord } from './load/protocol.js';

const PROGRAM = fileURLToPath(new URL('load/program.ts', import.meta.url));
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

/** Milliseconds beyond the requests' own time limit in which a stopped load must have ended. */
const GRACE = 5000;

const running = new Set<ChildProcess>();

afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

/** How many requests came to each end; `sent` is the sum of the others. */
export type Totals = Record<Outcome, number> & { sent: number };

export class LoadResult {
  readonly records: readonly RequestRecord[];
  readonly connections: ConnectionCounts;
  /** Requests that were due and were not sent, because all connections were busy. */
  readonly skipped: number;
  readonly totals: Totals;

  constructor(records: readonly RequestRecord[], connections: ConnectionCounts, skipped: number) {
    this.records = records;
    this.connections = connections;
    this.skipped = skipped;
    this.totals = totalsOf(records);
  }

  /** Everything that was not answered. */
  get failures(): RequestRecord[] {
    return this.records.filter(({ outcome }) => outcome !== 'answered');
  }

  /** How many requests each process answered. */
  get byPid(): Map<number, number> {
    const counts = new Map<number, number>();
    for (const { pid } of this.records) if (pid !== undefined) counts.set(pid, (counts.get(pid) ?? 0) + 1);
    return counts;
  }
}

export function totalsOf(records: readonly RequestRecord[]): Totals {
  const totals = { sent: records.length } as Totals;
  for (const outcome of OUTCOMES) totals[outcome] = 0;
  for (const { outcome } of records) totals[outcome]++;
  return totals;
}

/** A load that runs. It does not outlive the test. */
export class Load {
  readonly #child: ChildProcess;
  readonly #timeout: number;
  #progress = { sent: 0, answered: 0, failed: 0 };
  #done: Extract<FromLoad, { event: 'done' }> | undefined;

  private constructor(child: ChildProcess, timeout: number) {
    this.#child = child;
    this.#timeout = timeout;
    child.on('message', (message: FromLoad) => {
      if (message.event === 'done') this.#done = message;
      else this.#progress = message;
    });
  }

  /** Resolves when the first requests have come to an end, well or badly. */
  static async start(options: LoadOptions): Promise<Load> {
    const child = fork(PROGRAM, [], {
      execArgv: ['--import', TSX],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    running.add(child);
    child.once('exit', () => running.delete(child));
    const filled = {
      name: 'load',
      host: '127.0.0.1',
      protocol: 'http' as const,
      connections: 16,
      path: '/',
      timeout: 5000,
      sources: [],
      ...options,
    };
    if (filled.protocol.startsWith('h2') && filled.mode !== 'keep-alive')
      throw new Error('HTTP/2 needs the mode keep-alive');
    const load = new Load(child, filled.timeout);
    child.send({ event: 'start', options: filled } satisfies ToLoad);
    await until('the load has begun', () => load.answered + load.#progress.failed > 0);
    return load;
  }

  /** Requests that were sent, as far as it is known here: some 50 ms old. */
  get sent(): number {
    return this.#progress.sent;
  }

  /** As old as {@link sent}. */
  get answered(): number {
    return this.#progress.answered;
  }

  /** Waits until that many more requests have been sent. */
  async goesOn(count: number): Promise<void> {
    const goal = this.sent + count;
    await until(`${count} more requests have been sent`, () => this.sent >= goal);
  }

  /** Sends no more, waits for what is under way, and tells what became of everything. */
  async stop(): Promise<LoadResult> {
    const exit = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.send({ event: 'stop' } satisfies ToLoad);
    else if (this.#child.exitCode !== null)
      throw new Error(`the load has ended with ${this.#child.exitCode}`);
    const late = setTimeout(() => this.#child.kill('SIGKILL'), this.#timeout + GRACE);
    const [code, signal] = await exit;
    clearTimeout(late);
    if (!this.#done) throw new Error(`the load has ended with ${code ?? signal} and told nothing`);
    return new LoadResult(this.#done.records, this.#done.connections, this.#done.skipped);
  }
}
