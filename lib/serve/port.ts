/** One port of a service: its socket group, kept true to the workers that listen on it. */
import { closeSync } from 'node:fs';
import type { SpillwayError } from '../errors.js';
import { type OpenOptions, SocketGroup } from '../group/group.js';
import type { Handover } from './handover.js';
import type { InheritedListener } from './protocol.js';
import { QueueTaker } from './queue-taker.js';
import type { WorkerProcess } from './worker-process.js';

/** What a port is asked for, and found again by. */
export interface PortRequest {
  /** Host name or address; undefined: all addresses. */
  host: string | undefined;
  port: number;
  v6Only?: boolean;
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
  readonly #host: string | undefined;
  readonly #taker: QueueTaker;
  /** Slots that are to be given nothing more, and shall leave. */
  readonly #retiring = new Set<number>();
  readonly #canHand: boolean;
  #closed = false;

  private constructor(
    id: number,
    group: SocketGroup,
    request: PortRequest,
    declared: boolean,
    handover: Handover,
    canHand: boolean,
  ) {
    this.id = id;
    this.group = group;
    this.declared = declared;
    this.#host = request.host;
    this.#canHand = canHand;
    this.#taker = new QueueTaker((fd) => handover.give(fd, id));
  }

  /**
   * @param canHand whether connections can be handed to the program, which takes Node.
   * @throws {SpillwayError} what {@link SocketGroup.open} throws.
   */
  static async open(
    id: number,
    request: PortRequest,
    slots: number,
    options: Omit<OpenOptions, 'sockets' | 'host' | 'port'>,
    { declared, handover, canHand }: { declared: boolean; handover: Handover; canHand: boolean },
  ): Promise<Port> {
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
    });
    return new Port(id, group, request, declared, handover, canHand);
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
      ...(this.#host === undefined ? {} : { host: this.#host }),
      v6Only: this.group.getOption('v6Only') === true,
    };
  }

  /** Makes sure that the slot has a listener, which is given nothing before somebody listens there. */
  async fill(slot: number): Promise<void> {
    this.#retiring.delete(slot);
    if (this.#has(slot)) return;
    await this.group.add({ slot, enabled: this.group.getOption('selector') === 'none' });
  }

  /**
   * Makes the slots agree with the workers.
   *
   * @param staff the workers of every slot; slots that are not in it are left alone.
   */
  agree(staff: Staff): void {
    if (this.#closed) return;
    const slots = [...staff.keys()].filter((slot) => this.#has(slot));
    const servers = (slot: number) => (staff.get(slot) ?? []).filter((worker) => worker.serves(this.id));
    const serving = slots.filter((slot) => servers(slot).length > 0);
    const free = serving.filter((slot) => servers(slot).some(({ stuck }) => !stuck));
    if (this.group.getOption('selector') !== 'none') this.#choose(slots, takers(slots, serving, free, staff));
    const unattended = slots.filter((slot) => !free.includes(slot));
    const canHelp =
      this.#canHand && slots.some((slot) => servers(slot).some((each) => each.canTake(this.id)));
    this.#taker.only(new Map(canHelp ? unattended.map((slot) => [slot, this.group.fd(slot)]) : []));
  }

  /**
   * The slot's worker has gone: what it had queued goes to the siblings, and a fresh listener takes its place. Without
   * anybody who could take it the queue stays where it is, for the next one.
   */
  async vacate(slot: number): Promise<void> {
    if (this.#closed || !this.#has(slot) || !this.#hasSibling(slot)) return;
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
   * Refuses what is new; what is queued can still be accepted. Below `ebpf` nobody can be refused, but the queues are made
   * so short that few get in.
   */
  refuseNew(): void {
    if (this.#closed || this.group.refuseNew()) return;
    this.group.setOption('backlog', 1);
  }

  /** Connections that wait to be accepted. */
  get queued(): number {
    if (this.#closed) return 0;
    return this.group.slots.reduce((sum, slot) => sum + this.group.queue(slot), 0);
  }

  /** Connections that wait to be accepted at a slot. */
  queuedAt(slot: number): number {
    return this.#closed || !this.#has(slot) ? 0 : this.group.queue(slot);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#taker.close();
    this.group.close();
  }

  #has(slot: number): boolean {
    return this.group.has(slot);
  }

  #hasSibling(slot: number): boolean {
    return this.group.slots.some((other) => other !== slot && this.group.getOption('enabled', other));
  }

  /** Enabling comes first: below `ebpf` one slot must be enabled at any time. */
  #choose(slots: readonly number[], wanted: ReadonlySet<number>): void {
    for (const slot of wanted) if (!this.#retiring.has(slot)) this.#enable(slot, true);
    for (const slot of slots) if (!wanted.has(slot) || this.#retiring.has(slot)) this.#enable(slot, false);
  }

  #enable(slot: number, enabled: boolean): void {
    if (this.group.getOption('enabled', slot) === enabled) return;
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
  serving: readonly number[],
  free: readonly number[],
  staff: Staff,
): ReadonlySet<number> {
  if (free.length > 0) return new Set(free);
  if (serving.length > 0) return new Set(serving);
  const starting = slots.filter((slot) => staff.get(slot)?.some(({ state }) => state === 'starting'));
  return new Set(starting.length > 0 ? starting : slots);
}
