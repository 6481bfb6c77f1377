import { steady } from '../load/schedule.js';
import { runWrk } from '../load/wrk.js';
import type { FigureSpec } from '../report/schema.js';
import { get } from '../service/requests.js';
import { COST, costOf, latencyFigures, measuredLatency, PATIENCE, WORKERS } from './common.js';
import type { Cell, Measured, Scale, Scenario, Variant } from './scenario.js';

const CONNECTIONS = 64;
/** Requests a second of the open loop: far from saturation. */
const RATE = 4_000;

const SATURATED: readonly FigureSpec[] = [
  { name: 'rate', title: 'rate', unit: '1/s', better: 'higher', leading: true },
  { ...COST, leading: true },
  { name: 'p50', title: 'p50 (wrk)', unit: 'ms', better: null },
  { name: 'p99', title: 'p99 (wrk)', unit: 'ms', better: null },
  { name: 'failed', title: 'failed', unit: 'requests', better: 'lower' },
];

/**
 * By wrk, a closed loop: its latencies are those of requests that are sent only when the one before is answered, so
 * they are shown and not compared.
 */
function saturation(scale: Scale): Variant {
  const seconds = scale === 'quick' ? 1 : 4;
  return {
    id: 'saturation',
    title: `as fast as it goes on ${CONNECTIONS} connections (wrk)`,
    settings: { workers: WORKERS, connections: CONNECTIONS, seconds, generator: 'wrk' },
    workers: WORKERS,
    placement: 'apart',
    saturates: true,
    figures: SATURATED,
    tool: 'wrk',
    async measure({ target }: Cell): Promise<Measured> {
      const before = target.processorTime();
      const { answered, failed, took, p50, p99 } = await runWrk({
        ...target.wrk,
        connections: CONNECTIONS,
        seconds,
      });
      const used = target.processorTime() - before;
      return {
        samples: null,
        figures: {
          rate: answered / took,
          cost: costOf(used, answered),
          p50,
          p99,
          failed,
        },
      };
    },
  };
}

function open(scale: Scale): Variant {
  const milliseconds = scale === 'quick' ? 700 : 3_000;
  return {
    id: `rate-${RATE}`,
    title: `${RATE} requests a second on ${CONNECTIONS} connections`,
    settings: { workers: WORKERS, connections: CONNECTIONS, rate: RATE, milliseconds },
    workers: WORKERS,
    placement: 'apart',
    figures: latencyFigures('p50', 'p99', 'max'),
    async measure({ target, seed }: Cell): Promise<Measured> {
      const samples = await target.load({
        work: {
          mode: 'keep-alive',
          arrivals: steady({ rate: RATE, milliseconds, seed }),
          connections: CONNECTIONS,
        },
        requests: [get('/', 'keep-alive')],
        timeout: PATIENCE,
      });
      return { samples, figures: measuredLatency(samples) };
    },
  };
}

export const keepalive: Scenario = {
  name: 'keepalive',
  title: 'Many requests on connections that stay',
  shows:
    'What stands between client and worker once a connection is established: nothing, a proxy, or another process.',
  cannotShow:
    'Much about the choice of a worker: it falls once per connection. How the few connections fell on the workers decides how long requests wait for each other, so the spread is wide.',
  core: true,
  variants: (scale) => [saturation(scale), open(scale)],
};
