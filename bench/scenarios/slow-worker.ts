import { steady } from '../load/schedule.js';
import { get } from '../service/requests.js';
import {
  excludesLoneWorker,
  latencyFigures,
  measuredLatency,
  PATIENCE,
  SERVICE_TIME,
  someWorkers,
  WORKERS,
} from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

/** How much longer a request takes in the slow one. */
const SLOWER = 5;
/** Percent of what the four can do together: the slow one alone has a fifth of a share. */
const SHARE = 60;

function slow(scale: Scale): Variant {
  const milliseconds = scale === 'quick' ? 1_000 : 5_000;
  const rate = Math.round(((WORKERS - 1 + 1 / SLOWER) * (1000 / SERVICE_TIME) * SHARE) / 100);
  return {
    id: `load-${SHARE}`,
    title: `${SHARE} % of what they can do together`,
    settings: { workers: WORKERS, rate, serviceTime: SERVICE_TIME, slower: SLOWER, milliseconds },
    workers: WORKERS,
    placement: 'over',
    service: { serviceTime: SERVICE_TIME },
    figures: latencyFigures('p50', 'p99', 'max'),
    excludes: excludesLoneWorker,
    async measure({ target, seed }: Cell): Promise<Measured> {
      for (const worker of someWorkers(target, 1)) worker.serveIn(SERVICE_TIME * SLOWER);
      const samples = await target.load({
        work: { mode: 'connections', arrivals: steady({ rate, milliseconds, seed }) },
        requests: [get('/')],
        timeout: PATIENCE,
      });
      return { samples, figures: measuredLatency(samples) };
    },
  };
}

export const slowWorker: Scenario = {
  name: 'slow-worker',
  title: `One worker of ${WORKERS} is ${SLOWER} times slower`,
  shows: 'Whether the slow worker gets less of the work, or the clients that meet it wait behind each other.',
  cannotShow: 'Why a worker is slow: here it sleeps for the time of a request, no processor is overloaded.',
  core: true,
  variants: (scale) => [slow(scale)],
};
