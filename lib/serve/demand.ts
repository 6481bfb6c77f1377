/** How many workers there are to be: a decision, made of what is seen. Pure. */

export interface DemandRules {
  min: number;
  max: number;
  /** Milliseconds for which fewer must have been enough before one is taken away. */
  idleTimeout: number;
}

export interface Look {
  /** Milliseconds of any clock that does not go back. */
  now: number;
  /** Those that serve. */
  workers: readonly {
    /** Connections that it has; undefined where they are not counted. */
    connections: number | undefined;
    /** How many it may have; 0: as many as come. */
    limit: number;
    /** Share of a processor that it has used lately, 0 to 1; undefined while nothing is known. */
    busy: number | undefined;
  }[];
  /** Those that are about to. */
  starting: number;
  /** Connections that nobody had room for since the last look. */
  turnedAway: boolean;
  /** The waiting list: how many, and how many milliseconds the first. */
  waiting: { length: number; age: number };
}

/** What has to be remembered from one look to the next. */
export interface Memory {
  /** Since when fewer would have been enough. */
  calmSince?: number | undefined;
  /** Since when all have had their hands full. */
  fullSince?: number | undefined;
}

export type Change = { workers: number; why: string };

export interface Decision {
  /** Undefined: it stays as it is. */
  change?: Change | undefined;
  memory: Memory;
}

/** Of its connections, or of a processor: at which a worker has its hands full. */
const FULL = 0.9;
/** What all may have to do, on the average of one fewer, for fewer to be enough: far enough below for it to stay so. */
const ENOUGH = 0.6;
/** Milliseconds that all must have had their hands full. */
const FULL_FOR = 2000;

/** @param before what the last decision gave. */
export function decide(rules: DemandRules, look: Look, before: Memory): Decision {
  const { now, workers, starting, turnedAway, waiting } = look;
  const there = workers.length + starting;
  const isWanted = turnedAway || waiting.length > 0;
  const fullSince = isFull(look) ? (before.fullSince ?? now) : undefined;
  const calmSince =
    !isWanted && starting === 0 && oneFewerWouldDo(look) ? (before.calmSince ?? now) : undefined;
  const memory = { calmSince, fullSince };

  if (there < rules.min)
    return { change: { workers: rules.min, why: `there are to be ${rules.min}` }, memory };
  if (there < rules.max) {
    if (isWanted) {
      // Those that are starting are for those that wait already.
      const more = Math.min(needed(look) - starting, rules.max - there);
      if (more > 0) return { change: { workers: there + more, why: whyWanted(look) }, memory };
    } else if (starting === 0 && fullSince !== undefined && now - fullSince >= FULL_FOR) {
      const why = `all ${workers.length} have had their hands full for ${Math.round((now - fullSince) / 1000)} s`;
      return { change: { workers: there + 1, why }, memory: { ...memory, fullSince: undefined } };
    }
  }
  if (there > rules.min && calmSince !== undefined && now - calmSince >= rules.idleTimeout) {
    const why = `${there - 1} would have been enough for ${Math.round((now - calmSince) / 1000)} s`;
    // For the next one the time begins anew.
    return { change: { workers: there - 1, why }, memory: { ...memory, calmSince: undefined } };
  }
  return { memory };
}

/** As many as it takes to give everybody who waits a place at once. */
function needed({ workers, waiting }: Look): number {
  const limit = Math.max(0, ...workers.map((worker) => worker.limit));
  return limit === 0 ? 1 : Math.max(1, Math.ceil(waiting.length / limit));
}

function whyWanted({ waiting }: Look): string {
  if (waiting.length === 0) return 'nobody had room';
  return waiting.length === 1
    ? `one waits, for ${Math.round(waiting.age)} ms`
    : `${waiting.length} wait, the first for ${Math.round(waiting.age)} ms`;
}

/** The larger one of what a worker has of its connections and of a processor; undefined where neither is known. */
function fillOf({ connections, limit, busy }: Look['workers'][number]): number | undefined {
  const share = connections !== undefined && limit > 0 ? connections / limit : undefined;
  if (share === undefined) return busy;
  return Math.max(share, busy ?? 0);
}

function isFull({ workers }: Look): boolean {
  return workers.length > 0 && workers.every((worker) => (fillOf(worker) ?? 0) >= FULL);
}

function oneFewerWouldDo({ workers }: Look): boolean {
  if (workers.length < 2) return false;
  const fills = workers.map(fillOf);
  // Of whom nothing is known, nothing is concluded.
  if (fills.some((fill) => fill === undefined)) return false;
  return fills.reduce<number>((sum, fill) => sum + (fill ?? 0), 0) <= ENOUGH * (workers.length - 1);
}
