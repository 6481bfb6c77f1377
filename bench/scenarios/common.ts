/** What several scenarios ask, send and report alike. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Driver } from '../drivers/driver.js';
import type { Samples } from '../load/samples.js';
import { failed, latencies, outcomes } from '../load/summary.js';
import type { FigureSpec } from '../report/schema.js';
import type { LoadWishes, Target, Worker } from './scenario.js';

/** Workers where nothing else is said. */
export const WORKERS = 4;

/** Given up after so many milliseconds: clients whose SYN was dropped come again after 1 s and after 3 s. */
export const PATIENCE = 5_000;

/** Milliseconds that a request takes of its worker's event loop, where that shall not depend on the processors. */
export const SERVICE_TIME = 2;

/** Processor time of the service's processes. */
export const COST: FigureSpec = { name: 'cost', title: 'CPU per request', unit: 'µs', better: 'lower' };

/** Microseconds per answer; null where nobody was answered. */
export function costOf(milliseconds: number, answers: number): number | null {
  return answers > 0 ? (milliseconds * 1000) / answers : null;
}

/** Time from due to first byte, in milliseconds; a failed request counts as PATIENCE. */
const LATENCY: readonly FigureSpec[] = [
  { name: 'p50', title: 'p50', unit: 'ms', better: 'lower' },
  { name: 'p99', title: 'p99', unit: 'ms', better: 'lower' },
  { name: 'p999', title: 'p99.9', unit: 'ms', better: 'lower' },
  { name: 'max', title: 'max', unit: 'ms', better: 'lower' },
];

/** Requests that were not answered rightly, whichever way; what the generator itself could not send is not among them. */
const FAILED: FigureSpec = {
  name: 'failed',
  title: 'failed',
  unit: 'requests',
  better: 'lower',
  // Beside every latency, so that none is read without it.
  leading: true,
};

/** The latencies, of which those named lead, and the failures. */
export function latencyFigures(...leading: string[]): FigureSpec[] {
  return [...LATENCY, FAILED].map((spec) =>
    leading.includes(spec.name) ? { ...spec, leading: true } : spec,
  );
}

export function measuredLatency(
  samples: Samples,
  judged?: (index: number) => boolean,
): Record<string, number | null> {
  return { ...latencies(samples, PATIENCE, judged), failed: failures(samples) };
}

export function failures(samples: Samples): number {
  const counts = outcomes(samples);
  const { 'not-sent': notSent } = counts;
  if (notSent > 0) throw new Error(`the generator could not send ${notSent} of ${samples.count} requests`);
  return failed(counts);
}

export function answered(samples: Samples): number {
  return outcomes(samples).ok;
}

/** For scenarios that do something to one worker of several. */
export function excludesLoneWorker({ mostWorkers }: Driver): string | null {
  return mostWorkers === 1 ? 'it has one worker only, there is nobody beside it' : null;
}

/** For scenarios that stop or kill a worker by a signal. */
export function excludesThreads({ workersAre }: Driver): string | null {
  return workersAre === 'threads'
    ? 'its workers are threads of one process: a signal meets all of them at once'
    : null;
}

/** Some of the workers, the same ones by order of start for every driver. */
export function someWorkers(target: Target, count: number): Worker[] {
  const chosen = target.workers().slice(0, count);
  if (chosen.length < count) throw new Error(`${count} workers are wanted, ${chosen.length} listen`);
  return chosen;
}

/**
 * Puts a load on the service and does something `at` milliseconds after its start, on the clock of the samples' `due`.
 * Both are waited for, whichever fails: nothing of a turn may go on after it.
 *
 * @param what gets a function that tells the time since the start of the load, in milliseconds.
 */
export async function during<T>(
  target: Target,
  wishes: LoadWishes,
  at: number,
  what: (now: () => number) => T | Promise<T>,
): Promise<[Samples, T]> {
  let act: Promise<T> | undefined;
  const load = target.load(wishes, (startedAt) => {
    const now = () => clock() - startedAt;
    act = delay(at - now()).then(() => what(now));
    // It is looked at below, when the load has ended.
    act.catch(() => {});
  });
  const [samples] = await Promise.allSettled([load]);
  const result = await act;
  if (samples.status === 'rejected') throw samples.reason;
  if (!act) throw new Error('the generator did not say when it began');
  return [samples.value, result as T];
}

/** Milliseconds, the clock of `startedAt`. */
function clock(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
