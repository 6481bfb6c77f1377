/**
 * The only door to the addon. Everything native is reached through {@link native}; nothing else loads the binary.
 *
 * The native side takes normalised scalars and has no defaults: validation belongs to the callers. Its errors are
 * `Error`s with `code` ("EADDRINUSE"), `errno` (negative), `syscall` and sometimes `detail`.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import bindings from 'bindings';
import { SpillwayError } from './errors.js';

/** An address a listener is bound to. `address` is numeric, IPv6 without brackets. */
export interface Endpoint {
  address: string;
  family: 4 | 6;
  port: number;
}

/** What an operating-system error thrown by the addon carries. */
export interface NativeError extends Error {
  code: string;
  errno: number;
  syscall: string;
  detail?: string;
}

/** One open TCP socket, owned by this object: closed by `close()`, at the latest when the environment ends. */
export interface NativeSocket {
  /** The descriptor; −1 after `close()`. It stays the object's: do not close it. */
  readonly fd: number;
  bind(address: string, port: number, family: 4 | 6): void;
  /** Starts listening; called again it changes the backlog only. */
  listen(backlog: number): void;
  /** Stops listening; the kernel moves the queue to the siblings when the group's program lets it. */
  shutdown(): void;
  localEndpoint(): Endpoint;
  getInt(level: number, name: number): number;
  setInt(level: number, name: number, value: number): void;
  getText(level: number, name: number): string;
  setText(level: number, name: number, value: string): void;
  /** Length and limit of the accept queue (TCP_INFO); undefined when the socket does not listen. Needs no privilege. */
  acceptQueue(): { length: number; limit: number } | undefined;
  /** What the kernel dropped at this socket by itself, modulo 2³² (SO_MEMINFO). */
  drops(): number;
  /**
   * From now on peers of this family within the prefix must sign every segment with the key, of 1 to 80 bytes
   * (TCP_MD5SIG_EXT): the kernel drops what is not signed, a SYN too, without an answer. Connections that are there
   * already are not affected. IPv4 peers of an IPv6 socket are a prefix of `::ffff:0.0.0.0`, as long as without the
   * mapping. Needs no privilege, but a kernel with CONFIG_TCP_MD5SIG (ENOPROTOOPT without it).
   */
  setSignatureKey(address: string, family: 4 | 6, prefixLength: number, key: Uint8Array): void;
  /** The next queued connection's descriptor, the caller's from then on; −1 when nobody waits. */
  accept(): number;
  /** Attaches a classic BPF program to the socket's reuseport group: two words per instruction (code<<16|jt<<8|jf, k). */
  attachClassic(program: Uint32Array): void;
  /** Takes any program off the socket's reuseport group. */
  detachProgram(): void;
  /** Gives up the ownership: the descriptor is the caller's from then on, and the object is as good as closed. */
  release(): number;
  close(): void;
}

/** A TCP socket that the kernel lists. */
export interface ListedSocket {
  /** 0 for a half-open connection, which has no file. */
  inode: number;
  /** The owner of a listener. */
  uid: number;
  /** Remote address and port the way /proc/net/tcp writes them; equal for one and the same peer. */
  peer: string;
}

/** A row of the selector's `slots` map, without the address that the addon finds itself. */
export interface SlotRow {
  limit: number;
  weight: number;
  flags: number;
  address: number;
  /** Row of the hints' map that the slot's worker writes, plus one; 0: none. */
  hints: number;
  /** Row of `admissions` of whoever is given what comes; 0: connections are not counted. */
  instance: number;
}

/** What an instance of a worker has. */
export interface Admission {
  /** Connections. */
  open: number;
  /** Places that are promised to connections to come. */
  promised: number;
}

/** The BPF objects of one group (native/selector.h). Needs CAP_BPF and CAP_PERFMON, for `sockmap` CAP_NET_ADMIN too. */
export interface NativeSelector {
  setConfig(config: {
    slots: number;
    policy: number;
    overflow: number;
    migrate: number;
    rankByYoung: number;
    equal: number;
    rescue: number;
    /** Microseconds. */
    tick: number;
    /** Microseconds. */
    fresh: number;
    /** 1: each connection is promised a place among those its worker may have. */
    reserve: number;
    /** 1: nobody is given a connection before he has accepted the one before. */
    exclusive: number;
    /** Connections in the waiting list, less one. */
    waitingLimit: number;
    /** Milliseconds in the waiting list; 0: for ever. */
    patience: number;
    /** 1: of each connection it is kept whose it is. */
    track: number;
  }): void;
  setSlot(slot: number, socket: NativeSocket, row: SlotRow): void;
  updateSlot(slot: number, row: SlotRow): void;
  /** Another worker has the slot's listener: nothing is known of it yet. */
  forgetWorker(slot: number): void;
  clearSlot(slot: number): void;
  /** Rows of the alias table: threshold and alias in turn. */
  setChoices(choices: Uint32Array): void;
  /** For each CPU, where its part of `slots` begins and how long it is, in turn. */
  setCpus(cpus: Uint32Array, slots: Uint32Array): void;
  /** The slot of each of SPILLWAY_BUCKETS buckets of client addresses. */
  setBuckets(slots: Uint32Array): void;
  /**
   * From now on connections are counted that come to listeners which are tagged, or put into a slot with an instance. Called
   * again it does nothing.
   */
  countLive(): void;
  /** What comes to this listener from now on is that instance's. `untag()` is for one that is about to be closed. */
  tag(socket: NativeSocket, instance: number): void;
  untag(socket: NativeSocket): void;
  /** Rows of `admissions`; the first one is the waiting list's. */
  readonly instances: number;
  /** Another one's from now on, with so many connections at most; 0: no limit. */
  clearAdmission(instance: number, limit: number): void;
  setLimit(instance: number, limit: number): void;
  admission(instance: number): Admission;
  /** The socket by which a worker of that instance asks for places. Both descriptors are the caller's. */
  openClaims(instance: number): { sender: number; receiver: number; key: number };
  /** To be called when the worker is gone. */
  endClaims(key: number): void;
  /** The listener whose queue is the waiting list; in force with the next `setConfig()`, as is its end. */
  setWaiting(socket: NativeSocket): void;
  clearWaiting(): void;
  /** What has to be kept for another selector to go on with, by name; the descriptors stay this one's. */
  parts(): Record<string, number>;
  /** The ring of orders (struct spillway_order); it stays the selector's. −1 after `close()`. */
  readonly orders: number;
  /** Makes the socket discard every segment that reaches it, without an answer. */
  discardEverything(socket: NativeSocket): void;
  setSink(socket: NativeSocket): void;
  attach(socket: NativeSocket): void;
  /** struct spillway_counters, summed over CPUs, as 64-bit words. */
  counters(): Float64Array;
  /** struct spillway_slot_counters of the first `slots` slots, summed over CPUs, as 64-bit words. */
  slotCounters(slots: number): Float64Array;
  /** struct spillway_reading of the first `slots` slots, and behind them of the waiting list, as 32-bit words. */
  readings(slots: number): Uint32Array;
  /** What would be chosen now, of such numbers; only with the option `explain`. */
  explain(
    hash: number,
    source: number,
    turn: number,
    cpu: number,
    warm: number,
  ): { first: number; chosen: number };
  /** Runs of the selector and nanoseconds spent in them, while `accountRunTime()` is on. */
  runTime(): { runs: number; nanoseconds: number };
  close(): void;
}

/** Calls back once when a connection waits in any watched listener, then sleeps until `arm()` is called again. */
export interface NativeQueueWatch {
  add(socket: NativeSocket): void;
  /** To be called before the socket is closed. */
  remove(socket: NativeSocket): void;
  arm(): void;
  close(): void;
}

/** What a worker notes of its event loop. */
export interface LoopNote {
  state: 'silent' | 'waiting' | 'running';
  /** Milliseconds of CLOCK_MONOTONIC. */
  since: number;
  /** Number of the turn, modulo 2¹⁴. */
  turn: number;
}

/**
 * Carries out what selectors order (native/rescuer.h): sends free workers the listener at which connections wait. A thread
 * of its own, which sleeps as long as there is no order. Descriptors that are given stay the caller's.
 */
export interface NativeRescuer {
  /** The ring must be kept until `removePort()`; −1: there is none, and orders come by `order()`. */
  addPort(port: number, ring: number): void;
  /** The worker of slot `to` is sent the listener of slot `from`, where so many connections wait. */
  order(port: number, from: number, to: number, waiting: number): void;
  removePort(port: number): void;
  /** To be cleared before the listener is closed. */
  setListener(port: number, slot: number, fd: number): void;
  clearListener(port: number, slot: number): void;
  /** The process that serves in the slot, and the master's end of its channel; −1: it cannot be asked to help. */
  setWorker(slot: number, process: number, channel: number): void;
  clearWorker(slot: number): void;
  /** Orders of a port that have reached a worker, since the start. */
  sent(port: number): number;
  close(): void;
}

/**
 * Accepts from a listener in place of libuv (native/acceptor.h): one connection per turn of the event loop, just before it
 * looks for events again. It works on a duplicate.
 */
export interface NativeAcceptor {
  start(): void;
  /** Takes at most so many connections from another listener as well, as long as there are any. Owns the descriptor. */
  help(fd: number, most: number): void;
  /** From now on it asks for a place before it takes one from another listener. Owns the descriptors. */
  claim(sender: number, receiver: number): void;
  ref(): void;
  unref(): void;
  hasRef(): boolean;
  close(): void;
}

/** Calls back once when a process ends, and keeps the event loop alive until then. ESRCH for one that has gone. */
export interface NativeProcessWatch {
  close(): void;
}

/** Takes from the waiting list, as long as there is room (native/waiting_list.h). Keeps nothing alive. */
export interface NativeWaitingList {
  start(): void;
  stop(): void;
  /** A connection of this worker has been closed. */
  room(): void;
  close(): void;
}

/** The worker's end of the channel on which it is asked to help; keeps nothing alive. */
export interface NativeHelpChannel {
  close(): void;
}

/**
 * One page of memory that a master and a worker share (native/hints.h): the worker notes in it what its event loop
 * does, and the master reads that without asking. `close()` gives back all the object has; then the other methods throw
 * EBADF.
 */
export interface NativeHints {
  /**
   * Of the memory, close-on-exec, to be inherited by the worker; it stays the object's. −1 after `close()`, and for a
   * page mapped from a descriptor of the caller's.
   */
  readonly fd: number;
  /**
   * In the worker: from now on notes every turn of this thread's event loop, until `close()` or the end of the thread.
   * Keeps nothing alive, costs some tens of nanoseconds per turn, and has a thread of its own that looks, every 50 ms
   * or at rest every 0.8 s, whether a loop that was about to wait for events does wait. Called again it does nothing.
   */
  beat(): void;
  /**
   * What the loop does, and since when, in milliseconds of CLOCK_MONOTONIC (as `process.hrtime()` counts).
   *
   * - `silent`: no turn yet: the main module still runs, or nobody beats. `since` is 0.
   * - `waiting`: it waits for events in the kernel. A process that is stopped meanwhile leaves it at that.
   * - `running`: anything else; `since` is the begin of this turn. A callback of an event (a request, say) that goes on
   *   and on is noted after one to two of the looks of {@link beat}, and `since` is then late by one at most.
   *
   * A hostile worker may write what it likes: it is read as one of the three, and `since` is never later than now.
   */
  read(): LoopNote;
  /** In the worker: nothing new is wanted, from the next decision of the kernel on. */
  drain(): void;
  close(): void;
}

export interface Native {
  Socket: {
    new (how: 'create', family: 4 | 6): NativeSocket;
    /** A second name for the open socket behind `fd`, which stays its owner's. */
    new (how: 'duplicate', fd: number): NativeSocket;
  };
  Selector: new (options: {
    capacity: number;
    sockmap: boolean;
    readByCast: boolean;
    /** Loads what `explain()` needs. */
    explain: boolean;
    /** Descriptor of a map of hints, which stays the caller's; −1: none. */
    hints: number;
    /** What another selector has left, by name: see `parts()`. EINVAL when it is not of the same layout. */
    parts: Readonly<Record<string, number>>;
  }) => NativeSelector;
  /** The callback is told, of a port, what is not for a worker: a kind of struct spillway_order. Keeps nothing alive. */
  Rescuer: new (
    callback: (port: number, kind: number) => void,
  ) => NativeRescuer;
  /** The callback gets each accepted connection's descriptor, and owns it; or a negative errno, once, and no more follows. */
  Acceptor: new (
    fd: number,
    callback: (fd: number) => void,
  ) => NativeAcceptor;
  /** Owns the descriptors; −1 for both ends of the claims: there is always room. The callback as for an acceptor. */
  WaitingList: new (
    listener: number,
    sender: number,
    receiver: number,
    callback: (fd: number) => void,
  ) => NativeWaitingList;
  /**
   * Owns the descriptor. The callbacks get the port's number and descriptors that they own: a listener to take so many
   * connections from; and that of the waiting list with both ends of the claims, which are −1 where there is no limit.
   */
  HelpChannel: new (
    fd: number,
    help: (port: number, listener: number, most: number) => void,
    wait: (port: number, listener: number, sender: number, receiver: number) => void,
  ) => NativeHelpChannel;
  /** To a worker, by the master's end of its channel. All descriptors stay the caller's; −1 for the claims: no limit. */
  sendWaitingList(channel: number, port: number, listener: number, sender: number, receiver: number): void;
  /** The two ends of a channel, both the caller's and close-on-exec: the master's, the worker's. */
  openHelpChannel(): [number, number];
  /**
   * A map with so many rows, each of which can be given a page that the kernel's programs read, by descriptor. Needs
   * CAP_BPF where that is restricted.
   */
  createHintsMap(rows: number): number;
  /** A new page in that row; its descriptor is the caller's, and good for `new Hints('map', fd)`. */
  openHintsPage(map: number, row: number): number;
  /** Nobody's from now on. */
  clearHintsPage(map: number, row: number): void;
  /** Lets all threads of a process run on these processors and no others (sched_setaffinity(2)). */
  setAffinity(process: number, cpus: Int32Array): void;
  /** Processors that this process may use, online or not. */
  allowedCpus(): number[];
  /** Milliseconds since a connection was established on which nothing has been sent (TCP_INFO, tcpi_last_data_sent). */
  idleSince(fd: number): number;
  /** Closes a connection by an RST (SO_LINGER in socket(7)); the descriptor is gone. */
  reset(fd: number): void;
  QueueWatch: new (callback: () => void) => NativeQueueWatch;
  ProcessWatch: new (process: number, callback: () => void) => NativeProcessWatch;
  /**
   * This process becomes another program (execv(3)): returns only by an exception. Nothing of it is run any more, and its
   * descriptors are closed that are close-on-exec, as Node's are, but for the standard streams and these.
   */
  become(program: string, args: readonly string[], kept: Int32Array): never;
  /** An empty file in memory (memfd_create(2)); the descriptor is the caller's. */
  createMemory(name: string): number;
  Hints: {
    /** New memory of one page, whose size nobody can change (memfd_create(2), sealed). */
    new (how: 'create'): NativeHints;
    /**
     * The first page behind any descriptor that mmap(2) takes. It stays the caller's and is not needed any more
     * afterwards. EINVAL for a file that is too short.
     */
    new (how: 'map', fd: number): NativeHints;
  };
  /** What is behind a descriptor. Never throws: a closed or foreign one is simply no socket. */
  socketKind(fd: number): { isSocket: boolean; isTcp: boolean; listening: boolean; reusePort: boolean };
  /**
   * Sockets on exactly this address (an empty one stands for all of the family) and port, in the order of the
   * kernel's table (native/diag.h). `states` is a bit
   * mask. Needs no privilege, but a kernel with inet_diag and a process that may open netlink sockets.
   */
  socketsAt(address: string, port: number, family: 4 | 6, states: number): ListedSocket[];
  /** Whether the running kernel has `bpf_rdonly_cast` (Linux 6.2). Reads the kernel's BTF: some milliseconds. */
  kernelHasCast(): boolean;
  /** Makes the kernel account BPF run times until the returned descriptor is closed. Needs CAP_SYS_ADMIN. */
  accountRunTime(): number;
  /**
   * Who is at the other end of a connected Unix socket, as of its connect() or listen() (SO_PEERCRED, unix(7)). `pid` is
   * 0 for a process that this one cannot see. ENOTCONN when nobody is.
   */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  /**
   * Sends a message of 1 to 65536 bytes on a connected Unix stream socket, with a copy of `descriptor` (−1: none;
   * SCM_RIGHTS in unix(7)), which stays the caller's. Never waits: EAGAIN when the other end does not read; then, if the
   * error has a `detail`, a part is out and the connection is of no more use. EPIPE when the other end has closed.
   */
  sendWithDescriptor(fd: number, message: Uint8Array, descriptor: number): void;
  /**
   * Connects to a Unix stream socket (`@name` is abstract), sends the request, shuts down the sending side, and waits
   * until the other end closes. Blocks the thread, at most `timeout` milliseconds (ETIMEDOUT). The reply has 1 MiB at
   * most (EMSGSIZE), and is empty when the other end closes without one. The first descriptor that comes with it is the
   * caller's, close-on-exec; −1 when none came, EMFILE when there was no room for it. ECONNRESET or EPIPE when the other
   * end goes without having read the request, ENAMETOOLONG for a path that fits into no address.
   *
   * With `peer`, nothing is sent unless that process has called listen() there (SO_PEERCRED in unix(7)): EPERM. It must
   * be visible in this process id namespace, as the parent of a child that is in no other one is.
   */
  exchange(path: string, request: Uint8Array, timeout: number, peer?: number): { reply: Buffer; fd: number };
  /**
   * Sends one datagram to a Unix datagram socket (`@name` is abstract), with a copy of the descriptor, which stays the
   * caller's: the protocol of sd_notify(3). Blocks the thread for a second at most, while the receiver's queue is full
   * (EAGAIN).
   */
  notify(path: string, text: string, descriptor?: number): void;
  /**
   * Asks the kernel to send this process a signal when its parent ends (prctl(2), PR_SET_PDEATHSIG). To be called in the main
   * thread: the wish ends with the calling one, and what counts as the parent is the thread that started this process.
   *
   * @returns false, and nothing is asked for, when the parent is not `pid` any more.
   */
  dieWithParent(pid: number, signal: number): boolean;
  /**
   * Takes the exclusive lock of an open file (flock(2)), without waiting. The kernel takes it back when the descriptor
   * is closed, at the latest with the process.
   *
   * @returns false when somebody else has it.
   */
  lockFile(fd: number): boolean;
  /** Numbers of socket levels and options on this architecture. */
  readonly constants: Readonly<Record<string, number>>;
  /** Sizes, offsets and numbers of native/bpf/layout.h. */
  readonly layout: Readonly<Record<string, number>>;
}

/** The package's root folder: where package.json, the built addon and the launcher are. */
export const packageRoot: string = (() => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('package.json of spillway was not found above lib/native');
    folder = parent;
  }
  return folder;
})();

const DISABLED =
  'This Node may load no addons: leave out --no-addons, and give --allow-addons with its permission model.';

let loaded: Native | undefined;

/**
 * The addon, loaded at the first use.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_PLATFORM` on anything but Linux, `ERR_SPILLWAY_ADDON` when the binary is
 *   missing or does not fit this Node.
 */
export function native(): Native {
  if (loaded) return loaded;
  if (process.platform !== 'linux') {
    throw new SpillwayError('ERR_SPILLWAY_PLATFORM', `Spillway needs Linux; this is ${process.platform}`);
  }
  try {
    loaded = bindings({ bindings: 'spillway', module_root: packageRoot }) as Native;
  } catch (cause) {
    const disabled = (cause as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED';
    throw new SpillwayError(
      'ERR_SPILLWAY_ADDON',
      `the native addon could not be loaded from ${packageRoot}`,
      { cause, ...(disabled && { hint: DISABLED }) },
    );
  }
  return loaded;
}
