/** The socket group: the listeners of one service, and who decides which of them gets a connection. */
import { closeSync } from 'node:fs';
import { z } from 'zod';
import { SpillwayError } from '../errors.js';
import type { Endpoint, NativeError, NativeSocket } from '../native.js';
import { ClassicTier } from './classic-tier.js';
import { type EbpfOptions, EbpfTier, isRefusedSocket, refusedSocket } from './ebpf-tier.js';
import { listenersAt, resolveEndpoint } from './endpoint.js';
import { JoinOrder } from './join-order.js';
import { type Decisions, MAX_SLOTS } from './layout.js';
import {
  applyLiveOptions,
  type BoundOptions,
  readListenerOption,
  writeEverywhere,
} from './listener-options.js';
import { adoptListeners, closeAll, explain, inodeOf, openListeners, openSocket } from './listeners.js';
import {
  type AskedOptions,
  assertGives,
  assertOptionName,
  checkOptions,
  checkValue,
  defaultFor,
  type GroupOptions,
  type ListenerOptionName,
  OPTION_NAMES,
  type OptionName,
  optionRow,
  type SelectorName,
} from './options.js';
import type { GroupState, Member, SlotCount, Tier } from './tier.js';
import { whyNotEbpf } from './why.js';

/** What `open()` and `of()` take besides the options of the table. */
export interface CommonOptions extends AskedOptions {
  /** Slots the group can grow to, from the number of sockets to 1024. Default: 64, or the number of sockets. */
  capacity?: number;
  /** How the kernel program reads a listener: `cast` (Linux 6.2), `probe` (before), `auto` (default). */
  readBy?: EbpfOptions['readBy'];
  /** Keep the sockets in a SOCKMAP instead of a REUSEPORT_SOCKARRAY. Needs CAP_NET_ADMIN. Default: false. */
  sockmap?: boolean;
  /**
   * Below the `ebpf` selector, takes the descriptor of a connection that waited in the queue of a leaving socket.
   * The descriptor is the callee's, unless it throws: then it is closed here. Without it such a socket cannot leave while `migrate` is on.
   */
  onConnection?: (fd: number, fromSlot: number) => void;
}

export interface OpenOptions extends CommonOptions {
  /** Host name or numeric address; default: all addresses, IPv6 and IPv4. */
  host?: string;
  /** 0 to 65535; 0, the default, takes any free port, the same for all sockets. */
  port?: number;
  /** How many sockets to open, 1 to 1024. */
  sockets: number;
}

/** One socket's state, and its slot's counts since the selector in force took over (also over replaced sockets). */
export interface SocketStats {
  slot: number;
  fd: number;
  /** False when a program has shut the listener down behind the group's back. */
  listening: boolean;
  enabled: boolean;
  weight: number;
  /** Connections waiting to be accepted. */
  queue: number;
  /** The backlog in force; the queue holds one connection more. */
  limit: number;
  /** Handshakes under way; null where it cannot be known. */
  halfOpen: number | null;
  /** Decisions that gave this slot a connection, by kind. A SYN that is repeated after a drop is another one. */
  chosen: { syn: number; cookieAck: number; migration: number } | null;
  /** Of those, the ones whose first choice was another slot. */
  redirectedIn: number | null;
  /** Decisions whose first choice was this slot and that went elsewhere. */
  redirectedOut: number | null;
  /** What the kernel dropped at this socket by itself. */
  kernelDrops: number;
}

export interface GroupStats {
  selector: SelectorName;
  address: Endpoint;
  sockets: SocketStats[];
  /** Every decision of the kernel program, by what it was about and how it ended; null below `ebpf`. */
  decisions: Decisions | null;
  /** SYNs that went to another slot than the first choice. */
  redirected: number | null;
  /** SYNs that were dropped in silence because nobody had room. */
  dropped: number | null;
  /** SYNs that were refused because nobody had room. */
  reset: number | null;
  /** Connections of leaving sockets that were moved, by the kernel or by hand. */
  migrated: number;
  /** Times a slot's socket had left the kernel's group without the owner saying so. */
  stale: number | null;
  /** Sum over all slots, also those that are empty now. */
  kernelDrops: number;
}

const OPENING = z.object({
  sockets: z.int().min(1).max(MAX_SLOTS),
  capacity: z.int().min(1).max(MAX_SLOTS).optional(),
  readBy: z.enum(['auto', 'cast', 'probe']).optional(),
  sockmap: z.boolean().optional(),
  onConnection: z
    .custom<(fd: number, slot: number) => void>((value) => typeof value === 'function')
    .optional(),
  host: z.string().optional(),
  port: z.int().min(0).max(65535).optional(),
});

const OPENING_RANGES: Record<string, string> = {
  sockets: `integer, 1 to ${MAX_SLOTS}`,
  capacity: `integer, 1 to ${MAX_SLOTS}`,
  readBy: "'auto', 'cast', 'probe'",
  sockmap: 'boolean',
  onConnection: 'function',
  host: 'host name or address',
  port: 'integer, 0 to 65535',
};

function checkOpening(given: Record<string, unknown>): z.infer<typeof OPENING> {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(OPENING_RANGES, name)) assertOptionName(name);
  }
  const checked = OPENING.safeParse(given);
  if (checked.success) return checked.data;
  const name = String(checked.error.issues[0]?.path[0]);
  throw new SpillwayError(
    'ERR_SPILLWAY_OPTION_RANGE',
    `${name} cannot be ${JSON.stringify(given[name])}; it takes: ${OPENING_RANGES[name]}`,
  );
}

/** Inodes of the sockets that are in a group of this process, to refuse them to a second one in every tier. */
const claimed = new Set<number>();

/** The backlog in force at a listener. */
function limitOf(socket: NativeSocket): number {
  return socket.acceptQueue()?.limit ?? 0;
}

const unknownCount: SlotCount = { halfOpen: null, chosen: null, redirectedIn: null, redirectedOut: null };

/**
 * The listening sockets of one service as a group inside the kernel.
 *
 * The group owns its descriptors: `fd()` may be given to a child process, but only `close()`, `remove()` and
 * `replace()` close them. It holds no handle that keeps the process alive.
 */
export class SocketGroup {
  readonly #asked: AskedOptions;
  readonly #ebpf: EbpfOptions;
  readonly #onConnection: CommonOptions['onConnection'];
  /** How the listeners are bound: newcomers must be bound likewise, or the kernel takes them for another group. */
  readonly #bound: BoundOptions;
  readonly #members: (Member | undefined)[];
  /** Kernel drops of sockets that have left, by slot, so that a slot's count never goes back. */
  readonly #pastDrops: number[] = [];
  readonly #endpoint: Endpoint;
  readonly #state: GroupState;
  #tier!: Tier;
  #notice: string | undefined;
  /** What was handed over, and what the kernel moved under earlier tiers of this group. */
  #migratedBefore = 0;
  #closed = false;

  private constructor(
    endpoint: Endpoint,
    sockets: readonly NativeSocket[],
    asked: AskedOptions,
    bound: BoundOptions,
    opening: Omit<z.infer<typeof OPENING>, 'sockets'>,
  ) {
    this.#endpoint = endpoint;
    this.#asked = asked;
    this.#ebpf = { readBy: opening.readBy ?? 'auto', sockmap: opening.sockmap ?? false };
    this.#onConnection = opening.onConnection;
    this.#bound = bound;
    this.#members = sockets.map((socket) => this.#member(socket));
    // As the kernel has it: it caps a larger backlog at net.core.somaxconn.
    if (asked.backlog !== undefined) asked.backlog = this.#members[0]?.limit;
    const capacity = opening.capacity ?? Math.max(64, sockets.length);
    const isClosed = () => this.#closed;
    this.#state = {
      endpoint,
      members: this.#members,
      capacity,
      order: new JoinOrder(listenersAt(endpoint).map(({ inode }) => inode)),
      settings: (selector) => ({
        policy: this.#inForce('policy', selector),
        overflow: this.#inForce('overflow', selector),
        migrate: this.#inForce('migrate', selector),
      }),
      get deferring() {
        return (asked.deferAccept ?? 0) > 0;
      },
      newSocket: () => openSocket(endpoint, bound),
      handOver: (fd, slot) => this.#handOver(fd, slot),
      canHandOver: opening.onConnection !== undefined,
      get closed() {
        return isClosed();
      },
    };
  }

  /**
   * Asks the kernel for listening sockets on one port and makes them a group.
   *
   * @throws {SpillwayError} naming what was wrong; everything that was opened is closed again. Codes:
   *   `ERR_SPILLWAY_OPTION_RANGE`, `…_OPTION_UNKNOWN`, `…_OPTION_TIER`, `…_HOST_UNKNOWN`, `…_ADDRESS_IN_USE`,
   *   `…_ADDRESS_UNAVAILABLE`, `…_PERMISSION`, `…_LIMIT`, `…_SELECTOR_UNAVAILABLE`.
   */
  static async open(options: OpenOptions): Promise<SocketGroup> {
    const given = { ...options } as Record<string, unknown>;
    const opening = checkOpening(given);
    const asked = checkOptions(given);
    const wanted = await resolveEndpoint(opening.host, opening.port ?? 0);
    const backlog = asked.backlog ?? defaultFor('ebpf', 'backlog') ?? 511;
    const { endpoint, sockets } = openListeners(wanted, opening.sockets, asked, backlog);
    const { v6Only, freeBind, bindToDevice } = asked;
    return SocketGroup.#form(endpoint, sockets, asked, { v6Only, freeBind, bindToDevice }, opening);
  }

  /**
   * Makes a group of existing listening sockets, given by descriptor. They must share one address and port and have
   * been bound with SO_REUSEPORT. The group works on duplicates: the descriptors stay the caller's.
   *
   * Below the `ebpf` selector the kernel's order of the sockets is taken from its list of listeners (sock_diag(7)),
   * which is right as long as no listener of the port has been closed before.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_BAD_FD` naming the descriptor, and what `open()` throws about options.
   */
  static async of(fds: readonly number[], options: CommonOptions = {}): Promise<SocketGroup> {
    const given = { ...options } as Record<string, unknown>;
    const count = Array.isArray(fds) ? fds.length : 0;
    for (const name of ['host', 'port', 'sockets']) if (name in given) assertOptionName(name);
    const opening = checkOpening({ ...given, sockets: Math.min(Math.max(count, 1), MAX_SLOTS) });
    const asked = checkOptions(given);
    if (count > MAX_SLOTS) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_RANGE',
        `a group has at most ${MAX_SLOTS} sockets, not ${count}`,
      );
    }
    for (const name of ['v6Only', 'freeBind', 'bindToDevice'] as const) {
      if (asked[name] !== undefined) {
        throw new SpillwayError(
          'ERR_SPILLWAY_OPTION_FIXED',
          `${name} cannot be set on sockets that are already bound`,
        );
      }
    }
    const { endpoint, sockets, bound } = adoptListeners(fds);
    const { backlog } = asked;
    const group = SocketGroup.#form(endpoint, sockets, asked, bound, opening);
    const undo: (() => void)[] = [];
    try {
      for (const name of OPTION_NAMES) {
        const value = asked[name];
        if (value === undefined || optionRow(name).scope !== 'listener') continue;
        const before = group.getOption(name);
        group.setOption(name, value);
        undo.unshift(() => group.setOption(name, before));
      }
      if (backlog !== undefined) group.setOption('backlog', backlog);
    } catch (error) {
      for (const restore of undo) restore();
      group.close();
      throw explain(error, 'cannot set the options of the sockets');
    }
    return group;
  }

  static #form(
    endpoint: Endpoint,
    sockets: readonly NativeSocket[],
    asked: AskedOptions,
    bound: BoundOptions,
    opening: Omit<z.infer<typeof OPENING>, 'sockets'>,
  ): SocketGroup {
    const inodes = sockets.map(inodeOf);
    try {
      if (inodes.some((inode) => claimed.has(inode))) {
        throw new SpillwayError('ERR_SPILLWAY_BAD_FD', 'a socket in the list already belongs to a group');
      }
      const group = new SocketGroup(endpoint, sockets, asked, bound, opening);
      group.#tier = group.#choose(asked.selector ?? 'auto');
      for (const inode of inodes) claimed.add(inode);
      return group;
    } catch (error) {
      closeAll(sockets);
      throw isRefusedSocket(error) ? refusedSocket(error) : explain(error, 'cannot form the group');
    }
  }

  /** Where the group listens; the port is the concrete one. */
  get address(): Endpoint {
    return { ...this.#endpoint };
  }

  /** Number of slots, with or without a socket. */
  get size(): number {
    return this.#members.length;
  }

  /** With `selector: 'auto'`: why a better selector is not in force, in a sentence. */
  get notice(): string | undefined {
    return this.#notice;
  }

  /** The descriptor of a slot's listener. It stays the group's: give it to a child, but do not close it. */
  fd(slot: number): number {
    this.#assertOpen();
    return this.#at(slot).socket.fd;
  }

  /**
   * Sets an option, for one slot where the table says so, otherwise for all. It is in force when the call returns, and
   * no connection is lost over it.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_UNKNOWN`, `…_RANGE`, `…_FIXED`, `…_TIER`, `ERR_SPILLWAY_NO_SUCH_SLOT`,
   *   `…_PERMISSION`, `…_SELECTOR_UNAVAILABLE`, `…_CLOSED`; nothing has changed then.
   */
  setOption<Name extends OptionName>(name: Name, value: GroupOptions[Name], slot?: number): void {
    this.#assertOpen();
    assertOptionName(name);
    const checked = checkValue(name, value);
    const { scope, live } = optionRow(name);
    if (!live)
      throw new SpillwayError('ERR_SPILLWAY_OPTION_FIXED', `${name} can only be given at the opening`);
    if (slot !== undefined && scope !== 'slot') {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_RANGE',
        `${name} is an option of the group, not of one slot`,
      );
    }
    if (name === 'selector') {
      this.#changeSelector(checked as GroupOptions['selector']);
      return;
    }
    assertGives(this.#tier.name, name, checked);
    if (scope === 'listener') {
      this.#setListenerOption(name as ListenerOptionName, checked as never);
      return;
    }
    if (name === 'enabled' && checked === false) this.#assertOneStaysEnabled(slot);
    const restore = this.#snapshot();
    try {
      if (scope === 'slot') this.#setSlotOption(name, checked, slot);
      if (slot === undefined) {
        const value = name === 'backlog' ? this.#present()[0]?.limit : checked;
        (this.#asked as Record<string, unknown>)[name] = value;
      }
      this.#tier.changed();
    } catch (error) {
      restore();
      throw explain(error, `${name} cannot be changed`);
    }
  }

  /** What undoes a change of options that failed half-way. */
  #snapshot(): () => void {
    const asked = { ...this.#asked };
    const members = this.#present().map((member) => ({ member, ...member }));
    return () => {
      for (const name of OPTION_NAMES) delete this.#asked[name];
      Object.assign(this.#asked, asked);
      for (const { member, limit, weight, enabled } of members) {
        if (member.limit !== limit && member.socket.acceptQueue()) member.socket.listen(limit);
        Object.assign(member, { limit, weight, enabled });
      }
      try {
        this.#tier.changed();
      } catch {
        // The first error tells what was wrong; the program in force is the one of before.
      }
    };
  }

  /**
   * What is in force: `selector` tells the one that works, socket options are read from the kernel. For one slot where
   * the table says so, otherwise the group's value.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_UNKNOWN`, `ERR_SPILLWAY_NO_SUCH_SLOT`
   */
  getOption(name: 'selector'): SelectorName;
  getOption<Name extends OptionName>(name: Name, slot?: number): GroupOptions[Name];
  getOption(name: OptionName, slot?: number): unknown {
    this.#assertOpen();
    assertOptionName(name);
    if (name === 'selector') return this.#tier.name;
    const { scope } = optionRow(name);
    if (scope === 'listener') {
      const member = slot === undefined ? this.#present()[0] : this.#at(slot);
      if (!member) throw new SpillwayError('ERR_SPILLWAY_NO_SUCH_SLOT', 'no slot of the group has a socket');
      return readListenerOption(member.socket, this.#endpoint.family, name as ListenerOptionName);
    }
    if (slot === undefined) return this.#inForce(name);
    const member = this.#at(slot);
    if (name === 'backlog') return member.limit;
    if (name === 'weight') return member.weight;
    return name === 'enabled' ? member.enabled : this.#inForce(name);
  }

  /** The state of every socket and what has been decided since the selector in force took over. */
  stats(): GroupStats {
    this.#assertOpen();
    const counts = this.#tier.counts();
    const drops = this.#members.map(
      (member, slot) => (this.#pastDrops[slot] ?? 0) + (member?.socket.drops() ?? 0),
    );
    const sockets: SocketStats[] = [];
    this.#members.forEach((member, slot) => {
      if (!member) return;
      const queue = member.socket.acceptQueue();
      sockets.push({
        slot,
        fd: member.socket.fd,
        listening: queue !== undefined,
        enabled: member.enabled,
        weight: member.weight,
        queue: queue?.length ?? 0,
        limit: Math.min(member.limit, queue?.limit ?? 0),
        ...(counts.slots[slot] ?? unknownCount),
        kernelDrops: drops[slot] ?? 0,
      });
    });
    const syn = counts.decisions?.syn;
    return {
      selector: this.#tier.name,
      address: this.address,
      sockets,
      decisions: counts.decisions,
      redirected: syn ? syn.redirected : null,
      dropped: syn ? syn.dropped : null,
      reset: syn ? syn.reset : null,
      migrated: this.#migratedBefore + counts.migrated,
      stale: counts.stale,
      kernelDrops: drops.reduce((sum, count) => sum + count, 0),
    };
  }

  /**
   * One more socket, opened by the group or, with `fd`, a duplicate of an existing listener. It takes the first empty
   * slot.
   *
   * @returns the slot.
   * @throws {SpillwayError} `ERR_SPILLWAY_LIMIT` when all slots of the capacity are taken, `ERR_SPILLWAY_BAD_FD`.
   */
  async add(fd?: number): Promise<number> {
    this.#assertOpen();
    const empty = this.#members.indexOf(undefined);
    const slot = empty >= 0 ? empty : this.#members.length;
    if (slot >= this.#state.capacity) {
      throw new SpillwayError(
        'ERR_SPILLWAY_LIMIT',
        `all ${this.#state.capacity} slots of the group are taken`,
        {
          hint: 'Open the group with a larger `capacity`.',
        },
      );
    }
    this.#place(slot, this.#newListener(fd, this.#inForce('backlog')), {});
    return slot;
  }

  /**
   * Puts a fresh socket (or a duplicate of the listener behind `fd`) into a slot, with the options of the one before,
   * whose queue goes to the siblings. A program that still accepts from the old one gets EINVAL from then on.
   */
  async replace(slot: number, fd?: number): Promise<void> {
    this.#assertOpen();
    const before = this.#at(slot);
    this.#assertCanLeave(slot, true);
    const { limit, weight, enabled } = before;
    this.#place(slot, this.#newListener(fd, limit), { weight, enabled });
    await this.#leave(slot, before);
  }

  /**
   * Takes a socket out of the group and closes it; its queue goes to the siblings. The slot stays empty until `add()`.
   * The promise is fulfilled when nothing more can arrive at it. A program that still accepts from it gets EINVAL.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NO_SIBLING` when no enabled socket could take the queue.
   */
  async remove(slot: number): Promise<void> {
    this.#assertOpen();
    const member = this.#at(slot);
    this.#assertCanLeave(slot, false);
    this.#members[slot] = undefined;
    await this.#leave(slot, member);
  }

  /**
   * Takes the program off the kernel's group and closes the group's descriptors; what is queued at a socket that
   * nobody else holds is reset. Sockets that others hold go on, chosen by the kernel's own hash. May be called twice.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#tier.stop(true);
    } finally {
      for (const { socket, inode } of this.#present()) {
        claimed.delete(inode);
        socket.close();
      }
    }
  }

  /** @internal Run time of the kernel program, for the benchmark; undefined below `ebpf`. */
  runTime(): { runs: number; nanoseconds: number } | undefined {
    return this.#tier instanceof EbpfTier ? this.#tier.runTime() : undefined;
  }

  #assertOpen(): void {
    if (this.#closed) throw new SpillwayError('ERR_SPILLWAY_CLOSED', 'the group is closed');
  }

  #present(): Member[] {
    return this.#members.filter((member) => member !== undefined);
  }

  #at(slot: number): Member {
    const member = this.#members[slot];
    if (member) return member;
    throw new SpillwayError(
      'ERR_SPILLWAY_NO_SUCH_SLOT',
      `there is no socket in slot ${slot}; the group has ${this.#members.length} slots`,
    );
  }

  #inForce<Name extends OptionName>(
    name: Name,
    selector: SelectorName = this.#tier.name,
  ): GroupOptions[Name] {
    const asked = this.#asked[name] ?? (name === 'backlog' ? this.#present()[0]?.limit : undefined);
    return (asked ?? defaultFor(selector, name)) as GroupOptions[Name];
  }

  #member(socket: NativeSocket): Member {
    return {
      socket,
      inode: inodeOf(socket),
      // As the kernel has it: it caps a larger backlog at net.core.somaxconn, and an adopted listener keeps its own.
      limit: limitOf(socket),
      weight: this.#asked.weight ?? 1,
      enabled: this.#asked.enabled ?? true,
    };
  }

  /** The best tier that works, or the one asked for by name. */
  #choose(selector: GroupOptions['selector']): Tier {
    if (selector !== 'auto') {
      this.#assertAskedFits(selector);
      try {
        return this.#tierNamed(selector);
      } catch (error) {
        if (error instanceof SpillwayError || isRefusedSocket(error)) throw error;
        const { sentence, hint } = whyNotEbpf(error, this.#ebpf.sockmap);
        const { syscall, errno } = error as Partial<NativeError>;
        // The sentence already says what the kernel said, where that is the reason.
        throw new SpillwayError(
          'ERR_SPILLWAY_SELECTOR_UNAVAILABLE',
          `selector '${selector}' does not work: ${sentence}`,
          {
            cause: error,
            hint,
            ...(syscall === undefined ? {} : { syscall }),
            ...(errno === undefined ? {} : { errno }),
          },
        );
      }
    }
    const reasons: string[] = [];
    for (const name of ['ebpf', 'cbpf', 'none'] as const) {
      try {
        this.#assertAskedFits(name, reasons[0]);
        const tier = this.#tierNamed(name);
        this.#notice = reasons[0];
        return tier;
      } catch (error) {
        if (error instanceof SpillwayError || isRefusedSocket(error)) throw error;
        reasons.push(`selector '${name}' does not work: ${whyNotEbpf(error, this.#ebpf.sockmap).sentence}`);
      }
    }
    throw new SpillwayError('ERR_SPILLWAY_SELECTOR_UNAVAILABLE', reasons.join('; '));
  }

  #tierNamed(name: SelectorName): Tier {
    return name === 'ebpf' ? new EbpfTier(this.#state, this.#ebpf) : new ClassicTier(this.#state, name);
  }

  /** Every option that was asked for must be one the selector gives: nothing is approximated in silence. */
  #assertAskedFits(selector: SelectorName, reason?: string): void {
    try {
      for (const name of OPTION_NAMES) {
        const value = this.#asked[name];
        if (value !== undefined) assertGives(selector, name, value);
      }
      for (const { weight, enabled } of this.#present()) {
        assertGives(selector, 'weight', weight);
        assertGives(selector, 'enabled', enabled);
      }
      if (selector !== 'ebpf' && !this.#present().some(({ enabled }) => enabled)) {
        throw this.#oneMustStayEnabled(selector);
      }
    } catch (error) {
      if (reason === undefined || !(error instanceof SpillwayError)) throw error;
      throw new SpillwayError(error.code, `${error.message}, because ${reason}`, { cause: error });
    }
  }

  #changeSelector(selector: GroupOptions['selector']): void {
    const before = this.#tier;
    if (selector === before.name || (selector === 'auto' && before.name === 'ebpf')) {
      this.#asked.selector = selector;
      return;
    }
    const notice = this.#notice;
    const migrated = this.#migratedBefore + before.counts().migrated;
    // The new program takes the old one's place in one step: at no moment does the kernel's own hash choose. Only the
    // sink must have left before.
    if (before instanceof EbpfTier) before.closeSink();
    try {
      this.#tier = this.#choose(selector);
    } catch (error) {
      this.#notice = notice;
      if (before instanceof EbpfTier) before.openSink();
      before.changed();
      throw explain(error, `the selector cannot be changed to '${selector}'`);
    }
    before.stop(false);
    this.#asked.selector = selector;
    this.#migratedBefore = migrated;
  }

  #setListenerOption<Name extends ListenerOptionName>(name: Name, value: GroupOptions[Name]): void {
    const sockets = this.#present().map(({ socket }) => socket);
    writeEverywhere(sockets, this.#endpoint.family, name, value);
    (this.#asked as Record<string, unknown>)[name] = value;
    if (name === 'deferAccept') this.#tier.changed();
  }

  #setSlotOption(name: OptionName, value: unknown, slot: number | undefined): void {
    for (const member of slot === undefined ? this.#present() : [this.#at(slot)]) {
      if (name === 'backlog') {
        // listen() would revive one that another holder has shut down, outside the group.
        if (!member.socket.acceptQueue()) continue;
        member.socket.listen(value as number);
        member.limit = limitOf(member.socket);
      } else if (name === 'weight') member.weight = value as number;
      else if (name === 'enabled') member.enabled = value as boolean;
    }
  }

  /** Only a program in the kernel can refuse connections for all; a classic one would fall back to the kernel's hash. */
  #assertOneStaysEnabled(slot: number | undefined): void {
    if (this.#tier.name === 'ebpf') return;
    if (slot !== undefined && this.#members.some((member, other) => member?.enabled && other !== slot))
      return;
    throw this.#oneMustStayEnabled(this.#tier.name);
  }

  #oneMustStayEnabled(selector: SelectorName): SpillwayError {
    return new SpillwayError(
      'ERR_SPILLWAY_OPTION_TIER',
      `with the selector '${selector}' one socket of the group must stay enabled`,
    );
  }

  /** A listener for a slot, in the kernel's group and listening; closed again when it does not fit. */
  #newListener(fd: number | undefined, backlog: number): NativeSocket {
    let socket: NativeSocket | undefined;
    try {
      if (fd === undefined) {
        socket = openSocket(this.#endpoint, { ...this.#asked, ...this.#bound });
      } else {
        socket = adoptListeners([fd], { endpoint: this.#endpoint, bound: this.#bound })
          .sockets[0] as NativeSocket;
        if (claimed.has(inodeOf(socket))) {
          throw new SpillwayError('ERR_SPILLWAY_BAD_FD', `descriptor ${fd} already belongs to a group`);
        }
        applyLiveOptions(socket, this.#endpoint.family, this.#asked);
      }
      socket.listen(backlog);
      return socket;
    } catch (error) {
      socket?.close();
      throw explain(error, 'cannot add a socket to the group');
    }
  }

  #place(
    slot: number,
    socket: NativeSocket,
    { weight, enabled }: { weight?: number; enabled?: boolean },
  ): void {
    const before = this.#members[slot];
    const member = this.#member(socket);
    if (before) member.limit = before.limit;
    if (weight !== undefined) member.weight = weight;
    if (enabled !== undefined) member.enabled = enabled;
    this.#members[slot] = member;
    try {
      this.#tier.placed(slot, before);
      claimed.add(member.inode);
    } catch (error) {
      if (before) this.#members[slot] = before;
      else if (slot === this.#members.length - 1) this.#members.pop();
      else this.#members[slot] = undefined;
      socket.close();
      throw isRefusedSocket(error) ? refusedSocket(error) : explain(error, `cannot fill slot ${slot}`);
    }
  }

  async #leave(slot: number, { socket, inode }: Member): Promise<void> {
    // Counted before it goes, so that the slot's count never goes back.
    this.#pastDrops[slot] = (this.#pastDrops[slot] ?? 0) + socket.drops();
    claimed.delete(inode);
    const tier = this.#tier;
    try {
      await tier.leave(slot, socket, inode);
    } catch (error) {
      throw explain(error, `slot ${slot} could not hand over its queue`);
    } finally {
      if (this.#tier !== tier && !this.#closed) this.#tier.changed();
    }
  }

  #assertCanLeave(slot: number, replaced: boolean): void {
    if (!this.#inForce('migrate')) return;
    const takers = this.#members.filter(
      (member, other) => member?.enabled && (replaced || (other !== slot && member.socket.acceptQueue())),
    );
    if (takers.length === 0) {
      throw new SpillwayError('ERR_SPILLWAY_NO_SIBLING', `nobody could take over the queue of slot ${slot}`);
    }
    if (this.#tier.name !== 'ebpf' && !this.#state.canHandOver) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_TIER',
        `with the selector '${this.#tier.name}' the queue of a leaving socket needs an \`onConnection\` to take it`,
      );
    }
  }

  #handOver(fd: number, slot: number): void {
    this.#migratedBefore++;
    if (this.#onConnection) this.#onConnection(fd, slot);
    else closeSync(fd);
  }
}
