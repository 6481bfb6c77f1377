/**
 * The tiers that need no privilege: `cbpf` and `none`.
 *
 * `cbpf` attaches a classic program that names only the listeners with room. Such a program cannot read a queue, so
 * this process looks at the queues (TCP_INFO) and attaches a new program when the list changes, every millisecond as
 * long as anything is queued, and not at all otherwise. `none` leaves the choice to the kernel's hash, and looks only
 * to keep the backlogs.
 *
 * To refuse what is new, both attach a program that leads every SYN to a listener that hears nobody (gate.ts).
 *
 * In both, a leaving listener's queue is accepted here and handed over, since only an eBPF program can make the kernel
 * move it.
 */
import { closeSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { type NativeError, type NativeQueueWatch, type NativeSocket, native } from '../native.js';
import { buildClassicProgram, buildRefusingProgram, type ClassicEntry } from './classic.js';
import { ClassicRescue } from './classic-rescue.js';
import { halfOpenAt } from './endpoint.js';
import { deafen, Gate } from './gate.js';
import {
  type GroupState,
  type Member,
  openRescues,
  reachable,
  type Tier,
  type TierCounts,
  takeBackRescues,
  UNKNOWN_COUNT,
} from './tier.js';

/** Milliseconds between two looks at the queues while something is queued. */
const LOOK_EVERY = 1;
/** So many looks in a row without a queued connection end the looking. */
const QUIET_LOOKS = 20;
/** Milliseconds a leaving listener waits for handshakes that were half-done when it was excluded. */
const HANDSHAKE_LIMIT = 3000;
/** The process or the machine has no descriptor left just now. */
const NO_DESCRIPTOR = new Set(['EMFILE', 'ENFILE']);

/** The listeners of a group that are leaving, by inode: a change of selector goes on while they do. */
const leavers = new WeakMap<GroupState, Map<number, NativeSocket>>();

function leaversOf(group: GroupState): Map<number, NativeSocket> {
  const known = leavers.get(group);
  if (known) return known;
  const none = new Map<number, NativeSocket>();
  leavers.set(group, none);
  return none;
}

function isShortOfDescriptors(error: unknown): boolean {
  return NO_DESCRIPTOR.has((error as NativeError).code);
}

/** With nobody left to choose from, everything goes to the gate. */
function refusing(entries: readonly ClassicEntry[], gate: number): Uint32Array {
  return buildRefusingProgram(entries.length > 0 ? entries : [{ index: gate, weight: 1 }], gate);
}

export class ClassicTier implements Tier {
  readonly name: 'cbpf' | 'none';
  readonly #group: GroupState;
  readonly #leaving: Map<number, NativeSocket>;
  readonly #watch: NativeQueueWatch;
  /** Set while looks follow each other; without it the watch is armed. */
  #looking: NodeJS.Timeout | undefined;
  #quiet = 0;
  /** What the program in force names; empty without a program, undefined while it may be another tier's. */
  #attached: string | undefined;
  /** Set while everything new is refused, which lasts until the group is closed. */
  #gate: Gate | undefined;
  #closeRescues: (() => void) | undefined;
  #stopped = false;
  #warned = false;
  readonly #rescue = new ClassicRescue();
  /** Slots that are given nothing new for now, because nobody comes for what waits there. */
  #avoided: ReadonlySet<number> = new Set();

  /** Throws the addon's errors and leaves nothing behind when it does. */
  constructor(group: GroupState, name: 'cbpf' | 'none') {
    this.name = name;
    this.#group = group;
    this.#leaving = leaversOf(group);
    this.#watch = new (native().QueueWatch)(() => this.#startLooking());
    try {
      for (const { socket, inode } of this.#present()) {
        // The others are shut down, or are noticed as revived.
        if (group.order.indexOf(inode) >= 0) this.#watch.add(socket);
      }
      this.#closeRescues = openRescues(group);
      // The last that may fail: until then the program of the tier before is in force.
      this.#attach();
    } catch (error) {
      this.stop(false);
      throw error;
    }
  }

  /** What is known of a worker is asked at every look. */
  workerChanged(): void {}

  changed(): void {
    // The program may be another tier's, or name listeners by what are not their indices any more.
    this.#attached = undefined;
    this.#attach();
  }

  resume(): void {
    this.changed();
    this.#closeRescues = openRescues(this.#group);
  }

  placed(slot: number, before: Member | undefined): void {
    const member = this.#group.members[slot];
    if (!member) return;
    const { order } = this.#group;
    const isNew = order.indexOf(member.inode) < 0;
    order.joined(member.inode);
    try {
      this.#watch.add(member.socket);
      this.#group.rescues?.placed(slot, member.socket.fd);
      this.#attach();
    } catch (error) {
      this.#watch.remove(member.socket);
      takeBackRescues(this.#group, slot, before);
      // The group closes it; a listener that was in the kernel's group before stays there with its other holder.
      if (isNew) order.left(member.inode);
      throw error;
    }
  }

  async leave(slot: number, socket: NativeSocket, inode: number): Promise<void> {
    this.#watch.remove(socket);
    if (!this.#group.members[slot]) this.#group.rescues?.left(slot);
    this.#leaving.set(inode, socket);
    const errors: unknown[] = [];
    // Without the program it may be given connections until it is closed; what it has is handed over all the same.
    this.#attempt(() => this.#attach(), errors);
    if (this.#group.settings(this.name).migrate) await this.#empty(slot, socket, errors);
    this.#attempt(() => this.#close(socket, inode), errors);
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} errors, first: ${errors[0]}`);
  }

  counts(): TierCounts {
    const slots = this.#group.members.map(() => ({ ...UNKNOWN_COUNT }));
    return { slots, decisions: null, stale: null, migrated: 0, waiting: null };
  }

  snapshot(): undefined {
    return undefined;
  }

  get waitingList(): undefined {
    return undefined;
  }

  waiting(): undefined {
    return undefined;
  }

  openClaims(): undefined {
    return undefined;
  }

  connectionsOf(): undefined {
    return undefined;
  }

  decisions(): null {
    return null;
  }

  get refusing(): boolean {
    return this.#gate !== undefined;
  }

  /** Throws the addon's errors and those of opening a listener; everything is as before then. */
  refuseNew(): void {
    if (this.#gate) return;
    try {
      // Under `none` the kernel's hash would choose the gate as well, also for those who have been answered.
      this.#attachEntries(this.#entries());
      this.#gate = new Gate(this.#group);
      this.#attach();
    } catch (error) {
      this.#gate?.close();
      this.#gate = undefined;
      // The first error tells what was wrong. Should this fail too, the program in force still names the members alone.
      this.#attempt(() => this.changed(), []);
      throw error;
    }
  }

  stop(detach: boolean): void {
    this.#stopped = true;
    this.#closeRescues?.();
    clearTimeout(this.#looking);
    this.#watch.close();
    if (this.#gate) this.#deafenAll();
    else if (detach) reachable(this.#group.members)?.detachProgram();
    if (!this.#group.closed) return;
    // Nobody takes their connections any more, and the port must be free when the group's close() returns.
    try {
      for (const [inode, socket] of this.#leaving) this.#end(socket, inode);
    } finally {
      this.#gate?.close();
    }
  }

  /**
   * As listeners leave one by one, the program soon names nobody, and the kernel's hash chooses among those that are
   * left: none of them may let anybody in, also where other processes hold it. The program itself goes with the last
   * listener of the kernel's group.
   */
  #deafenAll(): void {
    const sockets = [...this.#present().map(({ socket }) => socket), ...this.#leaving.values()];
    // One that the kernel has no memory for is about to be closed all the same.
    for (const socket of sockets) this.#attempt(() => deafen(socket, this.#group.endpoint.family), []);
  }

  #present(): Member[] {
    return this.#group.members.filter((member) => member !== undefined);
  }

  /** Collects what goes wrong. */
  #attempt(act: () => void, errors: unknown[]): void {
    try {
      act();
    } catch (error) {
      errors.push(error);
    }
  }

  /**
   * Accepts what is queued until no handshake is left that began before the listener was excluded, or the group is
   * closed. It goes on when another selector takes over. Errors are collected: none of them may reset the rest.
   */
  async #empty(slot: number, socket: NativeSocket, errors: unknown[]): Promise<void> {
    const deadline = performance.now() + HANDSHAKE_LIMIT;
    const v6Only = this.#isV6Only(socket);
    // Unknown until the kernel could be asked, which takes a descriptor.
    let begun: Set<string> | undefined;
    for (;;) {
      let shortage: unknown;
      try {
        const open = new Set(halfOpenAt(this.#group.endpoint, v6Only).map(({ peer }) => peer));
        begun = begun ? new Set([...begun].filter((peer) => open.has(peer))) : open;
      } catch (error) {
        if (isShortOfDescriptors(error)) shortage = error;
        else {
          errors.push(error);
          begun = new Set();
        }
      }
      // After the question: a handshake that had ended by then has put its connection into the queue.
      try {
        this.#handOverQueue(slot, socket, errors);
      } catch (error) {
        if (isShortOfDescriptors(error)) shortage = error;
        else errors.push(error);
      }
      if (this.#group.closed || (!shortage && begun?.size === 0)) return;
      if (performance.now() > deadline) {
        if (shortage) errors.push(shortage);
        return;
      }
      // Descriptors become free, and handshakes end, in other turns of the event loop.
      await wait(LOOK_EVERY);
      if (this.#group.closed) return;
    }
  }

  #isV6Only(socket: NativeSocket): boolean {
    if (this.#group.endpoint.family === 4) return false;
    const { IPPROTO_IPV6, IPV6_V6ONLY } = native().constants as Record<string, number>;
    return socket.getInt(IPPROTO_IPV6 as number, IPV6_V6ONLY as number) !== 0;
  }

  /** Throws when the kernel gives no further connection although some may wait. */
  #handOverQueue(slot: number, socket: NativeSocket, errors: unknown[]): void {
    // The callee may close the group.
    while (!this.#group.closed) {
      const fd = socket.accept();
      if (fd < 0) return;
      try {
        this.#group.handOver(fd, slot);
      } catch (error) {
        errors.push(error);
        // Who throws has not taken it. Closed already, it is no descriptor any more.
        try {
          closeSync(fd);
        } catch {}
      }
    }
  }

  /**
   * Closing moves the last listener to the leaver's index. Until the new program is attached only indices may be
   * named that mean the same before and after; with none of them left the kernel's hash over the rest decides.
   */
  #close(socket: NativeSocket, inode: number): void {
    const { order } = this.#group;
    try {
      const index = order.indexOf(inode);
      const last = order.length - 1;
      // After a change of selector the program in force is another tier's.
      if (index >= 0 && !this.#stopped) {
        const steady = this.#entries().filter((entry) => entry.index !== index && entry.index !== last);
        this.#attachEntries(steady.length > 0 ? steady : [{ index: last, weight: 1 }]);
      }
    } finally {
      this.#end(socket, inode);
    }
    if (!this.#stopped) this.#attach();
  }

  #end(socket: NativeSocket, inode: number): void {
    // The group's close() may have come first.
    if (!this.#leaving.delete(inode)) return;
    // Other processes may hold the listener as well: shutting it down is what takes it out of the group.
    socket.shutdown();
    this.#group.order.left(inode);
    socket.close();
  }

  #startLooking(): void {
    // A connection at a listener that was added meanwhile: there is one chain of looks, not two.
    clearTimeout(this.#looking);
    this.#quiet = 0;
    this.#look();
  }

  /** Runs as a timer: nothing may be thrown from here. */
  #look(): void {
    this.#looking = undefined;
    if (this.#stopped) return;
    const errors: unknown[] = [];
    this.#attempt(() => this.#lookForStuck(), errors);
    this.#attempt(() => this.#attach(), errors);
    this.#attempt(() => {
      // Counted whether or not the program could be attached: an idle group is not looked at.
      this.#quiet = this.#isQueued() ? 0 : this.#quiet + 1;
    }, errors);
    const asleep = this.#quiet > QUIET_LOOKS;
    if (asleep) this.#attempt(() => this.#pause(), errors);
    else this.#looking = setTimeout(() => this.#look(), LOOK_EVERY).unref();
    if (errors.length > 0) this.#keepServing(errors[0] as Error);
  }

  #pause(): void {
    this.#rescue.forget();
    if (this.#avoided.size > 0) {
      this.#avoided = new Set();
      this.#attach();
    }
    this.#watch.arm();
  }

  #lookForStuck(): void {
    const { members, rescues } = this.#group;
    if (!rescues || this.#group.settings(this.name).rescue === 0) {
      this.#rescue.forget();
      this.#avoided = new Set();
      return;
    }
    const { avoid, orders } = this.#rescue.look(
      members.map(
        (member) =>
          member && {
            queue: member.socket.acceptQueue()?.length ?? 0,
            loop: member.worker.loop?.(),
            helps: member.worker.helps && member.enabled,
          },
      ),
    );
    this.#avoided = avoid;
    for (const { from, to, waiting } of orders) rescues.order(from, to, waiting);
  }

  #isQueued(): boolean {
    return this.#present().some(({ socket }) => (socket.acceptQueue()?.length ?? 0) > 0);
  }

  /**
   * The kernel has no memory for this program: a long one may be larger than net.core.optmem_max. A listener that is
   * full may then be named again, and the kernel drops what it gets; nothing else is lost.
   */
  #keepServing(error: Error): void {
    if (!this.#warned) {
      process.emitWarning(`full listeners are not avoided for now: ${error.message}`, {
        code: 'SPILLWAY_CBPF',
        detail: 'Raise net.core.optmem_max, or use the selector ebpf.',
      });
    }
    this.#warned = true;
  }

  /**
   * Another holder has shut the member down: it is no longer in the kernel's group, and an epoll set would report it
   * without end. When several have gone since the last look, they are assumed to have gone in the order of their slots;
   * the kernel tells nobody, and after another order the last of the group would be taken for each other.
   */
  #lost({ socket, inode }: Member): void {
    this.#group.order.left(inode);
    this.#watch.remove(socket);
  }

  /** A member that was shut down listens again: the kernel has appended it. */
  #revived({ socket, inode }: Member): void {
    this.#group.order.joined(inode);
    this.#watch.add(socket);
  }

  /** Whom a program may name: the enabled with room and somebody who comes, or with room, or all enabled. */
  #entries(): ClassicEntry[] {
    const { order } = this.#group;
    const listening: (Member & { room: boolean; comes: boolean })[] = [];
    for (const [slot, member] of this.#group.members.entries()) {
      if (!member) continue;
      const queue = member.socket.acceptQueue();
      if (!queue) {
        this.#lost(member);
        continue;
      }
      if (order.indexOf(member.inode) < 0) this.#revived(member);
      // A program may have called listen() with its own backlog; here the kernel's limit is the only one in force.
      if (queue.limit !== member.limit) member.socket.listen(member.limit);
      listening.push({ ...member, room: queue.length <= member.limit, comes: !this.#avoided.has(slot) });
    }
    const enabled = listening.filter((member) => member.enabled);
    const withRoom = enabled.filter(({ room }) => room);
    const best = withRoom.filter(({ comes }) => comes);
    // Nobody has room: whoever is chosen, the kernel drops at the full queue.
    const named = [best, withRoom, enabled].find(({ length }) => length > 0) ?? [];
    return named.map(({ inode, weight }) => ({
      index: order.indexOf(inode),
      weight,
    }));
  }

  #attach(): void {
    const entries = this.#entries();
    if (this.name === 'cbpf' || this.#leaving.size > 0 || this.#gate) {
      this.#attachEntries(entries);
    } else if (this.#attached !== '') {
      reachable(this.#group.members)?.detachProgram();
      this.#attached = '';
    }
  }

  #attachEntries(entries: readonly ClassicEntry[]): void {
    const gate = this.#gate?.index;
    const names = entries.map(({ index, weight }) => `${index}*${weight}`).join();
    const key = gate === undefined ? names : `${gate}|${names}`;
    const socket = this.#gate?.socket ?? reachable(this.#group.members);
    if (key === this.#attached || key === '' || !socket) return;
    socket.attachClassic(gate === undefined ? buildClassicProgram(entries) : refusing(entries, gate));
    this.#attached = key;
  }
}
