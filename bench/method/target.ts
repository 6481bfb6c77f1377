/** One running service: started by its driver, warmed up, measured, ended without a trace. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Driver, Service } from '../drivers/driver.js';
import { runLoad } from '../load/generator.js';
import type { Samples } from '../load/samples.js';
import type { LoadWishes, Placement, ServiceWishes, Target, Worker } from '../scenarios/scenario.js';
import { Desk } from '../service/desk.js';
import { descriptors, memory, ownTime, processorTime, runTime, treeOf } from '../service/processes.js';
import { PLAIN_REQUEST } from '../service/requests.js';
import { FOLDER_PREFIX } from './alone.js';
import { LOOPBACK_SOURCES, type Processors } from './network.js';

/** Node's own default for net.Server.listen(). */
const BACKLOG = 511;
/** Milliseconds that a service may take until all its workers listen. */
const START_LIMIT = 30_000;
/**
 * Before anything is measured: connections at once, and how many requests in how many milliseconds at most. The rate
 * of four workers rises for some ten thousand requests, node:cluster's for seconds.
 */
const WARM_UP = {
  concurrency: 32,
  slice: 500,
  brief: { requests: 1, milliseconds: 500 },
  thorough: { requests: 30_000, milliseconds: 6_000 },
} as const;

/** Where clients are, if not on loopback. */
export interface Far {
  /** The address of the servers' side. */
  host: string;
  sources: readonly string[];
  network: string;
}

export interface TargetOrder {
  driver: Driver;
  workers: number;
  placement: Placement;
  wishes: ServiceWishes;
  port: number;
  far: Far | null;
  warmUp: 'brief' | 'thorough';
  processors: Processors;
  signal: AbortSignal;
}

export class RunningTarget implements Target {
  readonly #order: TargetOrder;
  readonly #folder: string;
  readonly #desk: Desk;
  readonly #service: Service;
  readonly firstAnswer: number;

  private constructor(order: TargetOrder, folder: string, desk: Desk, service: Service, firstAnswer: number) {
    this.#order = order;
    this.#folder = folder;
    this.#desk = desk;
    this.#service = service;
    this.firstAnswer = firstAnswer;
  }

  /** Resolves when all workers listen, a client was answered and the program is warm. Leaves nothing when it rejects. */
  static async open(order: TargetOrder): Promise<RunningTarget> {
    const folder = mkdtempSync(join(tmpdir(), FOLDER_PREFIX));
    let desk: Desk | undefined;
    let service: Service | undefined;
    try {
      desk = await Desk.open(folder);
      const { driver, placement, processors, wishes, signal } = order;
      const host = hostOf(order);
      const protocol = wishes.protocol ?? 'http';
      const request = PLAIN_REQUEST[protocol];
      const workers = Math.min(order.workers, driver.mostWorkers ?? order.workers);
      const began = performance.now();
      const failed = new AbortController();
      const limits = [signal, failed.signal, AbortSignal.timeout(START_LIMIT)];
      // Asked while the driver is still starting: some of them look less often whether they are there.
      const answered = answerFrom(host, order.port, request, AbortSignal.any(limits)).then(
        () => performance.now() - began,
      );
      answered.catch(() => {});
      try {
        service = await driver.start({
          workers,
          host,
          port: order.port,
          backlog: wishes.backlog ?? BACKLOG,
          cpus: processors[placement],
          env: {
            ...desk.env,
            BENCH_SERVICE_MS: String(wishes.serviceTime ?? 0),
            BENCH_PROTOCOL: protocol,
          },
          folder,
        });
      } catch (error) {
        failed.abort(error);
        throw error;
      }
      const firstAnswer = await answered;
      await desk.untilListening(workers, START_LIMIT);
      const target = new RunningTarget(order, folder, desk, service, firstAnswer);
      await target.#warmUp(request, WARM_UP[order.warmUp]);
      return target;
    } catch (error) {
      await endAll(service, desk, folder);
      throw error;
    }
  }

  async #warmUp(request: string, amount: { requests: number; milliseconds: number }): Promise<void> {
    let requests = 0;
    for (let time = 0; time < amount.milliseconds && requests < amount.requests; time += WARM_UP.slice) {
      const { count } = await this.load({
        work: { mode: 'closed', concurrency: WARM_UP.concurrency, milliseconds: WARM_UP.slice, kind: 0 },
        requests: [request],
        timeout: 10_000,
      });
      requests += count;
    }
  }

  workers(): Worker[] {
    return this.#desk.workers();
  }

  untilListening(count: number, milliseconds = START_LIMIT): Promise<void> {
    return this.#desk.untilListening(count, milliseconds);
  }

  get reload(): (() => Promise<void>) | null {
    return this.#service.reload;
  }

  processorTime(): number {
    const { pid, rootIsOurs } = this.#service;
    return processorTime(pid) - (rootIsOurs ? ownTime(pid) : 0);
  }

  runTime(): number {
    return this.#processes().reduce((sum, pid) => sum + runTime(pid), 0);
  }

  /** Of the service, without a launcher that is ours. */
  #processes(): number[] {
    const { pid, rootIsOurs } = this.#service;
    return treeOf(pid).filter((each) => !(rootIsOurs && each === pid));
  }

  memory(): { workers: number; others: number } {
    const serving = new Set(this.#desk.workers().map(({ pid }) => pid));
    const held = { workers: 0, others: 0 };
    for (const pid of this.#processes()) held[serving.has(pid) ? 'workers' : 'others'] += memory(pid);
    return held;
  }

  descriptors(): number {
    return this.#processes().reduce((sum, pid) => sum + descriptors(pid), 0);
  }

  load(wishes: LoadWishes, onStart?: (startedAt: number) => void): Promise<Samples> {
    const { port, far, processors, signal } = this.#order;
    return runLoad(
      {
        ...wishes,
        target: { host: hostOf(this.#order), port },
        sources: far?.sources ?? LOOPBACK_SOURCES,
        network: far?.network ?? null,
        cpu: processors.generator,
      },
      signal,
      onStart,
    );
  }

  get wrk(): Target['wrk'] {
    const { port, processors, signal } = this.#order;
    return { url: `http://${hostOf(this.#order)}:${port}/`, cpu: processors.generator, signal };
  }

  /** Ends the service; rejects when something of it is left over. */
  close(): Promise<void> {
    return endAll(this.#service, this.#desk, this.#folder);
  }
}

function hostOf({ far }: TargetOrder): string {
  return far?.host ?? '127.0.0.1';
}

async function endAll(service: Service | undefined, desk: Desk | undefined, folder: string): Promise<void> {
  const before = service ? treeOf(service.pid) : [];
  try {
    await service?.stop();
  } finally {
    await desk?.close();
    rmSync(folder, { recursive: true, force: true });
  }
  const left = before.filter((pid) => treeOf(pid).length > 0);
  if (left.length > 0) throw new Error(`processes ${left} of the service outlived it`);
}

/** Milliseconds between two attempts: the precision of `firstAnswer`. */
const ATTEMPT = 2;

/** Resolves with the first answer that a client gets. Refusals are what is expected until then. */
async function answerFrom(host: string, port: number, request: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    if (await isAnswered(host, port, request, signal)) return;
    if (signal.aborted) throw new Error(`no answer from ${host}:${port}: ${signal.reason}`);
    await new Promise((resolve) => setTimeout(resolve, ATTEMPT));
  }
}

function isAnswered(host: string, port: number, request: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port }, () => socket.write(request));
    const end = (answered: boolean) => {
      signal.removeEventListener('abort', give);
      socket.destroy();
      resolve(answered);
    };
    const give = () => end(false);
    signal.addEventListener('abort', give, { once: true });
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      answer += text;
      if (answer.includes('\n')) end(!answer.startsWith('HTTP/1.1 ') || answer.startsWith('HTTP/1.1 200'));
    });
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
  });
}
