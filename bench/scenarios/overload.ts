import type { Samples } from '../load/samples.js';
import { steady } from '../load/schedule.js';
import { isAnswered, latencies, outcomes } from '../load/summary.js';
import type { FigureSpec } from '../report/schema.js';
import { get } from '../service/requests.js';
import { failures, latencyFigures, SERVICE_TIME, WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const BACKLOG = 64;
/** Clients give up after so many milliseconds: an answer after that is none. */
const PATIENCE = 2_000;
/** Times the capacity. */
const TIMES = 2;

const FIGURES: readonly FigureSpec[] = [
  { name: 'goodput', title: 'answered while it lasts', unit: '1/s', better: 'higher', leading: true },
  // Shown and not compared: whoever drops more requests has shorter queues.
  ...latencyFigures('p50', 'p99')
    .filter(({ name }) => name !== 'failed')
    .map((spec) => ({ ...spec, better: null })),
  { name: 'failed', title: 'failed', unit: '%', better: 'lower', leading: true },
  { name: 'refused', title: 'refused', unit: '%', better: null },
  { name: 'dropped', title: 'no connection in time', unit: '%', better: null },
  { name: 'reset', title: 'reset', unit: '%', better: null },
  { name: 'unanswered', title: 'connected, no answer', unit: '%', better: null, leading: true },
  { name: 'bad', title: 'error answers', unit: '%', better: null },
  { name: 'failsAfter', title: 'first failed request', unit: 'ms', better: null },
];

function overloaded(scale: Scale): Variant {
  const milliseconds = scale === 'quick' ? 1_500 : 6_000;
  return {
    id: `times-${TIMES}`,
    title: `${TIMES} times what plain SO_REUSEPORT can answer, queues of ${BACKLOG}`,
    settings: {
      workers: WORKERS,
      times: TIMES,
      serviceTime: SERVICE_TIME,
      backlog: BACKLOG,
      patience: PATIENCE,
      milliseconds,
    },
    workers: WORKERS,
    placement: 'over',
    service: { serviceTime: SERVICE_TIME, backlog: BACKLOG },
    needsCapacity: true,
    figures: FIGURES,
    async measure({ target, capacity, seed }: Cell): Promise<Measured> {
      const samples = await target.load({
        work: { mode: 'connections', arrivals: steady({ rate: capacity * TIMES, milliseconds, seed }) },
        requests: [get('/')],
        timeout: PATIENCE,
      });
      const failed = failures(samples);
      const seen = outcomes(samples);
      const percent = (count: number) => (count / samples.count) * 100;
      const first = samples.outcome.findIndex((_, index) => !isAnswered(samples, index));
      return {
        samples,
        figures: {
          goodput: answeredBy(milliseconds, samples) / (milliseconds / 1000),
          ...latencies(samples, null),
          failed: percent(failed),
          refused: percent(seen.refused),
          dropped: percent(seen['connect-timeout']),
          reset: percent(seen.reset),
          unanswered: percent(seen.unanswered),
          bad: percent(seen['bad-answer']),
          failsAfter: first < 0 ? null : (samples.due[first] as number),
        },
      };
    },
  };
}

/** Requests that were answered until then, and not in what was left of the queues after it. */
function answeredBy(milliseconds: number, samples: Samples): number {
  let answered = 0;
  for (let index = 0; index < samples.count; index++) {
    const at = (samples.due[index] as number) + (samples.ended[index] as number);
    if (isAnswered(samples, index) && at <= milliseconds) answered++;
  }
  return answered;
}

export const overload: Scenario = {
  name: 'overload',
  title: 'Twice as much as can be answered',
  shows:
    'How much is still answered, what those who are answered wait for, and how the others learn that they are not: refused at once, left without a connection, or connected and left waiting. A request counts as answered within two seconds.',
  cannotShow:
    'Which way to fail is better: that depends on the clients. The queues are not equally long: drivers with a listener per worker have one queue for each, the shared handle and one process have one in all, proxies have their own besides.',
  core: true,
  variants: (scale) => [overloaded(scale)],
};
