/** What the load generator is told to do. */

/** One planned request: `at` in milliseconds since the start of the load, `kind` an index into `requests`. */
export interface Arrivals {
  readonly at: Float64Array;
  readonly kind: Uint8Array;
}

export type Work =
  /** Open loop, a new connection for every request, begun when it is due whatever became of the earlier ones. */
  | { mode: 'connections'; arrivals: Arrivals }
  /**
   * Open loop on connections that stay: request i goes out on connection i modulo `connections` when it is due, and
   * waits, on the clock, while the one before it on that connection is not answered. A connection that breaks is
   * replaced with the next request that is due on it.
   */
  | { mode: 'keep-alive'; arrivals: Arrivals; connections: number }
  /** Closed loop for `milliseconds`: `concurrency` connections at any time, a new one for every request. */
  | { mode: 'closed'; concurrency: number; milliseconds: number; kind: number }
  /**
   * A connection and one request for every arrival, and the connection stays open until `milliseconds` after the start
   * of the load, when all are closed at once.
   */
  | { mode: 'hold'; arrivals: Arrivals; milliseconds: number };

export interface LoadOrder {
  target: { host: string; port: number };
  work: Work;
  /**
   * What is sent, by kind: whole requests, `Connection: close` included where the connection is to be closed. A request
   * that begins with "/" is one of the line protocol of service/program.mjs, everything else is HTTP/1.1.
   */
  requests: readonly string[];
  /** Given up this long after it was due, milliseconds. */
  timeout: number;
  /** Local addresses, numeric, used in turn; empty: the kernel's choice. */
  sources: readonly string[];
  /** The processor the generator is bound to; null: any. */
  cpu: number | null;
  /** A file that stands for the network namespace to send from (/proc/PID/ns/net); null: this process's. */
  network: string | null;
}
