/**
 * What a master and its workers say to each other, and how a worker is told what it inherits.
 *
 * Messages travel on Node's own IPC channel. Node keeps messages whose `cmd` begins with `NODE_` from the program
 * ('internalMessage' instead of 'message'), and listening for them does not keep the worker alive, so the program's own
 * `process.send()` and `process.on('message')` work as if nobody else used the channel.
 *
 * What a worker has to know before it can go on is asked on a Unix socket of the master's, and waited for: one
 * connection per question, a JSON text each way, the answer perhaps with a descriptor (SCM_RIGHTS).
 */

/** A listener of a worker's slot. */
export interface InheritedListener {
  /** The master's number for the port. */
  id: number;
  /** The descriptor in the worker. */
  fd: number;
  /** The bound address, numeric. */
  address: string;
  family: 4 | 6;
  port: number;
  /** The host the master was asked for, if any. */
  host?: string;
  /** Whether an IPv6 listener leaves IPv4 alone. */
  v6Only: boolean;
}

/** What the variable `SPILLWAY_WORKER` tells a worker's preload, as JSON. */
export interface WorkerStart {
  slot: number;
  /** Process id of the master: the worker asks nobody else. They share a process id namespace. */
  master: number;
  /** Whether it outlives its master: the next one goes on with it. Otherwise it ends with it. */
  kept: boolean;
  /** Where the master answers questions, by the name of an abstract Unix socket: `@` and the name (unix(7)). */
  desk: string;
  /** The memory in which the worker notes that its event loop turns (native/hints.h). */
  hints: number;
  /** The descriptor of the channel on which it is asked to help others (native/help.h). */
  help: number;
  listeners: InheritedListener[];
}

/** The first inherited descriptor, by the systemd convention (SD_LISTEN_FDS_START in sd_listen_fds(3)). */
export const FIRST_FD = 3;

/** Variables that are meant for the worker's process alone, and not for children it starts. */
export const PRIVATE_VARIABLES = ['SPILLWAY_WORKER', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PID'] as const;

const CMD = 'NODE_SPILLWAY';

/** Why a worker is asked to finish what it has: `stop` also lets idle connections go at once. */
export type DrainReason = 'reload' | 'scale' | 'replace' | 'stop';

/** From a worker. */
export type FromWorker =
  /**
   * A server listens on the port of that id, or has been closed. A listener that the master has given, and not one that
   * was inherited, is named by its grant as well, and is the worker's no more when it is closed, whether or not a server
   * had listened on it.
   */
  | { cmd: typeof CMD; event: 'listening' | 'closed'; id: number; grant?: number }
  /** listen() went to the kernel itself: what the master was not asked for, or refused. */
  | { cmd: typeof CMD; event: 'elsewhere'; port: number }
  /** What became of a connection that was handed over. */
  | { cmd: typeof CMD; event: 'accepted' | 'refused'; connection: number }
  /** The program has called `worker.ready()`. */
  | { cmd: typeof CMD; event: 'ready' }
  /** Asked to drain, it has no connection left on any inherited listener, and no onDrain() of the program runs. */
  | { cmd: typeof CMD; event: 'drained' }
  /** To a new master: everything of the above that holds now. */
  | {
      cmd: typeof CMD;
      event: 'state';
      listening: { id: number; grant?: number }[];
      ready: boolean;
      drained: boolean;
    };

/** To a worker. */
export type ToWorker =
  /** With the handle of a connection to the port of that id. It answers with `accepted` or `refused`. */
  | { cmd: typeof CMD; event: 'connection'; connection: number; id: number }
  /** Take no new connections, finish those there are; whatever is left after `limit` milliseconds is closed. */
  | { cmd: typeof CMD; event: 'drain'; reason: DrainReason; limit: number }
  /** New TLS session ticket keys, base64 (48 bytes). */
  | { cmd: typeof CMD; event: 'ticketKeys'; keys: string }
  /** The master is another process now; the worker tells it its state. */
  | { cmd: typeof CMD; event: 'master'; pid: number };

type WithoutCmd<Message> = Message extends { cmd: unknown } ? Omit<Message, 'cmd'> : never;

export function fromWorker(message: WithoutCmd<FromWorker>): FromWorker {
  return { cmd: CMD, ...message } as FromWorker;
}

export function toWorker(message: WithoutCmd<ToWorker>): ToWorker {
  return { cmd: CMD, ...message } as ToWorker;
}

/** Whether an internal message is one of ours; others belong to Node. */
export function isOurs(message: unknown): message is FromWorker | ToWorker {
  return (message as { cmd?: unknown } | null)?.cmd === CMD;
}

/** What a worker asks at the master's desk. */
export type Question =
  /**
   * The slot's listener on an address that was not declared. `nth` tells the listeners on port 0 of this address apart
   * that the process has at a time: equal ones get the same port in every worker.
   */
  | { ask: 'listener'; address: string; family: 4 | 6; port: number; v6Only: boolean; nth: number }
  | { ask: 'ticketKeys' };

export type Answer =
  /**
   * The descriptor comes with it. Every answer has a grant number of its own: questions and messages travel apart, and
   * `closed` may come after the answer by which the worker has the same port again.
   */
  | { listener: Omit<InheritedListener, 'fd'>; grant: number }
  | { ticketKeys: string }
  /** As the system call of the program itself would have failed. `advice` is for whoever reads the program's error. */
  | { error: { code: string; message: string; errno?: number; syscall?: string; advice?: string } };
