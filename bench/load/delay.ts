/**
 * A network with a delay on one machine, for kernels without netem: the interfaces of bench/native/delay.cc, with a
 * process between them that holds every packet for half the round trip.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { SpillwayError } from '../../lib/errors.js';
import { benchProgram } from './program.js';

export interface OpenDelay {
  /** The address of the servers' side, in the namespace of whoever opened it. */
  readonly host: string;
  /** The addresses of the clients' side. */
  readonly sources: readonly string[];
  /** The clients' network namespace, as LoadOrder.network takes it. */
  readonly network: string;
  /**
   * Takes everything down; may be called twice.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_SYSTEM` when the process in between lost packets, or failed: what was measured
   *   with it is void then.
   */
  close(): Promise<void>;
}

/** A network that is set aside for such purposes nowhere, but that a namespace made for a benchmark does not have. */
const NETWORK = '10.83.0';
/** As many as the benchmark uses on loopback. */
const SOURCES = 64;
const NANOSECONDS = 1e6;

/**
 * Opens the network; one at a time in a network namespace. It goes with this process at the latest.
 *
 * @param roundTrip milliseconds from either side to the other and back, 0 to 10,000; some 0.2 ms are added by the way
 *   through the process.
 * @param options.cpu the processor of the process in between, that of the load generator; null: any.
 * @throws {SpillwayError} `ERR_SPILLWAY_SYSTEM`, among others without CAP_NET_ADMIN, CAP_SYS_ADMIN or /dev/net/tun.
 */
export async function openDelay(roundTrip: number, options: { cpu: number | null }): Promise<OpenDelay> {
  if (!(roundTrip >= 0 && roundTrip <= 10_000)) throw new RangeError(`a round trip of ${roundTrip} ms`);
  const host = `${NETWORK}.1`;
  const sources = Array.from({ length: SOURCES }, (_, index) => `${NETWORK}.${index + 2}`);
  const half = Math.round((roundTrip / 2) * NANOSECONDS);
  const child = spawn(
    benchProgram('spillway-bench-delay'),
    [process.pid, options.cpu ?? -1, half, host, ...sources].map(String),
    { stdio: 'pipe' },
  );
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  // It may have ended before it is told to.
  child.stdin.on('error', () => {});
  const ended = once(child, 'close') as Promise<[code: number | null, signal: NodeJS.Signals | null]>;
  const failure = ([code, signal]: Awaited<typeof ended>) =>
    new SpillwayError(
      'ERR_SPILLWAY_SYSTEM',
      `the delay failed: ${errors.trim() || `it ended with ${code ?? signal}`}`,
    );
  const ready = once(child.stdout, 'data').then(() => null);
  const early = await Promise.race([ready, ended]);
  if (early) throw failure(early);
  return {
    host,
    sources,
    network: `/proc/${child.pid}/ns/net`,
    async close() {
      child.stdin.end();
      const end = await ended;
      if (end[0] !== 0) throw failure(end);
    },
  };
}
