/**
 * What the load generator saw: one sample per request, in columns. Everything that a report says about a service is
 * computed from these; the generator itself judges nothing.
 */

/** How a request ended. The order is that of the generator's file (bench/native/load.cc). */
export const OUTCOMES = [
  /** Answered in full, with status 200. */
  'ok',
  /** ECONNREFUSED: an RST to the SYN. */
  'refused',
  /** An RST or an end of the connection after it was established and before the answer was complete. */
  'reset',
  /** Not established within the time limit: its SYN was dropped, or nobody took the handshake on. */
  'connect-timeout',
  /** Established and sent, and not answered in full within the time limit. */
  'unanswered',
  /** Another answer than expected, such as 502 or 503 of a proxy. */
  'bad-answer',
  /** It could not be tried: the generator itself failed (no port, no descriptor). Never the service's fault. */
  'not-sent',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** One entry per request in every column. Times are milliseconds; NaN where it did not come to that. */
export interface Samples {
  readonly count: number;
  /** When the request was due, since the start of the load; in a closed loop, when it was begun. */
  readonly due: Float64Array;
  /**
   * The rest is counted from `due`. When the generator came to it: its own lateness. On a connection that stays, the
   * request may have to wait for the one before it after that.
   */
  readonly begun: Float64Array;
  /** The connection was established; 0 on a connection that was open already. */
  readonly connected: Float64Array;
  /** The first byte of the answer. */
  readonly firstByte: Float64Array;
  /** The answer was complete, or the request was given up or failed. */
  readonly ended: Float64Array;
  /** Index into OUTCOMES. */
  readonly outcome: Uint8Array;
  /** Index into the order's `requests`. */
  readonly kind: Uint8Array;
  /** Index into `workers`; 65535 where nobody answered. */
  readonly worker: Uint16Array;
  /** The names that the workers gave themselves in their answers. */
  readonly workers: readonly string[];
  /** Processor time of the generator over the time it ran, 0 to 1: near 1, it was the generator that was measured. */
  readonly generatorBusy: number;
}
