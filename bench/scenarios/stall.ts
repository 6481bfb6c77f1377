import { steady, withKind } from '../load/schedule.js';
import { BLOCKERS, type Blocker } from '../service/blocking.js';
import { blockingPath, get } from '../service/requests.js';
import { latencyFigures, measuredLatency, PATIENCE, WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

/** How long a request blocks its worker, milliseconds, and how many do. */
const BLOCKED_FOR = 200;
const ONE_IN = 100;
/** The fewest of a full load. */
const REQUESTS = 3_000;
/** There and back, milliseconds: a choice made at the SYN is as old as that when the connection arrives. */
const ROUND_TRIP = 20;

interface Choice {
  blocker: Blocker;
  rate: number;
  workers?: number;
  roundTrip?: number;
  closer?: true;
}

function stalled(
  { blocker, rate, workers = WORKERS, roundTrip = 0, ...closer }: Choice,
  scale: Scale,
): Variant {
  // Long enough that the 99.9th percentile is not one single request.
  const milliseconds = scale === 'quick' ? 1_500 : Math.max(8_000, (REQUESTS / rate) * 1_000);
  const far = roundTrip > 0 ? `-far` : '';
  const many = workers === WORKERS ? '' : `-${workers}`;
  return {
    ...closer,
    id: `${blocker}-${rate}${many}${far}`,
    title:
      `${blocker}, ${rate}/s, ${workers} workers` +
      (roundTrip > 0 ? `, ${roundTrip} ms between client and server` : ''),
    settings: { blocker, rate, workers, roundTrip, oneIn: ONE_IN, blockedFor: BLOCKED_FOR, milliseconds },
    workers,
    placement: 'over',
    roundTrip,
    figures: latencyFigures('p50', 'p99', 'p999', 'max'),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const arrivals = withKind(steady({ rate, milliseconds, seed }), { kind: 1, oneIn: ONE_IN, seed });
      const samples = await target.load({
        work: { mode: 'connections', arrivals },
        requests: [get('/'), get(blockingPath(blocker, BLOCKED_FOR))],
        timeout: PATIENCE,
      });
      const judged = (index: number) => samples.kind[index] === 0;
      return { samples, judged, figures: measuredLatency(samples, judged) };
    },
  };
}

export const stall: Scenario = {
  name: 'stall',
  title: `One request in ${ONE_IN} blocks its worker for ${BLOCKED_FOR} ms`,
  shows:
    'What the other requests wait for when a worker stands still: by computing (spin), by waiting for a child (exec-sync) or on a lock (atomics-wait). The blocking requests themselves are not judged.',
  cannotShow:
    'Connections that live long: every request has its own. On few processors a spinning worker also takes computing time from the others, which no choice of a worker can give back.',
  core: true,
  variants: (scale) => {
    const middle = BLOCKERS.map((blocker) => ({ blocker, rate: 400 }));
    const far: Choice = { blocker: 'spin', rate: 400, roundTrip: ROUND_TRIP };
    const choices: Choice[] =
      scale === 'quick'
        ? [...middle, far]
        : [
            { blocker: 'spin', rate: 100, closer: true },
            ...middle,
            { blocker: 'spin', rate: 600, closer: true },
            { blocker: 'spin', rate: 400, workers: 8, closer: true },
            far,
          ];
    return choices.map((choice) => stalled(choice, scale));
  },
};
