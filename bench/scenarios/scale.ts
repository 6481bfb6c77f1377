import { closeSync } from 'node:fs';
import { native } from '../../lib/native.js';
import { sampleAccounting } from '../decision/accounting.js';
import { sampleConnections } from '../decision/connection.js';
import { accountRunTime } from '../decision/decision.js';
import { POLICIES, Stage } from '../decision/stage.js';
import type { FigureSpec } from '../report/schema.js';
import type { BareVariant, Scale, Scenario } from './scenario.js';

const SIZES = [2, 8, 64, 256, 1024];
const QUICK_SIZES = [2, 256];
const AMOUNTS = {
  full: {
    decisions: { parts: 6, runs: 512, warmUp: 512 },
    connections: { turns: 8, connections: 2048 },
  },
  quick: {
    decisions: { parts: 3, runs: 256, warmUp: 256 },
    connections: { turns: 3, connections: 512 },
  },
} as const;
/** The policy that is in force when nothing is asked for (docs/options.md). */
const DEFAULT = 'idle-first';
/** Below the ports of the services. */
const PORT = 10_000;

const FIGURES: readonly FigureSpec[] = [
  { name: 'decision', title: 'a decision', unit: 'ns', better: null, leading: true },
  { name: 'connection', title: 'a whole connection', unit: 'ns', better: 'lower', leading: true },
];

function sized(sockets: number): BareVariant {
  return {
    id: `sockets-${sockets}`,
    title: `${sockets} sockets, all with room`,
    settings: { sockets },
    figures: FIGURES,
    async measureAll(round: number, scale: Scale) {
      const amount = AMOUNTS[scale];
      const connections = await sampleConnections(sockets, amount.connections, round);
      const results: Record<string, Record<string, number | null>> = {
        reuseport: { decision: null, connection: connections.none },
      };
      for (const [policy, nanoseconds] of await decisions(sockets, amount.decisions)) {
        const name = policy === DEFAULT ? 'spillway' : `spillway:${policy}`;
        results[name] = { decision: nanoseconds, connection: connections[policy] };
      }
      return results;
    },
  };
}

/** Nanoseconds per decision without what the accounting itself costs, by policy. */
async function decisions(sockets: number, amount: { parts: number; runs: number; warmUp: number }) {
  const account = accountRunTime();
  try {
    const accounting = sampleAccounting(PORT, amount);
    const stage = await Stage.open({
      sockets,
      state: 'free',
      readBy: native().kernelHasCast() ? 'cast' : 'probe',
      port: PORT + 1,
    });
    try {
      return POLICIES.map((policy) => {
        const { nanoseconds } = stage.sample(policy, amount, amount.warmUp);
        return [policy, nanoseconds - accounting] as const;
      });
    } finally {
      stage.close();
    }
  } finally {
    closeSync(account);
  }
}

export const scale: Scenario = {
  name: 'scale',
  title: 'From 2 to 1,024 sockets',
  shows:
    "What one decision costs in the kernel (its own accounting, without what that costs itself), and what a whole connection costs with it and with the kernel's own hash, by the number of sockets in the group.",
  cannotShow:
    'What workers would do: no program serves here, connections are accepted and closed in one thread. States in which queues are full are in "decision".',
  core: true,
  variants: (scale) => (scale === 'quick' ? QUICK_SIZES : SIZES).map(sized),
};
