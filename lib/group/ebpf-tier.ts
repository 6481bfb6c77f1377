/** The `ebpf` selector: the kernel reads the queues itself, at the SYN, and moves the queue of a listener that leaves. */
import { closeSync } from 'node:fs';
import { SpillwayError } from '../errors.js';
import { type NativeSelector, type NativeSocket, native, type SlotRow } from '../native.js';
import { Admissions } from './admissions.js';
import { buildBuckets } from './buckets.js';
import { buildChoices } from './choices.js';
import {
  COUNTERS,
  type Decisions,
  decisionsOf,
  OVERFLOWS,
  POLICIES,
  READINESS,
  READING,
  type Readiness,
  SLOT_COUNTERS,
  SLOT_ENABLED,
  SLOT_HELPS,
  STANDINGS,
} from './layout.js';
import { inodeOf } from './listeners.js';
import { buildPlaces } from './places.js';
import {
  type ClaimsOfWorker,
  type GroupState,
  type Member,
  openRescues,
  reachable,
  type SlotCount,
  type Tier,
  type TierCounts,
  type TierSnapshot,
  takeBackRescues,
  type WaitingCount,
  type WorkerInSlot,
} from './tier.js';
import { NoCastError } from './why.js';

export interface EbpfOptions {
  /** How the program reads a listener: `cast` needs Linux 6.2, `probe` works before it, `auto` takes what works. */
  readBy: 'auto' | 'cast' | 'probe';
  /** Keep the sockets in a SOCKMAP, which sk_lookup can use too; needs CAP_NET_ADMIN. */
  sockmap: boolean;
  /** Whether {@link EbpfTier.explain} is wanted. */
  explain: boolean;
}

/** struct spillway_request: what a choice is made from besides the slots, each from 0 to 2³² − 1. */
export interface ChoiceRequest {
  /** Of the connection. */
  hash: number;
  /** Of the client's address. */
  source: number;
  turn: number;
  cpu: number;
  /** The slot that was chosen last on that CPU. */
  warm: number;
}

/** As `warm`. */
const NOBODY = 2 ** 32 - 1;

/** A choice that would be made, and what it would be made from. */
export interface Explanation {
  /** The policy's first choice. */
  first: number;
  /** The best slot that was found; it may have no room. */
  chosen: number;
  slots: { standing: (typeof STANDINGS)[number]; readiness: Readiness; load: number; live: number }[];
}

let castFound: boolean | undefined;

function kernelHasCast(): boolean {
  castFound ??= native().kernelHasCast();
  return castFound;
}

/** Microseconds after which a worker that has not come back to its event loop is no longer believed to be about to. */
const LATE_AFTER = 1500;

/** Policies that compare open connections. */
const COUNTING_POLICIES: ReadonlySet<string> = new Set(['idle-first', 'least-connections', 'weighted']);

/** More than net.core.somaxconn ever is. */
const LONGEST_QUEUE = 2 ** 31 - 1;

/** Microseconds between two looks at promises and the waiting list where nobody is to be rescued. */
const LOOK_EVERY = 1000;

/** Microseconds between two looks for every slot there is: a look at many slots takes its time. */
const LOOK_PER_SLOT = 4;

function rowOf({ limit, weight, enabled, worker }: Member, instance: number): SlotRow {
  const flags = (enabled ? SLOT_ENABLED : 0) | helpOf(enabled, worker);
  return { limit, weight, flags, address: 0, hints: hintsOf(worker), instance };
}

/** One that is given nothing new is not asked to help either. */
function helpOf(enabled: boolean, { helps }: WorkerInSlot): number {
  return enabled && helps ? SLOT_HELPS : 0;
}

function hintsOf({ hints }: WorkerInSlot): number {
  return hints === undefined ? 0 : hints + 1;
}

/** How many times more than it has places a listener can never hold, also one that was given the queues of many. */
const BEYOND_ANY_LOAD = 2 ** 15;
/** Places that count: what is more would not fit a row. */
const MOST_PLACES = 2 ** 16;

/**
 * A slot while everything new is refused. Nobody is enabled then, and among those the program compares loads by weight,
 * for whom it still places: clients that have been answered. So the weight is the number of places, which puts whoever
 * has room before whoever is full, and slots that the owner had disabled behind all others.
 */
function refusingRowOf({ limit, enabled, worker }: Member, instance: number): SlotRow {
  const places = Math.min(limit + 1, MOST_PLACES);
  return {
    limit,
    weight: enabled ? places * BEYOND_ANY_LOAD : 1,
    flags: helpOf(enabled, worker),
    address: 0,
    hints: hintsOf(worker),
    instance,
  };
}

export class EbpfTier implements Tier {
  readonly name = 'ebpf';
  readonly #group: GroupState;
  readonly #selector: NativeSelector;
  readonly #admissions: Admissions;
  #sink: NativeSocket | undefined;
  #waiting: NativeSocket | undefined;
  #closeRescues: (() => void) | undefined;
  /** What the tables in force were made from, by policy. */
  readonly #tables = new Map<string, string>();
  /** Who the kernel's knowledge is about, by slot. */
  readonly #processes = new Map<number, number>();
  #refusing = false;

  /** Loads and attaches the program. Throws the addon's errors and leaves nothing behind when it does. */
  constructor(group: GroupState, { readBy, sockmap, explain }: EbpfOptions) {
    const readByCast = readBy === 'cast' || (readBy === 'auto' && kernelHasCast());
    if (readBy === 'cast' && !kernelHasCast()) throw new NoCastError();
    this.#group = group;
    const { capacity, hints = -1 } = group;
    const { adopted } = group;
    const parts = adopted ? Object.fromEntries(partsOf(adopted.kept)) : {};
    this.#selector = new (native().Selector)({ capacity, sockmap, readByCast, explain, hints, parts });
    this.#admissions = new Admissions(this.#selector, adopted?.admissions);
    try {
      if (this.#counts) this.#admissions.start();
      group.members.forEach((member, slot) => {
        if (!member) {
          // What a process before this one was about to clear.
          if (adopted) this.#selector.clearSlot(slot);
          return;
        }
        if (this.#admissions.rowOf(slot) === 0) this.#admissions.open(slot, member.maxConnections);
        // One that another holder has shut down is no longer in the kernel's group and cannot be taken into the map.
        if (member.socket.acceptQueue())
          this.#selector.setSlot(slot, member.socket, this.#rowOf(member, slot));
      });
      this.#configure();
      const socket = reachable(group.members);
      if (socket) this.#selector.attach(socket);
      this.#openSink();
      this.#openList();
      this.#keepParts();
      this.#closeRescues = openRescues(group, this.#selector.orders);
    } catch (error) {
      this.stop(true);
      throw error;
    }
  }

  /** To be called while the program is attached: the kernel's own hash would feed the sink. */
  #openSink(): void {
    const { order, keeping } = this.#group;
    try {
      this.#sink = this.#takeOver('sink') ?? this.#group.newSocket();
      // The filter comes before listen(): nobody may find a listener that answers but never accepts.
      this.#selector.discardEverything(this.#sink);
      this.#sink.listen(0);
      order.joined(inodeOf(this.#sink));
      this.#selector.setSink(this.#sink);
      keeping?.keep('sink', this.#sink.fd);
    } catch (error) {
      this.closeSink();
      // The listeners may be another user's, who alone may open one more: then this selector is of no use here.
      throw error instanceof SpillwayError ? new Error(`the sink cannot be opened: ${error.message}`) : error;
    }
  }

  /** To be called before the program is replaced or taken off. Who is on the waiting list is reset. */
  closeSink(): void {
    const { order } = this.#group;
    this.#selector.clearWaiting();
    for (const socket of [this.#sink, this.#waiting]) {
      if (!socket) continue;
      const inode = inodeOf(socket);
      // Workers have duplicates of the list, which would stay in the kernel's group.
      if (socket === this.#waiting) socket.shutdown();
      socket.close();
      order.left(inode);
    }
    for (const name of ['sink', 'list']) this.#group.keeping?.drop(name);
    this.#sink = undefined;
    this.#waiting = undefined;
  }

  /** A listener that the process before this one has left. */
  #takeOver(name: string): NativeSocket | undefined {
    const fd = this.#group.adopted?.kept.get(name);
    if (fd === undefined) return undefined;
    this.#group.adopted?.kept.delete(name);
    try {
      return new (native().Socket)('duplicate', fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Everything that the next process needs to go on with this program's work. */
  #keepParts(): void {
    const { keeping } = this.#group;
    if (!keeping) return;
    for (const [name, fd] of Object.entries(this.#selector.parts())) keeping.keep(`part.${name}`, fd);
  }

  snapshot(): TierSnapshot {
    return { admissions: this.#admissions.snapshot() };
  }

  /**
   * The listener whose queue is the waiting list, if there has to be one. Once there, it stays as long as the program: it
   * may never be empty. To be called while the program is attached, as for the sink.
   */
  #openList(): void {
    const { waitLimit } = this.#group.settings(this.name);
    const left = this.#waiting ? undefined : this.#takeOver('list');
    if (!this.#waiting && (left || this.#needsList)) {
      this.#waiting = left ?? this.#group.newSocket();
      // The program keeps to waitLimit; the kernel would drop the last ACK of a client that believes it is connected.
      this.#waiting.listen(LONGEST_QUEUE);
      this.#group.order.joined(inodeOf(this.#waiting));
      this.#selector.setWaiting(this.#waiting);
      this.#group.keeping?.keep('list', this.#waiting.fd);
      this.#configure();
    }
    const limit = this.#waiting?.acceptQueue()?.limit ?? waitLimit;
    if (limit >= waitLimit) return;
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `waitLimit cannot be ${waitLimit}: the kernel allows a queue of ${limit}`,
      { hint: 'Raise net.core.somaxconn, or lower waitLimit.' },
    );
  }

  /**
   * With a limit, clients that believe they are connected may find nobody who may have one more. They wait as well, where
   * anybody takes them from there.
   */
  get #needsList(): boolean {
    return this.#group.settings(this.name).overflow === 'wait' || (this.#limits && this.#group.takesWaiting);
  }

  get #limits(): boolean {
    return this.#group.members.some((member) => (member?.maxConnections ?? 0) > 0);
  }

  get #reserves(): boolean {
    return this.#limits || this.#group.settings(this.name).exclusiveHandover;
  }

  /** Whether it is kept of each connection whose it is, which costs more than to count it for its listener's owner. */
  get #tracks(): boolean {
    const { policy, countConnections } = this.#group.settings(this.name);
    return countConnections || policy === 'least-connections' || policy === 'weighted' || this.#reserves;
  }

  get #counts(): boolean {
    const { policy, countConnections } = this.#group.settings(this.name);
    return countConnections || COUNTING_POLICIES.has(policy) || this.#reserves;
  }

  changed(): void {
    this.#configure();
    this.#group.members.forEach((member, slot) => {
      if (!member) return;
      this.#admissions.limit(slot, member.maxConnections);
      this.#selector.updateSlot(slot, this.#rowOf(member, slot));
    });
    this.#openList();
  }

  get waitingList(): number | undefined {
    return this.#waiting?.fd;
  }

  openClaims(slot: number): ClaimsOfWorker | undefined {
    const row = this.#admissions.rowOf(slot);
    if (!row || !this.#tracks) return undefined;
    const { sender, receiver, key } = this.#selector.openClaims(row);
    return { sender, receiver, end: () => this.#selector.endClaims(key) };
  }

  connectionsOf(process: number): number | undefined {
    return this.#admissions.of(process)?.open;
  }

  workerChanged(slot: number): void {
    const member = this.#group.members[slot];
    if (!member) return;
    const { process } = member.worker;
    if (process !== undefined && process !== this.#processes.get(slot)) {
      this.#processes.set(slot, process);
      this.#selector.forgetWorker(slot);
      const anew = this.#admissions.introduce(slot, process, member.maxConnections);
      if (anew) this.#selector.tag(member.socket, this.#admissions.rowOf(slot));
    }
    this.#selector.updateSlot(slot, this.#rowOf(member, slot));
  }

  get refusing(): boolean {
    return this.#refusing;
  }

  /**
   * From the return on every SYN is refused, and whatever the group changes, that stays. Clients that have been answered
   * are given places as before.
   */
  refuseNew(): void {
    this.#refusing = true;
    // The overflow policy comes first: otherwise a SYN between the two would be dropped in silence.
    this.changed();
  }

  placed(slot: number, before: Member | undefined): void {
    const member = this.#group.members[slot];
    if (!member) return;
    const takeBack = this.#admissions.open(slot, member.maxConnections);
    this.#processes.delete(slot);
    try {
      this.#selector.setSlot(slot, member.socket, this.#rowOf(member, slot));
      // The kernel's group may have lost all its members meanwhile, and with them the program.
      this.#selector.attach(member.socket);
      this.#group.rescues?.placed(slot, member.socket.fd);
      this.#configure();
    } catch (error) {
      takeBack();
      if (before) this.#selector.setSlot(slot, before.socket, this.#rowOf(before, slot));
      else this.#selector.clearSlot(slot);
      takeBackRescues(this.#group, slot, before);
      throw error;
    }
    this.#group.order.joined(member.inode);
  }

  async leave(slot: number, socket: NativeSocket, inode: number): Promise<void> {
    try {
      if (!this.#group.members[slot]) {
        this.#group.rescues?.left(slot);
        this.#selector.clearSlot(slot);
        this.#admissions.left(slot);
        this.#configure();
      }
    } finally {
      // Moves the queue, and marks half-open requests to be moved when their last ACK or their timer comes.
      try {
        socket.shutdown();
      } finally {
        this.#selector.untag(socket);
        socket.close();
        this.#group.order.left(inode);
      }
    }
  }

  counts(): TierCounts {
    const size = this.#group.members.length;
    const readings = this.#selector.readings(size);
    const counters = this.#selector.slotCounters(size);
    const totals = this.#selector.counters();
    const slots: SlotCount[] = [];
    for (let slot = 0; slot < size; slot++) {
      const counter = (word: number) => counters[slot * SLOT_COUNTERS.words + word] ?? 0;
      const reading = (word: number) => readings[slot * READING.words + word] ?? 0;
      const isThere = STANDINGS[reading(READING.standing)] !== 'absent';
      const isCounted = isThere && this.#admissions.rowOf(slot) !== 0;
      slots.push({
        halfOpen: reading(READING.halfOpen),
        readiness: isThere ? (READINESS[reading(READING.readiness)] ?? null) : null,
        chosen: {
          syn: counter(SLOT_COUNTERS.syn),
          cookieAck: counter(SLOT_COUNTERS.cookieAck),
          migration: counter(SLOT_COUNTERS.migrated),
        },
        redirectedIn: counter(SLOT_COUNTERS.redirectedIn),
        redirectedOut: counter(SLOT_COUNTERS.redirectedOut),
        connections: isCounted ? reading(READING.open) : null,
        promised: isCounted ? reading(READING.promised) : null,
      });
    }
    const decisions = decisionsOf(totals);
    const { first, redirected } = decisions.migration;
    const waiting = this.#waiting ? listOf(readings.subarray(size * READING.words)) : null;
    return { slots, decisions, stale: totals[COUNTERS.stale] ?? 0, migrated: first + redirected, waiting };
  }

  waiting(): WaitingCount | undefined {
    return this.#waiting && listOf(this.#selector.readings(0));
  }

  decisions(): Decisions {
    return decisionsOf(this.#selector.counters());
  }

  /** Runs of the selector and the time they took, while run-time accounting is on. For benchmarks. */
  runTime(): { runs: number; nanoseconds: number } {
    return this.#selector.runTime();
  }

  /** What would be chosen now of these numbers, and what each slot looks like. */
  explain({ hash = 0, source = 0, turn = 0, cpu = 0, warm = NOBODY }: Partial<ChoiceRequest>): Explanation {
    const { first, chosen } = this.#selector.explain(hash, source, turn, cpu, warm);
    const readings = this.#selector.readings(this.#group.members.length);
    const slots = this.#group.members.map((_, slot) => {
      const word = (at: number) => readings[slot * READING.words + at] ?? 0;
      return {
        standing: STANDINGS[word(READING.standing)] ?? 'absent',
        readiness: READINESS[word(READING.readiness)] ?? 'late',
        load: word(READING.load),
        live: word(READING.open),
      };
    });
    return { first, chosen, slots };
  }

  stop(detach: boolean): void {
    this.#closeRescues?.();
    try {
      this.closeSink();
      // While it refuses, the program stays: without it a client could connect to a listener that is about to be closed.
      // It goes with the last listener of the kernel's group.
      if (detach && !this.#refusing) reachable(this.#group.members)?.detachProgram();
    } finally {
      for (const name of Object.keys(this.#selector.parts())) this.#group.keeping?.drop(`part.${name}`);
      this.#selector.close();
    }
  }

  resume(): void {
    this.#closeRescues = openRescues(this.#group, this.#selector.orders);
    this.#openSink();
    this.changed();
  }

  #rowOf(member: Member, slot: number): SlotRow {
    const instance = this.#admissions.rowOf(slot);
    return this.#refusing ? refusingRowOf(member, instance) : rowOf(member, instance);
  }

  /** Those that are open already are not counted. */
  #startCounting(): void {
    if (this.#admissions.counting) return;
    this.#admissions.start();
    this.#keepParts();
    this.#group.members.forEach((member, slot) => {
      if (!member) return;
      this.#admissions.open(slot, member.maxConnections);
      this.#selector.updateSlot(slot, this.#rowOf(member, slot));
      if (member.socket.acceptQueue()) this.#selector.tag(member.socket, this.#admissions.rowOf(slot));
    });
    this.#processes.clear();
    this.#group.members.forEach((_, slot) => {
      this.workerChanged(slot);
    });
  }

  /** Microseconds; 0: nobody needs anything that is only seen by looking. */
  #tick(rescue: number): number {
    const every = rescue || (this.#reserves || this.#needsList ? LOOK_EVERY : 0);
    return every && Math.max(every, this.#group.members.length * LOOK_PER_SLOT);
  }

  /** Large tables are only written when what they are made from has changed. */
  #setTable(name: string, from: readonly number[], set: () => void): void {
    const key = from.join();
    if (this.#tables.get(name) === key) return;
    set();
    this.#tables.set(name, key);
  }

  #configure(): void {
    const { members, deferring, rescues } = this.#group;
    const settings = this.#group.settings(this.name);
    const weights = members.map((member) => (member?.enabled ? member.weight : 0));
    const { policy } = settings;
    this.#selector.setChoices(buildChoices(weights));
    if (policy === 'sticky')
      this.#setTable(policy, weights, () => this.#selector.setBuckets(buildBuckets(weights)));
    if (this.#counts) this.#startCounting();
    if (policy === 'local-cpu') {
      const places = members.map((member) => (member?.enabled ? member.cpu : -1));
      this.#setTable(policy, places, () => this.#selector.setCpus(...buildPlaces(members)));
    }
    this.#selector.setConfig({
      slots: members.length,
      policy: POLICIES[policy],
      overflow: OVERFLOWS[this.#refusing ? 'reset' : settings.overflow],
      migrate: settings.migrate ? 1 : 0,
      rankByYoung: deferring ? 1 : 0,
      equal: weights.every((weight) => weight > 0 && weight === weights[0]) ? 1 : 0,
      // A client that was promised one worker is not given to another because that one is slow.
      rescue: rescues && settings.rescue > 0 && policy !== 'sticky' ? 1 : 0,
      tick: this.#tick(settings.rescue),
      fresh: LATE_AFTER,
      reserve: this.#reserves ? 1 : 0,
      exclusive: settings.exclusiveHandover ? 1 : 0,
      waitingLimit: settings.waitLimit - 1,
      patience: settings.waitTimeout,
      track: this.#tracks ? 1 : 0,
    });
  }
}

/** The parts among what was kept; they are the caller's. */
function partsOf(kept: ReadonlyMap<string, number>): [string, number][] {
  return [...kept].flatMap(([name, fd]) =>
    name.startsWith('part.') ? [[name.slice('part.'.length), fd]] : [],
  );
}

/** The waiting list, from its reading. */
function listOf(reading: Uint32Array): WaitingCount {
  const word = (at: number) => reading[at] ?? 0;
  return { length: word(READING.queue), halfOpen: word(READING.halfOpen), age: word(READING.load) };
}

/** Kept here so that the group need not know how the program reports a socket it cannot take. */
export function isRefusedSocket(error: unknown): boolean {
  const { code, syscall } = error as { code?: string; syscall?: string };
  return (
    syscall === 'bpf(MAP_UPDATE_ELEM sockets)' &&
    ['EBUSY', 'EINVAL', 'ENOTSUPP', 'EOPNOTSUPP'].includes(code ?? '')
  );
}

export function refusedSocket(error: unknown): SpillwayError {
  const { code } = error as { code?: string };
  const why =
    code === 'EBUSY' ? 'already belongs to a group' : 'cannot join the reuseport group of the others';
  return new SpillwayError('ERR_SPILLWAY_BAD_FD', `a socket in the list ${why} (${code})`, { cause: error });
}
