import { steps } from '../load/schedule.js';
import { get } from '../service/requests.js';
import { latencyFigures, measuredLatency, PATIENCE, SERVICE_TIME, WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const RATE = 400;
const TIMES = 10;
/** Milliseconds of a burst, and from one to the next. */
const BURST = 100;
const PERIOD = 1_000;

function bursts(scale: Scale): Variant {
  const count = scale === 'quick' ? 1 : 5;
  return {
    id: `times-${TIMES}`,
    title: `${RATE}/s, and ${TIMES} times as many for ${BURST} ms in every second`,
    settings: {
      workers: WORKERS,
      rate: RATE,
      times: TIMES,
      burst: BURST,
      period: PERIOD,
      count,
      serviceTime: SERVICE_TIME,
    },
    workers: WORKERS,
    placement: 'over',
    service: { serviceTime: SERVICE_TIME },
    figures: latencyFigures('p50', 'p99', 'max'),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const quiet = PERIOD - BURST;
      const plan = Array.from({ length: count }, () => [
        { rate: RATE, milliseconds: quiet },
        { rate: RATE * TIMES, milliseconds: BURST },
      ]).flat();
      const samples = await target.load({
        work: { mode: 'connections', arrivals: steps([...plan, { rate: RATE, milliseconds: quiet }], seed) },
        requests: [get('/')],
        timeout: PATIENCE,
      });
      const marks = Array.from({ length: count }, (_, index) => ({
        at: index * PERIOD + quiet,
        what: 'burst',
      }));
      return { samples, marks, figures: measuredLatency(samples) };
    },
  };
}

export const burst: Scenario = {
  name: 'burst',
  title: 'Bursts',
  shows:
    'How evenly a burst is spread over the queues: the sooner all workers share it, the sooner it is over.',
  cannotShow: 'Bursts that overflow the queues; that is "overload".',
  core: true,
  variants: (scale) => [bursts(scale)],
};
