import type { Samples } from '../load/samples.js';
import { steady } from '../load/schedule.js';
import { isAnswered, latencies } from '../load/summary.js';
import type { FigureSpec } from '../report/schema.js';
import { BLOCKERS, type Blocker } from '../service/blocking.js';
import { get } from '../service/requests.js';
import {
  during,
  excludesLoneWorker,
  excludesThreads,
  failures,
  latencyFigures,
  PATIENCE,
  someWorkers,
  WORKERS,
} from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant, Worker } from './scenario.js';

const RATE = 200;
/** Milliseconds before, during and after. */
const BEFORE = 500;
const HANGING = 3_000;
const AFTER = 500;
/** A request that waits longer than this has felt the hang, milliseconds. */
const FELT = 20;

type How = Blocker | 'stop';

const FELT_FIGURE: FigureSpec = {
  name: 'felt',
  title: `waited over ${FELT} ms`,
  unit: '%',
  better: 'lower',
  leading: true,
};

function hanging(how: How, count: number, scale: Scale): Variant {
  const closer = count > 1 || how === 'exec-sync';
  const lasts = scale === 'quick' ? 1_000 : HANGING;
  return {
    ...(closer ? { closer: true } : {}),
    id: `${how}-${count}`,
    title: `${how}: ${count} of ${WORKERS} for ${lasts / 1000} s`,
    settings: { how, workers: WORKERS, hanging: count, rate: RATE, before: BEFORE, lasts, after: AFTER },
    workers: WORKERS,
    placement: 'over',
    // With so few requests the 99.9th percentile is the maximum.
    figures: [FELT_FIGURE, ...latencyFigures('p99', 'max').filter(({ name }) => name !== 'p999')],
    excludes: (driver) => excludesLoneWorker(driver) ?? (how === 'stop' ? excludesThreads(driver) : null),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const victims = someWorkers(target, count);
      const load = {
        work: {
          mode: 'connections',
          arrivals: steady({ rate: RATE, milliseconds: BEFORE + lasts + AFTER, seed }),
        },
        requests: [get('/')],
        timeout: PATIENCE,
      } as const;
      const [samples] = await during(target, load, BEFORE, () => hold(victims, how, lasts));
      const judged = (index: number) => {
        const due = samples.due[index] as number;
        return due >= BEFORE && due < BEFORE + lasts;
      };
      const { p50, p99, max } = latencies(samples, PATIENCE, judged);
      return {
        samples,
        judged,
        marks: [
          { at: BEFORE, what: `${how}, ${count} of ${WORKERS}` },
          { at: BEFORE + lasts, what: 'goes on' },
        ],
        figures: { felt: feltBy(samples, judged), p50, p99, max, failed: failures(samples) },
      };
    },
  };
}

/** Resolves when the workers go on. */
async function hold(workers: readonly Worker[], how: How, milliseconds: number): Promise<void> {
  if (how !== 'stop') {
    for (const worker of workers) worker.block(how, milliseconds);
    return;
  }
  for (const { pid } of workers) process.kill(pid, 'SIGSTOP');
  try {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
  } finally {
    for (const { pid } of workers) process.kill(pid, 'SIGCONT');
  }
}

/** Percent of the judged requests that were answered late, or not at all. */
function feltBy(samples: Samples, judged: (index: number) => boolean): number {
  let all = 0;
  let felt = 0;
  for (let index = 0; index < samples.count; index++) {
    if (!judged(index)) continue;
    all++;
    if (!isAnswered(samples, index) || (samples.firstByte[index] as number) > FELT) felt++;
  }
  return (felt / all) * 100;
}

export const hang: Scenario = {
  name: 'hang',
  title: 'A worker hangs for seconds',
  shows: `What clients that come during the hang wait for, while one or two of ${WORKERS} workers are stopped by a signal, spin, or wait.`,
  cannotShow:
    'What becomes of requests that a worker had accepted before it hung: they wait, but for a proxy that is set up to try again elsewhere. A supervisor that kills hanging workers does so after longer than this.',
  core: true,
  variants: (scale) => {
    const hows: How[] = ['stop', ...BLOCKERS];
    const cases: [How, number][] =
      scale === 'quick' ? [['stop', 1]] : [...hows.map((how): [How, number] => [how, 1]), ['stop', 2]];
    return cases.map(([how, count]) => hanging(how, count, scale));
  },
};
