import { steady, withKind } from '../load/schedule.js';
import { latencies } from '../load/summary.js';
import type { FigureSpec } from '../report/schema.js';
import { blockingPath, get } from '../service/requests.js';
import { failures, latencyFigures, PATIENCE, WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const RATE = 1_000;
/** One request in so many blocks its worker for so many milliseconds. */
const ONE_IN = 1_000;
const BLOCKED_FOR = 50;
const MEGABYTE = 1e6;

const FIGURES: readonly FigureSpec[] = [
  ...latencyFigures('p99'),
  { name: 'drift', title: 'p99 of the last quarter − first', unit: 'ms', better: null, leading: true },
  { name: 'grown', title: 'memory grown', unit: 'MB', better: null, leading: true },
  { name: 'descriptors', title: 'descriptors more', unit: 'descriptors', better: null, leading: true },
];

function soaked(scale: Scale): Variant {
  const minutes = scale === 'quick' ? 0.1 : 5;
  const milliseconds = minutes * 60_000;
  return {
    id: `minutes-${minutes}`,
    title: `${minutes} minutes at ${RATE}/s`,
    settings: { workers: WORKERS, rate: RATE, minutes, oneIn: ONE_IN, blockedFor: BLOCKED_FOR },
    workers: WORKERS,
    placement: 'over',
    figures: FIGURES,
    async measure({ target, seed }: Cell): Promise<Measured> {
      const held = () => {
        const { workers, others } = target.memory();
        return workers + others;
      };
      const before = { memory: held(), descriptors: target.descriptors() };
      const arrivals = withKind(steady({ rate: RATE, milliseconds, seed }), { kind: 1, oneIn: ONE_IN, seed });
      const samples = await target.load({
        work: { mode: 'connections', arrivals },
        requests: [get('/'), get(blockingPath('spin', BLOCKED_FOR))],
        timeout: PATIENCE,
      });
      const judged = (index: number) => samples.kind[index] === 0;
      const quarter = (first: number) => (index: number) => {
        const share = (samples.due[index] as number) / milliseconds;
        return judged(index) && share >= first && share < first + 0.25;
      };
      const [early, late] = [
        latencies(samples, PATIENCE, quarter(0)).p99,
        latencies(samples, PATIENCE, quarter(0.75)).p99,
      ];
      return {
        samples,
        judged,
        figures: {
          ...latencies(samples, PATIENCE, judged),
          failed: failures(samples),
          drift: early === null || late === null ? null : late - early,
          grown: (held() - before.memory) / MEGABYTE,
          descriptors: target.descriptors() - before.descriptors,
        },
      };
    },
  };
}

export const soak: Scenario = {
  name: 'soak',
  title: 'Minutes on end',
  shows:
    'Whether anything grows or slows down while a service runs: memory, descriptors, latency; and whether a request ever fails.',
  cannotShow: 'What takes days to show.',
  core: false,
  variants: (scale) => [soaked(scale)],
};
