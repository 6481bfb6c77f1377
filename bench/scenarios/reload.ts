import { steady } from '../load/schedule.js';
import type { FigureSpec } from '../report/schema.js';
import { get } from '../service/requests.js';
import {
  during,
  excludesLoneWorker,
  latencyFigures,
  measuredLatency,
  PATIENCE,
  SERVICE_TIME,
  WORKERS,
} from './common.js';
import { type Cell, type Measured, NotOffered, type Scale, type Scenario, type Variant } from './scenario.js';

const RATE = 800;
const BEFORE = 500;

/** Not compared: some are a command line that starts first, some a message. */
const TOOK: FigureSpec = { name: 'took', title: 'took', unit: 'ms', better: null };

function reloaded(scale: Scale): Variant {
  const milliseconds = scale === 'quick' ? 3_000 : 9_000;
  return {
    id: `rate-${RATE}`,
    title: `all ${WORKERS} workers are replaced, ${RATE}/s`,
    settings: { workers: WORKERS, rate: RATE, serviceTime: SERVICE_TIME, milliseconds },
    workers: WORKERS,
    placement: 'over',
    service: { serviceTime: SERVICE_TIME },
    figures: [...latencyFigures('p99', 'max'), TOOK],
    excludes: (driver) => excludesLoneWorker(driver),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const { reload } = target;
      if (!reload) throw new NotOffered('it has no way to replace its workers');
      const load = {
        work: { mode: 'connections', arrivals: steady({ rate: RATE, milliseconds, seed }) },
        requests: [get('/')],
        timeout: PATIENCE,
      } as const;
      const [samples, took] = await during(target, load, BEFORE, async (now) => {
        const began = now();
        await reload();
        return now() - began;
      });
      if (BEFORE + took > milliseconds) {
        throw new Error(`the reload took ${Math.round(took)} ms, the load was over before`);
      }
      const marks = [
        { at: BEFORE, what: 'reload' },
        { at: BEFORE + took, what: 'reloaded' },
      ];
      return { samples, marks, figures: { ...measuredLatency(samples), took } };
    },
  };
}

export const reload: Scenario = {
  name: 'reload',
  title: 'All workers are replaced under load',
  shows: 'How many requests fail while new workers take over, and how long the others wait.',
  cannotShow:
    'Connections that stay open (see the tests of drains), and the ways of people who have a second machine or a second set of workers: behind a proxy the workers are replaced one after another, in place.',
  core: true,
  variants: (scale) => [reloaded(scale)],
};
