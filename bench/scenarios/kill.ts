import { setTimeout as delay } from 'node:timers/promises';
import { steady } from '../load/schedule.js';
import type { FigureSpec } from '../report/schema.js';
import { get } from '../service/requests.js';
import {
  during,
  excludesLoneWorker,
  excludesThreads,
  latencyFigures,
  measuredLatency,
  PATIENCE,
  SERVICE_TIME,
  someWorkers,
  WORKERS,
} from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const RATE = 800;
/** Milliseconds between two deaths. */
const APART = 1_500;

const AGAIN: FigureSpec = {
  name: 'again',
  title: 'all back after',
  unit: 'ms',
  better: 'lower',
  leading: true,
};

function killed(scale: Scale): Variant {
  const deaths = scale === 'quick' ? 1 : 3;
  const milliseconds = (deaths + 1) * APART;
  return {
    id: `deaths-${deaths}`,
    title: `${deaths === 1 ? 'a worker is' : `${deaths} times a worker is`} killed with -9, ${RATE}/s`,
    settings: { workers: WORKERS, rate: RATE, serviceTime: SERVICE_TIME, deaths, apart: APART },
    workers: WORKERS,
    placement: 'over',
    service: { serviceTime: SERVICE_TIME },
    figures: [...latencyFigures('p99', 'max'), AGAIN],
    excludes: (driver) => excludesLoneWorker(driver) ?? excludesThreads(driver),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const load = {
        work: { mode: 'connections', arrivals: steady({ rate: RATE, milliseconds, seed }) },
        requests: [get('/')],
        timeout: PATIENCE,
      } as const;
      const marks: NonNullable<Measured['marks']> = [];
      const [samples, longest] = await during(target, load, APART, async (now) => {
        let longest = 0;
        for (let death = 1; death <= deaths; death++) {
          await delay(death * APART - now());
          for (const { pid } of someWorkers(target, 1)) process.kill(pid, 'SIGKILL');
          const at = now();
          marks.push({ at, what: 'kill -9' });
          await target.untilListening(WORKERS - 1);
          await target.untilListening(WORKERS);
          longest = Math.max(longest, now() - at);
        }
        return longest;
      });
      return { samples, marks, figures: { ...measuredLatency(samples), again: longest } };
    },
  };
}

export const kill: Scenario = {
  name: 'kill',
  title: 'Workers are killed',
  shows:
    'How many requests fail when a worker dies without a word, how long the others wait, and how soon there are as many workers again. The requests that the dead one had accepted are lost, but for a proxy that may send them again (a GET may be); those that waited in its queue need not be.',
  cannotShow: 'Crashes that repeat at every start: no delay of a supervisor is reached by a few deaths.',
  core: true,
  variants: (scale) => [killed(scale)],
};
