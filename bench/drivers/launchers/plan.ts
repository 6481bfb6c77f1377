/** What the keeper is told to keep alive. */
export interface KeeperPlan {
  /** The program, for the Node that runs the keeper. */
  program: string;
  /** One worker for every entry: variables that it gets beside the keeper's own. */
  workers: Readonly<Record<string, string>>[];
  /** Every worker gets a socket of its own on this IPv4 address, with SO_REUSEPORT; null: it opens its own. */
  share: { host: string; port: number } | null;
  /**
   * How workers are replaced: true: the new one listens before the old one is asked to end, so they must be able to
   * share their address; false: after the old one has gone.
   */
  ahead: boolean;
  /**
   * A command that is started when the workers listen, runs in the foreground, and listens on this port itself; when it
   * ends, the service has failed.
   */
  front: { command: readonly [string, ...string[]]; port: number } | null;
}
