import { setTimeout as delay } from 'node:timers/promises';
import type { FigureSpec } from '../report/schema.js';
import { WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

/** Milliseconds of rest in which processor time is counted. */
const REST = { quick: 1_000, full: 6_000 };
const MEGABYTE = 1e6;

const FIGURES: readonly FigureSpec[] = [
  { name: 'firstAnswer', title: 'first answer after', unit: 'ms', better: 'lower', leading: true },
  { name: 'worker', title: 'memory per worker', unit: 'MB', better: 'lower', leading: true },
  { name: 'others', title: 'memory of all else', unit: 'MB', better: 'lower', leading: true },
  { name: 'idle', title: 'processor time at rest', unit: 'ms/s', better: 'lower', leading: true },
];

function started(workers: number): Variant {
  return {
    ...(workers > WORKERS ? { closer: true } : {}),
    id: `workers-${workers}`,
    title: `${workers} workers`,
    settings: { workers },
    workers,
    placement: 'over',
    figures: FIGURES,
    async measure({ target, scale }: Cell): Promise<Measured> {
      const rest = REST[scale];
      const before = target.runTime();
      await delay(rest);
      const used = target.runTime() - before;
      const held = target.memory();
      return {
        samples: null,
        figures: {
          firstAnswer: target.firstAnswer,
          // Threads share the memory of one process.
          worker: held.workers / target.workers().length / MEGABYTE,
          others: held.others / MEGABYTE,
          idle: used / (rest / 1000),
        },
      };
    },
  };
}

export const start: Scenario = {
  name: 'start',
  title: 'Start, memory, rest',
  shows:
    'How long it takes from the command to the first answer, how much memory each worker and everything beside the workers has (proportional share, after the same warm-up), and what the service costs while nobody comes.',
  cannotShow:
    'Start-up of large programs: this one loads nothing but node:http. A launcher that the benchmark needs where people have systemd is not counted.',
  core: true,
  variants: (scale: Scale) => (scale === 'quick' ? [WORKERS] : [WORKERS, 16]).map(started),
};
