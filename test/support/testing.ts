import bindings from 'bindings';
import { packageRoot } from '../../lib/native.js';

/** Where clients connect to. `address` is numeric. */
export interface Target {
  address: string;
  port: number;
  family: 4 | 6;
}

/**
 * `inProgress`: no answer yet; `ended`: the peer sent its FIN; `closed`: over, and the reason was told before; otherwise
 * the name of the error, such as `ECONNREFUSED`.
 */
export type ClientState = 'established' | 'inProgress' | 'ended' | 'closed' | (string & {});

export interface ListenerOptions extends Target {
  /** Default `tcp`. */
  type?: 'tcp' | 'udp';
  /** Default false. */
  reusePort?: boolean;
  /** Without it the socket is bound, but does not listen. */
  backlog?: number;
  /** The user the socket shall belong to; default the caller. */
  uid?: number;
}

/** The addon that only tests and benchmarks load (native/testing). All of it is synchronous, nothing blocks. */
export interface Testing {
  /**
   * Moves the calling thread, and every thread and process it starts afterwards, into a new network namespace with
   * the loopback interface up. Needs CAP_SYS_ADMIN.
   */
  unshareNetwork(): void;
  /** Gives an interface of the namespace one more address. */
  addIpv6Address(device: string, address: string): void;
  /**
   * Starts `count` connections in a row, without a pause for JavaScript between them, and tells what became of each.
   * On loopback the whole handshake happens in here. The descriptors are the caller's; with `hold: false` they are
   * closed by an RST and −1.
   */
  connectMany(options: Target & { count: number; hold?: boolean }): { fd: number; state: ClientState }[];
  pollEstablished(fds: readonly number[]): ClientState[];
  /** How many segments these sockets had to send again, SYNs included. */
  retransmissions(fds: readonly number[]): number;
  /** Closes with an RST instead of a FIN: no TIME-WAIT is left. */
  closeMany(fds: readonly number[]): void;
  /** Nanoseconds for `count` times connecting and closing by RST. Nobody needs to accept; the queue must have room. */
  timeConnections(options: Target & { count: number }): number;
  /** A bound and perhaps listening socket; the descriptor is the caller's. */
  openListener(options: ListenerOptions): number;
  /** Takes what is queued by now, at most `most`; the descriptors are the caller's. */
  acceptMany(listener: number, most?: number): number[];
  /**
   * Attaches a BPF program that does nothing to the listener's reuseport group; the kernel goes on choosing by its hash.
   * The descriptor of the program is the caller's: its runs, when they are accounted, are in /proc/self/fdinfo.
   */
  attachEmptyProgram(listener: number): number;
  send(fd: number, text: string): void;
  /** What has arrived by now. */
  receive(fd: number): { text: string; ended: boolean; error?: string };
  duplicate(fd: number): number;
  /** listen(2): called on a listener it changes the backlog. */
  listen(fd: number, backlog: number): void;
  /** shutdown(2) of the receiving side: a listener stops listening. */
  shutdown(fd: number): void;
  /** Nanoseconds that the scheduler gives the first thread of a process at a time; 0: it is not scheduled that way. */
  sliceOf(process: number): number;
}

let loaded: Testing | undefined;

export function testing(): Testing {
  loaded ??= bindings({ bindings: 'spillway_testing', module_root: packageRoot }) as Testing;
  return loaded;
}
