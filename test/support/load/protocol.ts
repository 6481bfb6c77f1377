/** What a test and its load program say to each other, and what is counted. */

/** What can become of a request; every request is counted under exactly one of them. */
export const OUTCOMES = [
  /** A whole response of status 200 came. */
  'answered',
  /** Nobody listened: ECONNREFUSED. */
  'refused',
  /** The connection ended, by whichever side's fault, before the request was written to it. */
  'resetBefore',
  /** The connection was reset after the request had been written and before the response was whole. */
  'resetAfter',
  /** The connection was ended in good order before the response was whole. */
  'cut',
  /**
   * A connection that had answered before ended, by FIN or RST, before the first byte of this response: perhaps the
   * server closed the idle connection while the request was leaving. Whether it was so, only the server knows.
   */
  'idleRace',
  /** HTTP/2: the server has said, by GOAWAY or REFUSED_STREAM, that it did not begin with this request. */
  'unprocessed',
  /** HTTP/2: a GOAWAY came before the request had left; nobody but the client knows of it. */
  'unsent',
  /** Nothing of the above within the time limit. */
  'timedOut',
  /** A response, but no good one: another status, or not HTTP. */
  'wrong',
  /** An error that none of the above describes; the record names it. */
  'other',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Times are milliseconds of CLOCK_MONOTONIC, as `process.hrtime()` tells it in every process of the machine. */
export interface RequestRecord {
  /** The header `x-request` of the request: the load's name, a dash, a number from 0. */
  id: string;
  outcome: Outcome;
  /** Code of the error behind an outcome other than `answered`. */
  error?: string;
  /** The client's port; 0 while there was no connection. */
  port: number;
  /** Whether the connection had carried a request before. */
  reused: boolean;
  started: number;
  /** When the connection was there; undefined if it never was. The same as `started` on a reused one. */
  connected?: number;
  ended: number;
  /** Who answered. */
  pid?: number;
  slot?: string;
}

/** What happened to connections while no request was on them. */
export interface ConnectionCounts {
  opened: number;
  /** Ended by the server with a FIN while idle, or with a response that said so. */
  ended: number;
  /** Reset by the server while idle. */
  reset: number;
}

export interface LoadOptions {
  /** Begins the id of every request; loads that run at one time need different ones. Default: `load`. */
  name?: string;
  host?: string;
  port: number;
  /** `per-request`: a new connection for each; `keep-alive`: as many as `connections` says, again and again. */
  mode: 'per-request' | 'keep-alive';
  /** `h2c` and `h2` (over TLS) are HTTP/2 and need `keep-alive`. Default: `http`. */
  protocol?: 'http' | 'https' | 'h2c' | 'h2';
  /** Requests per second, evenly spread. */
  rate: number;
  /** Connections of `keep-alive`. Default: 16. */
  connections?: number;
  path?: string;
  /** Milliseconds from a request's start until it is given up. Default: 5000. */
  timeout?: number;
  /** Loopback addresses that the clients take in turn. Default: the system's choice. */
  sources?: readonly string[];
}

export type Filled = Required<LoadOptions>;

export type ToLoad = { event: 'start'; options: Filled } | { event: 'stop' };

export type FromLoad =
  /** Sent some ten times a second. */
  | { event: 'progress'; sent: number; answered: number; failed: number }
  | { event: 'done'; records: RequestRecord[]; connections: ConnectionCounts; skipped: number };

/** Now, on the clock that records use. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
