import { steady } from '../load/schedule.js';
import { answersPerWorker } from '../load/summary.js';
import { mean } from '../method/statistics.js';
import type { FigureSpec } from '../report/schema.js';
import { get } from '../service/requests.js';
import { excludesLoneWorker, failures, PATIENCE } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const WORKERS = 8;
const CONNECTIONS = 400;

const FIGURES: readonly FigureSpec[] = [
  { name: 'deviation', title: 'standard deviation', unit: 'connections', better: 'lower', leading: true },
  { name: 'most', title: 'most for one worker', unit: 'connections', better: 'lower', leading: true },
  { name: 'least', title: 'least for one worker', unit: 'connections', better: 'higher' },
  { name: 'failed', title: 'failed', unit: 'requests', better: 'lower' },
];

function held(name: string, rate: number, scale: Scale): Variant {
  const connections = scale === 'quick' ? CONNECTIONS / 2 : CONNECTIONS;
  const milliseconds = (connections / rate) * 1000;
  return {
    id: name,
    title: `${connections} that stay, ${rate} a second`,
    settings: { workers: WORKERS, connections, rate },
    workers: WORKERS,
    placement: 'over',
    figures: FIGURES,
    excludes: (driver) =>
      driver.workersAre === 'processes behind a proxy'
        ? 'the connections of its clients end at the proxy, no worker has them'
        : excludesLoneWorker(driver),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const samples = await target.load({
        work: {
          mode: 'hold',
          arrivals: steady({ rate, milliseconds, seed }),
          milliseconds: milliseconds + 200,
        },
        requests: [get('/', 'keep-alive')],
        timeout: PATIENCE,
      });
      // A worker without any connection gave no answer by which it could be counted.
      const counts = [...answersPerWorker(samples), ...Array<number>(WORKERS).fill(0)].slice(0, WORKERS);
      return {
        samples,
        figures: {
          deviation: deviation(counts),
          most: Math.max(...counts),
          least: Math.min(...counts),
          failed: failures(samples),
        },
      };
    },
  };
}

function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

export const balance: Scenario = {
  name: 'balance',
  title: 'Connections that stay',
  shows: `How evenly long-lived connections are shared by ${WORKERS} workers that have little to do, when they come slowly and when they come all at once (after a restart of the clients, for example).`,
  cannotShow: 'How uneven it becomes when clients leave again: all of them stay.',
  core: true,
  variants: (scale) => [held('slowly', 200, scale), held('at-once', 4_000, scale)],
};
