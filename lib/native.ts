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
}

/** The BPF objects of one group (native/selector.h). Needs CAP_BPF and CAP_PERFMON, for `sockmap` CAP_NET_ADMIN too. */
export interface NativeSelector {
  setConfig(config: {
    slots: number;
    policy: number;
    overflow: number;
    migrate: number;
    rankByYoung: number;
  }): void;
  setSlot(slot: number, socket: NativeSocket, row: SlotRow): void;
  updateSlot(slot: number, row: SlotRow): void;
  clearSlot(slot: number): void;
  /** Rows of the alias table: threshold and alias in turn. */
  setChoices(choices: Uint32Array): void;
  /** Makes the socket discard every segment that reaches it, without an answer. */
  discardEverything(socket: NativeSocket): void;
  setSink(socket: NativeSocket): void;
  attach(socket: NativeSocket): void;
  /** struct spillway_counters, summed over CPUs, as 64-bit words. */
  counters(): Float64Array;
  /** struct spillway_slot_counters of the first `slots` slots, summed over CPUs, as 64-bit words. */
  slotCounters(slots: number): Float64Array;
  /** struct spillway_reading of the first `slots` slots, as 32-bit words. */
  readings(slots: number): Uint32Array;
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
   * Keeps nothing alive, costs some tens of nanoseconds per turn, and has a thread of its own that looks every 50 ms
   * whether a loop that was about to wait for events does wait. Called again it does nothing.
   */
  beat(): void;
  /**
   * What the loop does, and since when, in milliseconds of CLOCK_MONOTONIC (as `process.hrtime()` counts).
   *
   * - `silent`: no turn yet: the main module still runs, or nobody beats. `since` is 0.
   * - `waiting`: it waits for events in the kernel. A process that is stopped meanwhile leaves it at that.
   * - `running`: anything else; `since` is the begin of this turn. A callback of an event (a request, say) that goes on
   *   and on is noted after 50 to 100 ms, and `since` is then up to 50 ms late.
   *
   * A hostile worker may write what it likes: it is read as one of the three, and `since` is never later than now.
   */
  read(): { state: 'silent' | 'waiting' | 'running'; since: number };
  close(): void;
}

export interface Native {
  Socket: {
    new (how: 'create', family: 4 | 6): NativeSocket;
    /** A second name for the open socket behind `fd`, which stays its owner's. */
    new (how: 'duplicate', fd: number): NativeSocket;
  };
  Selector: new (options: { capacity: number; sockmap: boolean; readByCast: boolean }) => NativeSelector;
  QueueWatch: new (callback: () => void) => NativeQueueWatch;
  Hints: {
    /** New memory of one page, whose size nobody can change (memfd_create(2), sealed). */
    new (how: 'create'): NativeHints;
    /**
     * The page behind any descriptor that mmap(2) takes. It stays the caller's and is not needed any more afterwards.
     * EINVAL for a file that is too short.
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
   * Sends one datagram to a Unix datagram socket (`@name` is abstract): the protocol of sd_notify(3). Blocks the thread
   * for a second at most, while the receiver's queue is full (EAGAIN).
   */
  notify(path: string, text: string): void;
  /**
   * Asks the kernel to kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG). To be called in the main
   * thread: the wish ends with the calling one, and what counts as the parent is the thread that started this process.
   *
   * @returns false, and nothing is asked for, when the parent is not `pid` any more.
   */
  dieWithParent(pid: number): boolean;
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
