/** The micro benchmark of the selector: what one decision costs, and what it is beside a whole connection. */
import { closeSync } from 'node:fs';
import { systemError } from '../../lib/errors.js';
import { native } from '../../lib/native.js';
import { type Environment, readEnvironment } from '../method/environment.js';
import { enterOwnNetwork } from '../method/network.js';
import { type Figure, figure, mean, rotated } from '../method/statistics.js';
import { sampleAccounting } from './accounting.js';
import { type ConnectionAmount, RIVALS, type Rival, sampleConnections } from './connection.js';
import {
  type Amount,
  isSameAsAnother,
  POLICIES,
  type Policy,
  type ReadBy,
  type Sample,
  STATES,
  Stage,
  type State,
} from './stage.js';

export interface DecisionOptions {
  quick: boolean;
  rounds: number;
  /** Sizes of the groups whose decisions are measured. */
  sockets: number[];
  readBy: ReadBy[];
  /** Sizes of the groups that whole connections are made to; may be empty. */
  connectionSockets: number[];
}

/** One measured configuration. All times are nanoseconds. */
export interface DecisionRow {
  sockets: number;
  policy: Policy;
  state: State;
  readBy: ReadBy;
  /** Per decision, the accounting included. */
  nanoseconds: Figure;
  /** Shares of the decisions, 0 to 1, over all rounds. */
  redirected: number;
  dropped: number;
}

export interface ConnectionRow {
  sockets: number;
  rival: Rival;
  nanoseconds: Figure;
  /** To `none` in the same round; 1 for `none` itself. */
  ratio: Figure;
}

/** What `--json` writes; described in README.md. */
export interface DecisionReport {
  schema: 'spillway-bench-decision/1';
  environment: Environment;
  options: DecisionOptions & { decisions: Amount & { warmUp: number }; connections: ConnectionAmount };
  accounting: Figure;
  decisions: DecisionRow[];
  connections: ConnectionRow[];
}

const AMOUNTS = {
  full: {
    decisions: { parts: 8, runs: 512, warmUp: 512 },
    connections: { turns: 12, connections: 2048 },
  },
  quick: {
    decisions: { parts: 4, runs: 512, warmUp: 256 },
    connections: { turns: 6, connections: 1024 },
  },
} as const;

/** The first port of the stages; all of them lie below the ports that clients get. */
const FIRST_PORT = 10_000;

/** Tells how far the benchmark is: 0 to 1. */
export type Progress = (done: number) => void;

/**
 * Moves the calling thread into a network namespace of its own for good.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_PERMISSION`, `ERR_SPILLWAY_SELECTOR_UNAVAILABLE` where the kernel refuses.
 */
export async function benchDecision(options: DecisionOptions, progress: Progress): Promise<DecisionReport> {
  const environment = readEnvironment();
  const amounts = AMOUNTS[options.quick ? 'quick' : 'full'];
  enterOwnNetwork();
  const stages = stagesOf(options);
  const measured = new Map(stages.map((stage) => [stage.key, new Measured(stage)]));
  const accounting: number[] = [];
  const connections = new Map(
    options.connectionSockets.map((sockets) => [sockets, [] as Record<Rival, number>[]]),
  );
  for (let round = 0; round < options.rounds; round++) {
    const account = accountRunTime();
    try {
      accounting.push(sampleAccounting(FIRST_PORT, amounts.decisions));
      const order = rotated(stages, Math.floor((round * stages.length) / options.rounds));
      for (const [index, stage] of order.entries()) {
        await measured.get(stage.key)?.measure(round, amounts.decisions);
        progress((round + (index + 1) / (stages.length + 1)) / options.rounds);
      }
    } finally {
      closeSync(account);
    }
    for (const sockets of rotated(options.connectionSockets, round)) {
      connections.get(sockets)?.push(await sampleConnections(sockets, amounts.connections, round));
    }
    progress((round + 1) / options.rounds);
  }
  return {
    schema: 'spillway-bench-decision/1',
    environment,
    options: { ...options, ...amounts },
    accounting: figure(accounting),
    decisions: [...measured.values()].flatMap((each) => each.rows()),
    connections: [...connections].flatMap(([sockets, rounds]) => connectionRows(sockets, rounds)),
  };
}

/**
 * The kernel counts the runs of BPF programs and their time until the descriptor that is returned is closed.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_PERMISSION` without CAP_SYS_ADMIN.
 */
export function accountRunTime(): number {
  try {
    return native().accountRunTime();
  } catch (error) {
    throw notAllowed('the kernel does not account the run time of BPF programs', error);
  }
}

function notAllowed(what: string, error: unknown): Error {
  const { code } = error as { code?: string };
  if (code !== 'EPERM') return systemError('ERR_SPILLWAY_SYSTEM', what, error);
  return systemError(
    'ERR_SPILLWAY_PERMISSION',
    what,
    error,
    'Run the benchmark as root: it needs CAP_SYS_ADMIN, CAP_BPF and CAP_PERFMON.',
  );
}

interface StageName {
  key: string;
  sockets: number;
  state: State;
  readBy: ReadBy;
  port: number;
}

/** Every stage has a port of its own, so that nothing of the one before can reach it. */
function stagesOf({ sockets, readBy }: DecisionOptions): StageName[] {
  const stages: StageName[] = [];
  for (const reads of readBy) {
    for (const state of STATES) {
      for (const size of sockets) {
        if (isSameAsAnother(state, size)) continue;
        const key = `${reads} ${state} ${size}`;
        stages.push({ key, sockets: size, state, readBy: reads, port: FIRST_PORT + 1 + stages.length });
      }
    }
  }
  return stages;
}

/** All samples of one stage. It is built anew in every round: where its sockets lie in memory is part of the spread. */
class Measured {
  readonly #stage: StageName;
  readonly #samples = new Map<Policy, Sample[]>(POLICIES.map((policy) => [policy, []]));

  constructor(stage: StageName) {
    this.#stage = stage;
  }

  async measure(round: number, amount: Amount & { warmUp: number }): Promise<void> {
    const stage = await Stage.open(this.#stage);
    try {
      for (const policy of rotated(POLICIES, round)) {
        this.#samples.get(policy)?.push(stage.sample(policy, amount, amount.warmUp));
      }
    } finally {
      stage.close();
    }
  }

  rows(): DecisionRow[] {
    const { sockets, state, readBy } = this.#stage;
    return [...this.#samples].map(([policy, samples]) => ({
      sockets,
      policy,
      state,
      readBy,
      nanoseconds: figure(samples.map(({ nanoseconds }) => nanoseconds)),
      redirected: mean(samples.map(({ redirected }) => redirected)),
      dropped: mean(samples.map(({ dropped }) => dropped)),
    }));
  }
}

function connectionRows(sockets: number, rounds: readonly Record<Rival, number>[]): ConnectionRow[] {
  return RIVALS.map((rival) => ({
    sockets,
    rival,
    nanoseconds: figure(rounds.map((round) => round[rival])),
    ratio: figure(rounds.map((round) => round[rival] / round.none)),
  }));
}
