import { steady } from '../load/schedule.js';
import type { FigureSpec } from '../report/schema.js';
import { get, PLAIN_REQUEST } from '../service/requests.js';
import { answered, COST, costOf, latencyFigures, measuredLatency, PATIENCE, WORKERS } from './common.js';
import type { Cell, Measured, Placement, Scale, Scenario, Variant } from './scenario.js';

/** Connections at once that saturate the service. */
const CONCURRENCY = 64;
/** Shares of the reference's saturated rate, in percent. */
const LADDER = [30, 60, 90];
/** The one that all rivals climb. */
const MIDDLE = 60;

const SATURATED: readonly FigureSpec[] = [
  { name: 'rate', title: 'rate', unit: '1/s', better: 'higher', leading: true },
  { ...COST, leading: true },
  // Shown and not compared: in a closed loop a slow answer keeps the next request back.
  ...latencyFigures('p99').map((spec) => (spec.name === 'failed' ? spec : { ...spec, better: null })),
];

interface Saturation {
  id: string;
  title: string;
  protocol?: 'http' | 'tcp';
  placement?: Placement;
  closer?: true;
}

function saturation(
  { id, title, protocol = 'http', placement = 'apart', ...closer }: Saturation,
  scale: Scale,
): Variant {
  const milliseconds = scale === 'quick' ? 700 : 4_000;
  return {
    ...closer,
    id,
    title: `as fast as it goes, ${title}`,
    settings: { workers: WORKERS, concurrency: CONCURRENCY, milliseconds, protocol },
    workers: WORKERS,
    placement,
    saturates: true,
    service: { protocol },
    figures: SATURATED,
    async measure({ target }: Cell): Promise<Measured> {
      const before = target.processorTime();
      const samples = await target.load({
        work: { mode: 'closed', concurrency: CONCURRENCY, milliseconds, kind: 0 },
        requests: [PLAIN_REQUEST[protocol]],
        timeout: PATIENCE,
      });
      const used = target.processorTime() - before;
      return {
        samples,
        figures: {
          rate: answered(samples) / (milliseconds / 1000),
          cost: costOf(used, answered(samples)),
          ...measuredLatency(samples),
        },
      };
    },
  };
}

const SATURATIONS: readonly Saturation[] = [
  { id: 'saturation', title: 'HTTP' },
  {
    id: 'saturation-everywhere',
    title: "HTTP, on the generator's processor too",
    placement: 'over',
    closer: true,
  },
  { id: 'saturation-tcp', title: 'a line over plain TCP', protocol: 'tcp', closer: true },
];

function rung(share: number, scale: Scale): Variant {
  const milliseconds = scale === 'quick' ? 700 : 3_000;
  return {
    ...(share === MIDDLE ? {} : { closer: true }),
    id: `ladder-${share}`,
    title: `${share} % of what plain SO_REUSEPORT can take`,
    settings: { workers: WORKERS, share, milliseconds },
    workers: WORKERS,
    placement: 'apart',
    saturates: true,
    needsCapacity: true,
    figures: [...latencyFigures('p50', 'p99'), COST],
    async measure({ target, capacity, seed }: Cell): Promise<Measured> {
      const before = target.processorTime();
      const samples = await target.load({
        work: {
          mode: 'connections',
          arrivals: steady({ rate: (capacity * share) / 100, milliseconds, seed }),
        },
        requests: [get('/')],
        timeout: PATIENCE,
      });
      const used = target.processorTime() - before;
      return { samples, figures: { ...measuredLatency(samples), cost: costOf(used, answered(samples)) } };
    },
  };
}

export const rate: Scenario = {
  name: 'rate',
  title: 'A connection for every request',
  shows:
    'How many connections a second the service takes when clients come as fast as they can, what each costs in processor time, and what clients feel on the way there.',
  cannotShow:
    'What the choice of a worker costs by itself: on loopback it is made on the processor of whoever connects, and CPU per request counts the processes of the service. In the ladder, a rival that takes less than plain SO_REUSEPORT may be overloaded on the upper rungs, and waits grow for as long as the load lasts. With two processors the services have one. What a network card, interrupts on many processors or clients far away would change: everything goes over loopback, and except in one variant the services have all processors but one.',
  core: true,
  variants: (scale) => [
    ...SATURATIONS.slice(0, scale === 'quick' ? 1 : SATURATIONS.length).map((each) =>
      saturation(each, scale),
    ),
    ...(scale === 'quick' ? [MIDDLE] : LADDER).map((share) => rung(share, scale)),
  ],
};
