/** What the demo and its load program say to each other. */

/** Starts sending, or with `null` stops; what is under way is still waited for. */
export interface LoadOrder {
  /** Orders are numbered, so that a report can say which one it knows of. */
  number: number;
  send: { host: string; port: number; rate: number } | null;
}

/** Sums since the load program was started. Every request that was sent ends in exactly one of the others. */
export interface LoadCounts {
  sent: number;
  answered: number;
  /** Refused, reset, or answered with nonsense. */
  failed: number;
  timedOut: number;
  /** Were due, but too many were under way already. */
  skipped: number;
  /** Answers by the worker that names itself in `x-worker`. */
  byWorker: Record<string, number>;
}

export interface LoadReport {
  /** The last order that was carried out. */
  order: number;
  counts: LoadCounts;
  /** Requests without an answer so far. */
  underWay: number;
}

export function noCounts(): LoadCounts {
  return { sent: 0, answered: 0, failed: 0, timedOut: 0, skipped: 0, byWorker: {} };
}
