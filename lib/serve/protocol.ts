/**
 * What a master and its Node workers say to each other, and how a worker is told what it inherits.
 *
 * The messages travel on Node's own IPC channel. Node keeps messages whose `cmd` begins with `NODE_` from the program
 * ('internalMessage' instead of 'message'), and listening for them does not keep the worker alive, so the program's own
 * `process.send()` and `process.on('message')` work as if nobody else used the channel.
 */

/** A listener that a worker inherits: an element of the JSON list in `SPILLWAY_LISTENERS`. */
export interface InheritedListener {
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

/** The first inherited descriptor, by the systemd convention (SD_LISTEN_FDS_START in sd_listen_fds(3)). */
export const FIRST_FD = 3;

/** Variables that are meant for the worker's process alone, and not for children it starts. */
export const PRIVATE_VARIABLES = [
  'SPILLWAY_LISTENERS',
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'LISTEN_PID',
] as const;

const CMD = 'NODE_SPILLWAY';

/** From a worker: what became of the inherited listener, of a listen() elsewhere, or of a connection. */
export type FromWorker =
  | { cmd: typeof CMD; event: 'listening' | 'closed'; fd: number }
  | { cmd: typeof CMD; event: 'elsewhere'; port: number }
  | { cmd: typeof CMD; event: 'accepted' | 'refused'; id: number };

/** To a worker, with the handle of a connection. It answers with `accepted` or `refused`. */
export type ToWorker = { cmd: typeof CMD; event: 'connection'; id: number };

type WithoutCmd<Message> = Message extends { cmd: unknown } ? Omit<Message, 'cmd'> : never;

export function fromWorker(message: WithoutCmd<FromWorker>): FromWorker {
  return { cmd: CMD, ...message } as FromWorker;
}

export function toWorker(message: WithoutCmd<ToWorker>): ToWorker {
  return { cmd: CMD, ...message };
}

/** Whether an internal message is one of ours; others belong to Node. */
export function isOurs(message: unknown): message is FromWorker | ToWorker {
  return (message as { cmd?: unknown } | null)?.cmd === CMD;
}
