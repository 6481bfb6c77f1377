/** The socket group: the listeners of one service, and who decides which of them gets a connection. */
import { closeSync } from 'node:fs';
import { SpillwayError } from '../errors.js';
import { type Endpoint, type NativeSocket, native } from '../native.js';
import {
  type AddOptions,
  type CommonOptions,
  checkAdoption,
  checkOpening,
  type Opening,
  type OpenOptions,
} from './arguments.js';
import {
  type ChoiceRequest,
  EbpfTier,
  type Explanation,
  isRefusedSocket,
  refusedSocket,
} from './ebpf-tier.js';
import { halfOpenAt, listenersAt, resolveEndpoint } from './endpoint.js';
import { JoinOrder } from './join-order.js';
import type { BoundOptions } from './listener-options.js';
import { adoptListeners, closeAll, explain, inodeOf, openListeners, openSocket } from './listeners.js';
import { LiveOptions } from './live-options.js';
import { isClaimed, Members, memberOf } from './members.js';
import { Membership } from './membership.js';
import {
  type AskedOptions,
  defaultFor,
  type GroupOptions,
  OPTION_NAMES,
  type OptionName,
  optionRow,
  type SelectorName,
} from './options.js';
import { Selection } from './selection.js';
import { Settings } from './settings.js';
import { type GroupStats, gatherStats } from './statistics.js';
import type {
  AdoptedTier,
  ClaimsOfWorker,
  GroupState,
  Keeping,
  Member,
  TierSnapshot,
  WaitingCount,
  WorkerInSlot,
} from './tier.js';

export type { AddOptions, CommonOptions, OpenOptions } from './arguments.js';
export type { GroupStats, SocketStats } from './statistics.js';

/** What a group begins with. */
interface Beginning {
  endpoint: Endpoint;
  bound: BoundOptions;
  members: Members;
  order: JoinOrder;
  adopted: AdoptedTier | undefined;
}

/** What has to be known of a group, besides its descriptors, to go on with it. Plain data. */
export interface GroupSnapshot {
  endpoint: Endpoint;
  bound: BoundOptions;
  asked: AskedOptions;
  capacity: number;
  /** Inodes of all listeners, in the kernel's order. */
  order: number[];
  /** By slot. */
  members: (Omit<Member, 'socket' | 'inode' | 'worker'> | null)[];
  tier: TierSnapshot | undefined;
}

/**
 * The listening sockets of one service as a group inside the kernel.
 *
 * The group owns its descriptors: `fd()` may be given to a child process, but only `close()`, `remove()` and
 * `replace()` close them. It holds no handle that keeps the process alive.
 */
export class SocketGroup {
  readonly #endpoint: Endpoint;
  /** How its listeners are bound, which nobody can change. */
  readonly #bound: BoundOptions;
  readonly #settings: Settings;
  readonly #order: JoinOrder;
  readonly #keeping: Keeping | undefined;
  readonly #members: Members;
  readonly #selection: Selection;
  readonly #options: LiveOptions;
  readonly #membership: Membership;
  /** Whether it goes on with what another process has begun. */
  readonly isAdopted: boolean;
  #closed = false;

  /** Takes over the members' sockets when it succeeds. */
  private constructor(
    { endpoint, bound, members, order, adopted }: Beginning,
    { asked, onConnection, readBy = 'auto', sockmap = false, explain = false, service = {} }: Opening,
  ) {
    const settings = new Settings(asked, members);
    const isClosed = () => this.#closed;
    const state: GroupState = {
      endpoint,
      members: members.slots,
      capacity: members.capacity,
      order,
      settings: (selector) => ({
        policy: settings.inForce('policy', selector),
        overflow: settings.inForce('overflow', selector),
        migrate: settings.inForce('migrate', selector),
        rescue: settings.inForce('rescue', selector),
        exclusiveHandover: settings.inForce('exclusiveHandover', selector),
        countConnections: settings.inForce('countConnections', selector),
        waitLimit: settings.inForce('waitLimit', selector),
        waitTimeout: settings.inForce('waitTimeout', selector),
      }),
      hints: service.hints,
      rescues: service.rescues,
      takesWaiting: service.takesWaiting ?? false,
      keeping: service.keeping,
      adopted,
      get deferring() {
        return (settings.asked.deferAccept ?? 0) > 0;
      },
      newSocket: () => openSocket(endpoint, bound),
      handOver: (fd, slot) => {
        this.#selection.countHandOver();
        if (onConnection) onConnection(fd, slot);
        else closeSync(fd);
      },
      canHandOver: onConnection !== undefined,
      get closed() {
        return isClosed();
      },
    };
    this.#endpoint = endpoint;
    this.isAdopted = adopted !== undefined;
    this.#bound = bound;
    this.#settings = settings;
    this.#order = order;
    this.#members = members;
    this.#keeping = service.keeping;
    this.#selection = new Selection(state, settings, { readBy, sockmap, explain });
    this.#options = new LiveOptions(endpoint.family, members, settings, this.#selection);
    this.#membership = new Membership(state, bound, members, settings, this.#selection, this.#options);
    members.claim(...members.present);
    members.slots.forEach((member, slot) => {
      if (member) service.keeping?.keep(`slot.${slot}`, member.socket.fd);
    });
  }

  /**
   * Asks the kernel for listening sockets on one port and makes them a group.
   *
   * @throws {SpillwayError} naming what was wrong; everything that was opened is closed again. Codes:
   *   `ERR_SPILLWAY_OPTION_RANGE`, `…_OPTION_UNKNOWN`, `…_OPTION_TIER`, `…_HOST_UNKNOWN`, `…_ADDRESS_IN_USE`,
   *   `…_ADDRESS_UNAVAILABLE`, `…_PERMISSION`, `…_LIMIT`, `…_SELECTOR_UNAVAILABLE`.
   */
  static async open(options: OpenOptions): Promise<SocketGroup> {
    const opening = checkOpening({ ...options });
    const { asked } = opening;
    const wanted = await resolveEndpoint(opening.host, opening.port ?? 0);
    const backlog = asked.backlog ?? defaultFor('ebpf', 'backlog') ?? 511;
    const { endpoint, sockets } = openListeners(wanted, opening.sockets, asked, backlog);
    const { v6Only, freeBind, bindToDevice } = asked;
    return SocketGroup.#form(endpoint, sockets, { v6Only, freeBind, bindToDevice }, opening);
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
    const opening = checkAdoption({ ...options }, Array.isArray(fds) ? fds.length : 0);
    const { endpoint, sockets, bound } = adoptListeners(fds);
    const group = SocketGroup.#form(endpoint, sockets, bound, opening);
    const { asked } = opening;
    const undo: (() => void)[] = [];
    try {
      for (const name of OPTION_NAMES) {
        const value = asked[name];
        if (value === undefined || optionRow(name).scope !== 'listener') continue;
        const before = group.getOption(name);
        group.setOption(name, value);
        undo.unshift(() => group.setOption(name, before));
      }
      if (asked.backlog !== undefined) group.setOption('backlog', asked.backlog);
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
    bound: BoundOptions,
    opening: Opening,
  ): SocketGroup {
    try {
      if (sockets.some((socket) => isClaimed(inodeOf(socket)))) {
        throw new SpillwayError('ERR_SPILLWAY_BAD_FD', 'a socket in the list already belongs to a group');
      }
      const { weight = 1, enabled = true, cpu = -1, maxConnections = 0 } = opening.asked;
      const own = { weight, enabled, cpu, maxConnections, worker: { helps: false } };
      const members = new Members(
        sockets.map((socket) => memberOf(socket, own)),
        opening.capacity ?? Math.max(64, sockets.length),
      );
      const order = new JoinOrder(listenersAt(endpoint).map(({ inode }) => inode));
      return new SocketGroup({ endpoint, bound, members, order, adopted: undefined }, opening);
    } catch (error) {
      closeAll(sockets);
      throw isRefusedSocket(error) ? refusedSocket(error) : explain(error, 'cannot form the group');
    }
  }

  /**
   * @internal Goes on with a group of a process that has ended, whose descriptors were kept.
   *
   * @param kept by name, as they were kept; they are this function's, whatever becomes of it.
   * @throws {SpillwayError} what `open()` throws. The listeners are closed then, and what is queued there is reset unless
   *   somebody else has them.
   */
  static async adopt(
    { endpoint, bound, asked, capacity, order, members: rows, tier }: GroupSnapshot,
    kept: Map<string, number>,
    options: Pick<CommonOptions, 'onConnection' | 'service'>,
  ): Promise<SocketGroup> {
    const sockets: NativeSocket[] = [];
    try {
      const members = rows.map((row, slot): Member | undefined => {
        const fd = kept.get(`slot.${slot}`);
        if (!row || fd === undefined) return undefined;
        const socket: NativeSocket = new (native().Socket)('duplicate', fd);
        sockets.push(socket);
        return { ...row, ...memberOf(socket, { ...row, worker: { helps: false } }) };
      });
      return new SocketGroup(
        {
          endpoint,
          bound,
          members: new Members(members, capacity),
          order: new JoinOrder(order),
          adopted: tier && { ...tier, kept },
        },
        { ...options, asked, capacity, sockets: sockets.length },
      );
    } catch (error) {
      closeAll(sockets);
      throw explain(error, 'cannot go on with the group');
    } finally {
      for (const [name, fd] of kept) {
        closeSync(fd);
        // One that was opened when nobody knew of it yet.
        const [, slot] = /^slot\.(\d+)$/.exec(name) ?? [];
        if (slot !== undefined && !rows[Number(slot)]) options.service?.keeping?.drop(name);
      }
    }
  }

  /** @internal For {@link adopt}, by another process. */
  snapshot(): GroupSnapshot {
    this.#assertOpen();
    return {
      endpoint: this.#endpoint,
      bound: this.#bound,
      // The one in force: another process shall not look for a better one by itself.
      asked: { ...this.#settings.asked, selector: this.#selection.name },
      capacity: this.#members.capacity,
      order: [...this.#order.inodes],
      members: this.#members.slots.map((member) => {
        if (!member) return null;
        const { limit, weight, enabled, cpu, maxConnections } = member;
        return { limit, weight, enabled, cpu, maxConnections };
      }),
      tier: this.#selection.tier.snapshot(),
    };
  }

  /** Where the group listens; the port is the concrete one. */
  get address(): Endpoint {
    return { ...this.#endpoint };
  }

  /** Number of slots, with or without a socket: one more than the highest that was ever filled. */
  get size(): number {
    return this.#members.slots.length;
  }

  /** How many slots the group can grow to. */
  get capacity(): number {
    return this.#members.capacity;
  }

  /** With `selector: 'auto'`: why a better selector is not in force, in a sentence. */
  get notice(): string | undefined {
    return this.#selection.notice;
  }

  /** Whether `refuseNew()` is in force; it stays so until the group is closed. */
  get refusesNew(): boolean {
    return this.#selection.refusing;
  }

  /** Numbers of the slots that have a socket. */
  get slots(): number[] {
    return [...this.#members.slots.keys()].filter((slot) => this.has(slot));
  }

  /** Whether a socket is in the slot. */
  has(slot: number): boolean {
    return this.#members.slots[slot] !== undefined;
  }

  /**
   * Connections that wait to be accepted at a slot; 0 where a program has shut the listener down.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NO_SUCH_SLOT`
   */
  queue(slot: number): number {
    this.#assertOpen();
    return this.#members.at(slot).socket.acceptQueue()?.length ?? 0;
  }

  /** The descriptor of a slot's listener. It stays the group's: give it to a child, but do not close it. */
  fd(slot: number): number {
    this.#assertOpen();
    return this.#members.at(slot).socket.fd;
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
    this.#options.set(name, value, slot);
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
    return this.#options.get(name, slot);
  }

  /** The state of every socket and what has been decided since the selector in force took over. */
  stats(): GroupStats {
    this.#assertOpen();
    return gatherStats(this.address, this.#members, this.#selection);
  }

  /** @internal Of the {@link stats}, only what has been decided, for a fraction of their price. */
  decisions(): GroupStats['decisions'] {
    this.#assertOpen();
    return this.#selection.tier.decisions();
  }

  /** Descriptor of the listener whose queue is the waiting list; undefined: there is none. It stays the group's. */
  get waitingList(): number | undefined {
    this.#assertOpen();
    return this.#selection.tier.waitingList;
  }

  /** The waiting list at this moment, for a fraction of the price of the {@link stats}; undefined where there is none. */
  waiting(): WaitingCount | undefined {
    this.#assertOpen();
    return this.#selection.tier.waiting();
  }

  /** Connections that a worker has open, by its process id; undefined where that is not known. */
  connectionsOf(process: number): number | undefined {
    this.#assertOpen();
    return this.#selection.tier.connectionsOf(process);
  }

  /** @internal See {@link Tier.openClaims}. */
  openClaims(slot: number): ClaimsOfWorker | undefined {
    this.#assertOpen();
    return this.#selection.tier.openClaims(slot);
  }

  /**
   * @internal What is to be known of the worker that serves in a slot, from now on.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NO_SUCH_SLOT`
   */
  setWorker(slot: number, worker: WorkerInSlot): void {
    this.#assertOpen();
    this.#members.at(slot).worker = worker;
    this.#selection.tier.workerChanged(slot);
  }

  /**
   * One more socket, opened by the group or, with `fd`, a duplicate of an existing listener. It takes the first empty
   * slot, or the one that is named; slots below that one that have never been used stay empty.
   *
   * @returns the slot.
   * @throws {SpillwayError} `ERR_SPILLWAY_LIMIT` when all slots of the capacity are taken or the named one is beyond it,
   *   `ERR_SPILLWAY_OPTION_RANGE` when a socket is in the named one, `ERR_SPILLWAY_OPTION_TIER` for what the selector
   *   in force does not give (below `ebpf` another slot must be enabled), `ERR_SPILLWAY_BAD_FD`.
   */
  async add(options: AddOptions = {}): Promise<number> {
    this.#assertOpen();
    return this.#membership.add(options);
  }

  /**
   * Puts a fresh socket (or a duplicate of the listener behind `fd`) into a slot, with the options of the one before,
   * whose queue goes to the siblings. A program that still accepts from the old one gets EINVAL from then on.
   */
  async replace(slot: number, fd?: number): Promise<void> {
    this.#assertOpen();
    await this.#membership.replace(slot, fd);
  }

  /** @internal Puts a successor's listener into its slot. The one before leaves when nobody accepts from it any more. */
  async succeed(slot: number, fd: number, quiet: Promise<unknown>): Promise<void> {
    this.#assertOpen();
    await this.#membership.replace(slot, fd, quiet);
  }

  /**
   * @internal A listener for whoever is to follow in a slot: {@link succeed} puts it there. Only under `ebpf`, which gives
   * it nothing before.
   *
   * @throws {SpillwayError} what `add()` throws for a new socket.
   */
  openSuccessor(slot: number): number {
    this.#assertOpen();
    return this.#membership.openSuccessor(slot);
  }

  /** @internal One that is not wanted any more. */
  closeSuccessor(fd: number): void {
    this.#membership.closeSuccessor(fd);
  }

  /**
   * Takes a socket out of the group and closes it; its queue goes to the siblings. The slot stays empty until `add()`.
   * The promise is fulfilled when nothing more can arrive at it. A program that still accepts from it gets EINVAL.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NO_SIBLING` when no enabled socket could take the queue.
   */
  async remove(slot: number): Promise<void> {
    this.#assertOpen();
    await this.#membership.remove(slot);
  }

  /**
   * For a graceful stop: from the fulfilment on no new connection gets in, whatever the options of the group and its
   * slots are, or are set to later; only the selector cannot be changed any more. Who has been answered already gets in:
   * handshakes are finished, also those that come back with a SYN cookie, and what is queued waits to be accepted. There
   * is no way back. Called again it does nothing more.
   *
   * Under `ebpf` the kernel refuses every SYN at once (the client gets ECONNREFUSED). Under `cbpf` and `none` it drops
   * them, and the client's next SYN, a second after the first, then two, four and so on, is refused once the group is
   * closed. That takes two more descriptors until `close()`, no privilege, and a kernel with TCP signatures
   * (CONFIG_TCP_MD5SIG; not in FIPS mode). If this process ends without `close()`, other holders of the listeners are
   * given new connections again.
   *
   * After `close()` other holders of the listeners get nothing new either. Under `cbpf` and `none` that goes for
   * handshakes under way too, whose clients then wait for an answer until the last holder has closed: see
   * {@link handshakes}. Such a listener can still be emptied, but is of no use to another group.
   *
   * @returns whether it is so. False when nothing has changed because no further listener can be opened (descriptors,
   *   privileges that were dropped since the opening on a port below 1024, listeners of another user), or the kernel lacks
   *   what it takes.
   * @throws {SpillwayError} `ERR_SPILLWAY_CLOSED`; what the kernel refuses under `ebpf`.
   */
  async refuseNew(): Promise<boolean> {
    this.#assertOpen();
    return this.#selection.refuseNew();
  }

  /**
   * Handshakes that have begun at the group's address and port and can still become connections, now. To be asked while
   * the group refuses what is new, before it is closed.
   *
   * It is an estimate. Too high: with clients that never answer (the kernel gives one up after about a minute, see
   * tcp_synack_retries in tcp(7)), with those that say nothing yet under `deferAccept`, and, on a wildcard address, with
   * those of other services on the same port. Too low: clients that were answered with a SYN cookie are known to nobody,
   * and 0 is also the answer where the kernel cannot be asked (sock_diag(7) and proc(5) both fail, or no descriptor is
   * free). Without sock_diag(7) the kernel walks all of its connections for it.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_CLOSED`
   */
  handshakes(): number {
    this.#assertOpen();
    try {
      return new Set(halfOpenAt(this.#endpoint, this.#bound.v6Only ?? false).map(({ peer }) => peer)).size;
    } catch {
      return 0;
    }
  }

  /**
   * Takes the program off the kernel's group and closes the group's descriptors; what is queued at a socket that
   * nobody else holds is reset. Sockets that others hold go on, chosen by the kernel's own hash, unless the group
   * refuses what is new (see {@link refuseNew}). May be called twice.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#membership.closeSuccessors();
    for (const slot of this.#members.slots.keys()) this.#keeping?.drop(`slot.${slot}`);
    try {
      this.#selection.tier.stop(true);
    } finally {
      this.#members.closeAll();
    }
  }

  /** @internal Run time of the kernel program, for the benchmark; undefined below `ebpf`. */
  runTime(): { runs: number; nanoseconds: number } | undefined {
    const { tier } = this.#selection;
    return tier instanceof EbpfTier ? tier.runTime() : undefined;
  }

  /** @internal What would be chosen now, for tests; undefined below `ebpf` and unless the group was opened with `explain`. */
  explain(request: Partial<ChoiceRequest>): Explanation | undefined {
    const { tier } = this.#selection;
    return tier instanceof EbpfTier ? tier.explain(request) : undefined;
  }

  #assertOpen(): void {
    if (this.#closed) throw new SpillwayError('ERR_SPILLWAY_CLOSED', 'the group is closed');
  }
}
