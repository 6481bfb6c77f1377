/** One port of a service: its socket group, kept true to the workers that listen on it. */
import { closeSync } from 'node:fs';
import type { SpillwayError } from '../errors.js';
import type { ServiceLinks } from '../group/arguments.js';
import { type GroupSnapshot, type OpenOptions, SocketGroup } from '../group/group.js';
import type { Handover } from './handover.js';
import type { InheritedListener } from './protocol.js';
import { QueueTaker } from './queue-taker.js';
import { WaitingList } from './waiting-list.js';
import type { WorkerProcess } from './worker-process.js';

/** What a port is asked for, and found again by. */
export interface PortRequest {
  /** Host name or address; undefined: all addresses. */
  host: string | undefined;
  port: number;
  v6Only?: boolean;
}

/** What has to be known of a port to go on with it. Plain data. */
export interface PortSnapshot {
  id: number;
  request: PortRequest;
  declared: boolean;
  group: GroupSnapshot;
}

/** What a port needs of its master. */
export interface Surroundings {
  handover: Handover;
  /** Whether connections can be handed to the program, which takes Node. */
  canHand: boolean;
  /** What the kernel is told of the workers, and who carries out rescues. */
  links: ServiceLinks;
  /** Is told what goes wrong with the connections at a listener that nobody accepts from. */
  report: (error: Error) => void;
}

/** Who is at a slot; empty for one that waits for its next worker. */
export type Staff = ReadonlyMap<number, readonly WorkerProcess[]>;

/**
 * The group has a slot for every slot of the master, of the same number. Its listeners exist before the workers listen,
 * and the kernel queues for them: until the first worker listens every slot takes connections, so that no early client is
 * lost. From then on only slots whose worker listens, and is not stuck, are given new ones (below `cbpf` the selector cannot
 * pass a slot by). What is queued where nobody accepts is accepted here and handed to a worker that does.
 */
export class Port {
  readonly id: number;
  readonly group: SocketGroup;
  /** Whether it was asked for by the owner of the master, and not by a program. */
  readonly declared: boolean;
  readonly #request: PortRequest;
  readonly #taker: QueueTaker;
  readonly #list: WaitingList;
  /** Listeners of those who are to follow others, by slot. */
  readonly #successors = new Map<number, { fd: number; worker?: WorkerProcess }>();
  readonly #report: (error: Error) => void;
  /** Slots that are to be given nothing more, and shall leave. */
  readonly #retiring = new Set<number>();
  /** Slots that have been vacated, and to which nothing new has been led since. */
  readonly #vacated = new Set<number>();
  readonly #canHand: boolean;
  /** Whom the group knows of, by slot. */
  readonly #introduced = new Map<number, { worker: WorkerProcess | undefined }>();
  #staff: Staff = new Map();
  #closed = false;

  private constructor(
    id: number,
    group: SocketGroup,
    request: PortRequest,
    declared: boolean,
    { handover, canHand, report }: Surroundings,
  ) {
    this.id = id;
    this.group = group;
    this.declared = declared;
    this.#request = request;
    this.#canHand = canHand;
    this.#report = report;
    this.#list = new WaitingList(id, group);
    this.#taker = new QueueTaker({
      take: (fd) => handover.give(fd, id),
      hasRoom: () => handover.hasRoom(id),
      report,
    });
  }

  /**
   * @throws {SpillwayError} what {@link SocketGroup.open} throws.
   */
  static async open(
    id: number,
    request: PortRequest,
    slots: number,
    options: Omit<OpenOptions, 'sockets' | 'host' | 'port'>,
    surroundings: Surroundings & { declared: boolean },
  ): Promise<Port> {
    const { declared, handover, canHand, links } = surroundings;
    const give = canHand
      ? (fd: number) => handover.give(fd, id)
      : // No program but Node's can be given a connection: the client learns at once that it has to try again.
        (fd: number) => closeSync(fd);
    const { host, port, v6Only } = request;
    const group = await SocketGroup.open({
      ...options,
      ...(host === undefined ? {} : { host }),
      port,
      ...(v6Only === undefined ? {} : { v6Only }),
      sockets: slots,
      onConnection: give,
      service: links,
    });
    return new Port(id, group, request, declared, surroundings);
  }

  /**
   * Goes on with a port of a master that has ended.
   *
   * @param kept the group's descriptors; they are this function's.
   * @throws {SpillwayError} what {@link SocketGroup.adopt} throws.
   */
  static async adopt(
    { id, request, declared, group: left }: PortSnapshot,
    kept: Map<string, number>,
    surroundings: Surroundings,
  ): Promise<Port> {
    const { handover, canHand, links } = surroundings;
    const give = canHand ? (fd: number) => handover.give(fd, id) : (fd: number) => closeSync(fd);
    const group = await SocketGroup.adopt(left, kept, { onConnection: give, service: links });
    return new Port(id, group, request, declared, surroundings);
  }

  snapshot(): PortSnapshot {
    return { id: this.id, request: this.#request, declared: this.declared, group: this.group.snapshot() };
  }

  get isOpen(): boolean {
    return !this.#closed;
  }

  /** The slot's listener, with the descriptor that stays the group's. */
  listener(slot: number): InheritedListener {
    const { address, family, port } = this.group.address;
    return {
      id: this.id,
      fd: this.group.fd(slot),
      address,
      family,
      port,
      ...(this.#request.host === undefined ? {} : { host: this.#request.host }),
      v6Only: this.group.getOption('v6Only') === true,
    };
  }

  /**
   * A listener for whoever is to follow in the slot, while the one before still serves. Where connections are limited it is
   * one of its own, so that each has what it was given; otherwise they share it.
   */
  successor(slot: number): InheritedListener {
    const shared = this.listener(slot);
    if (this.group.getOption('selector') !== 'ebpf' || this.group.getOption('maxConnections', slot) === 0)
      return shared;
    this.#forgetSuccessor(slot);
    const fd = this.group.openSuccessor(slot);
    this.#successors.set(slot, { fd });
    return { ...shared, fd };
  }

  /** Whose {@link successor} that was. */
  follows(slot: number, worker: WorkerProcess): void {
    const successor = this.#successors.get(slot);
    if (!successor || successor.worker) return;
    this.#successors.set(slot, { ...successor, worker });
    worker.on('exit', () => {
      if (this.#successors.get(slot)?.worker === worker) this.#forgetSuccessor(slot);
    });
  }

  /** Who is given what comes to a slot. */
  servedAt(slot: number): WorkerProcess | undefined {
    return this.#staff.get(slot)?.find((worker) => worker.serves(this.id));
  }

  /** Makes sure that the slot has a listener, which is given nothing before somebody listens there. */
  async fill(slot: number): Promise<void> {
    this.#retiring.delete(slot);
    this.#vacated.delete(slot);
    if (this.#has(slot)) return;
    this.#introduced.delete(slot);
    await this.group.add({ slot, enabled: this.group.getOption('selector') === 'none' });
  }

  /**
   * Makes the slots agree with the workers.
   *
   * @param staff the workers of every slot; slots that are not in it are left alone.
   */
  agree(staff: Staff): void {
    if (this.#closed) return;
    this.#staff = staff;
    for (const [slot, { worker, fd }] of this.#successors)
      if (worker && this.#has(slot) && this.servedAt(slot) === worker) this.#succeed(slot, worker, fd);
    for (const [slot, workers] of staff) if (this.#has(slot)) this.#introduce(slot, workers);
    const slots = [...staff.keys()].filter((slot) => this.#has(slot));
    const serving = new Set<number>();
    const free = new Set<number>();
    let canHelp = false;
    for (const slot of slots) {
      for (const worker of staff.get(slot) ?? []) {
        if (!worker.serves(this.id)) continue;
        serving.add(slot);
        if (!worker.stuck) free.add(slot);
        canHelp ||= this.#canHand && worker.canTake(this.id);
      }
    }
    if (this.group.getOption('selector') !== 'none') this.#choose(slots, takers(slots, serving, free, staff));
    // What was promised to one worker may be more than another has room for.
    const mayMove = canHelp && !this.#isLimited;
    const unattended = mayMove ? slots.filter((slot) => !free.has(slot)) : [];
    this.#taker.only(new Map(unattended.map((slot) => [slot, this.group.fd(slot)])));
  }

  /**
   * The slot's worker has gone: what it had queued goes to the siblings, and a fresh listener takes its place. Where nobody
   * can take it now, the queue stays where it is, for the next worker, who inherits the listener.
   *
   * Below `ebpf` the queue moves through the master's hands, and nothing but a Node program can be handed a connection: a
   * command's queue stays for its successor. Under `cbpf` nothing new joins it if a sibling is free.
   *
   * @param forGood nobody follows in the slot. A queue that nobody can be handed is given up then: its clients learn at
   *   once that they have to connect again, and the kernel's hash leads nobody there any more.
   */
  async vacate(slot: number, { forGood = false } = {}): Promise<void> {
    if (this.#closed || !this.#has(slot) || this.#vacated.has(slot)) return;
    if (!(forGood ? this.#hasEnabledSibling(slot) : this.#canMove(slot))) return;
    this.#vacated.add(slot);
    // It has the listener that is about to leave.
    this.#taker.without(slot);
    // Where the selector cannot pass the slot by, a fresh listener in it would go on getting connections.
    if (this.group.getOption('selector') === 'none') await this.group.remove(slot);
    else await this.group.replace(slot);
  }

  /** The slot is given nothing more; {@link remove} follows when its worker has closed its server. */
  retire(slot: number): void {
    this.#retiring.add(slot);
  }

  /** Takes the slot's listener out of the group; what is queued there goes to the siblings. */
  async remove(slot: number): Promise<void> {
    if (this.#closed || !this.#has(slot)) return;
    this.#taker.without(slot);
    await this.group.remove(slot);
  }

  /**
   * Lets nobody new in; what is queued can still be accepted, and handshakes that have begun can end. Where that is not
   * possible the queues are made so short that few get in, and the answer is false.
   */
  async refuseNew(): Promise<boolean> {
    if (this.#closed || (await this.group.refuseNew())) return true;
    this.group.setOption('backlog', 1);
    return false;
  }

  /** Handshakes that have begun and may still become connections. */
  get handshakes(): number {
    return this.#closed ? 0 : this.group.handshakes();
  }

  /** Connections that wait to be accepted, those on the waiting list included. */
  get queued(): number {
    if (this.#closed) return 0;
    const { length = 0 } = this.group.waiting() ?? {};
    return this.group.slots.reduce((sum, slot) => sum + this.group.queue(slot), length);
  }

  /** Connections that wait to be accepted at a slot. */
  queuedAt(slot: number): number {
    return this.#closed || !this.#has(slot) ? 0 : this.group.queue(slot);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#taker.close();
    this.#list.close();
    this.group.close();
  }

  get #isLimited(): boolean {
    return this.group.slots.some((slot) => this.group.getOption('maxConnections', slot) > 0);
  }

  /** Its worker serves now, and has this listener; what is queued at the one before goes to all of them. */
  #succeed(slot: number, worker: WorkerProcess, fd: number): void {
    this.#successors.delete(slot);
    this.#taker.without(slot);
    const others = (this.#staff.get(slot) ?? []).filter((other) => other !== worker);
    this.group.succeed(slot, fd, Promise.all(others.map((other) => other.quiet()))).catch(this.#report);
  }

  #forgetSuccessor(slot: number): void {
    const successor = this.#successors.get(slot);
    this.#successors.delete(slot);
    if (successor && !this.#closed) this.group.closeSuccessor(successor.fd);
  }

  #has(slot: number): boolean {
    return this.group.has(slot);
  }

  #hasEnabledSibling(slot: number): boolean {
    return this.group.slots.some((other) => other !== slot && this.group.getOption('enabled', other));
  }

  /** Whether a sibling can take the slot's queue now: by the kernel under `ebpf`, from the master's hands below it. */
  #canMove(slot: number): boolean {
    const byKernel = this.group.getOption('selector') === 'ebpf';
    if (!byKernel && !this.#canHand) return false;
    const canTake = (worker: WorkerProcess) =>
      byKernel ? worker.serves(this.id) && !worker.stuck : worker.canTake(this.id);
    return this.group.slots.some(
      (other) =>
        other !== slot &&
        this.group.getOption('enabled', other) &&
        (this.#staff.get(other) ?? []).some(canTake),
    );
  }

  /** Tells the kernel what there is to know of who serves in a slot. */
  #introduce(slot: number, workers: readonly WorkerProcess[]): void {
    const serving = workers.find((worker) => worker.canTake(this.id));
    const hints = serving?.links?.hints;
    const row = hints?.inKernel ? hints.row : undefined;
    const known = this.#introduced.get(slot);
    const helps = serving !== undefined;
    if (!known || known.worker !== serving) {
      this.#introduced.set(slot, { worker: serving });
      this.group.setWorker(slot, {
        process: serving?.pid,
        hints: row,
        helps,
        loop: hints && (() => hints.read()),
      });
    }
    this.#list.serves(slot, serving);
  }

  /** The first of the waiting list has waited for longer than it may. */
  expire(): void {
    if (!this.#closed) this.#list.expire();
  }

  /** Enabling comes first: below `ebpf` one slot must be enabled at any time. */
  #choose(slots: readonly number[], wanted: ReadonlySet<number>): void {
    for (const slot of wanted) if (!this.#retiring.has(slot)) this.#enable(slot, true);
    for (const slot of slots) if (!wanted.has(slot) || this.#retiring.has(slot)) this.#enable(slot, false);
  }

  #enable(slot: number, enabled: boolean): void {
    if (this.group.getOption('enabled', slot) === enabled) return;
    if (enabled) this.#vacated.delete(slot);
    try {
      this.group.setOption('enabled', enabled, slot);
    } catch (error) {
      // Below `ebpf` the last enabled slot stays so: its queue waits for a worker that listens again.
      if ((error as SpillwayError).code !== 'ERR_SPILLWAY_OPTION_TIER') throw error;
    }
  }
}

/**
 * Those that shall be given connections: where somebody is free; while nobody is, where somebody listens; while nobody
 * does, where somebody is going to; while nobody is, all.
 */
function takers(
  slots: readonly number[],
  serving: ReadonlySet<number>,
  free: ReadonlySet<number>,
  staff: Staff,
): ReadonlySet<number> {
  if (free.size > 0) return free;
  if (serving.size > 0) return serving;
  const starting = slots.filter((slot) => staff.get(slot)?.some(({ state }) => state === 'starting'));
  return new Set(starting.length > 0 ? starting : slots);
}
