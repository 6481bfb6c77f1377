/**
 * What the benchmark knows about a rival: how to start a service of several workers with it, and how to end it.
 *
 * Every driver starts the same program (service/program.mjs) with the same number of workers and the same backlog, and
 * leaves everything else at what its own documentation recommends.
 */

/** Whether a driver can run on this machine. */
export type Found =
  /** `version`: of the product, such as "pm2 7.0.4" or "Node 24.21.0". */
  | { version: string }
  /** Why not, and what to type to get it; printed in every report. */
  | { missing: string };

/** As reports have it: the version, or why it is missing. */
export function toldOf(found: Found): { version: string | null; missing: string | null } {
  return 'version' in found
    ? { version: found.version, missing: null }
    : { version: null, missing: found.missing };
}

/** What a driver has to start. */
export interface ServiceOrder {
  /** Workers that serve, 1 to 64; not more than the driver's `mostWorkers`. */
  workers: number;
  /** The address to listen on, numeric IPv4. */
  host: string;
  port: number;
  /** As in listen(2), for every listener. */
  backlog: number;
  /** The processors everything of the service may run on. */
  cpus: readonly number[];
  /** Variables that the program needs, in every worker; see service/program.mjs. */
  env: Readonly<Record<string, string>>;
  /** An empty folder for files of the driver's own; whoever ordered the service removes it. */
  folder: string;
}

/** A service that was started. */
export interface Service {
  /**
   * The process at the top: with its descendants it is the whole service, whose memory and processor time are
   * counted.
   */
  readonly pid: number;
  /**
   * Whether that process is a launcher of the benchmark's, which stands in for a supervisor that people have anyway
   * (systemd): what it uses is not the rival's then.
   */
  readonly rootIsOurs?: true;
  /** Replaces every worker by a new one in the way that the product offers; null: it offers none. */
  readonly reload: (() => Promise<void>) | null;
  /** Ends everything, gently at first; resolves when no process of the service is left. */
  stop(): Promise<void>;
}

export interface Driver {
  /** As `--driver` takes it: lower case, digits and `-`; a variant behind a colon ("spillway:least-queue"). */
  readonly name: string;
  /** For tables. */
  readonly title: string;
  /** What takes a connection: a process of its own, a thread, or processes behind a proxy. */
  readonly workersAre: 'processes' | 'threads' | 'processes behind a proxy';
  /** One sentence: how the connections come to the workers. */
  readonly about: string;
  /** The most workers that it can have; absent: as many as are asked for. */
  readonly mostWorkers?: number;
  find(): Promise<Found>;
  /**
   * Resolves when everything is spawned; that the workers listen is seen by whoever ordered it (the desk). Rejects,
   * with the output of what failed, when it could not; nothing is left then.
   */
  start(order: ServiceOrder): Promise<Service>;
}
