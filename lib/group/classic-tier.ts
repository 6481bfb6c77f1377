/**
 * The tiers that need no privilege: `cbpf` and `none`.
 *
 * `cbpf` attaches a classic program that names only the listeners with room. Such a program cannot read a queue, so
 * this process looks at the queues (TCP_INFO) and attaches a new program when the list changes, every millisecond as
 * long as anything is queued, and not at all otherwise. `none` leaves the choice to the kernel's hash.
 *
 * In both, a leaving listener's queue is accepted here and handed over, since only an eBPF program can make the kernel
 * move it.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { type NativeQueueWatch, type NativeSocket, native } from '../native.js';
import { buildClassicProgram } from './classic.js';
import { halfOpenAt, listenersAt } from './endpoint.js';
import { type GroupState, type Member, reachable, type Tier, type TierCounts } from './tier.js';

/** Milliseconds between two looks at the queues while something is queued. */
const LOOK_EVERY = 1;
/** So many looks in a row without a queued connection end the looking. */
const QUIET_LOOKS = 20;
/** Milliseconds a leaving listener waits for handshakes that were half-done when it was excluded. */
const HANDSHAKE_LIMIT = 3000;

const unknown = { halfOpen: null, chosen: null, redirectedIn: null, redirectedOut: null } as const;

export class ClassicTier implements Tier {
  readonly name: 'cbpf' | 'none';
  readonly #group: GroupState;
  /**
   * Inodes of the kernel group's listeners by index: what a classic program's answer means. A newcomer is appended;
   * when one leaves, the last takes its place (net/core/sock_reuseport.c, `__reuseport_detach_sock`).
   */
  readonly #order: number[];
  readonly #leaving = new Set<number>();
  readonly #watch: NativeQueueWatch | undefined;
  #looking: NodeJS.Timeout | undefined;
  #quiet = 0;
  #attached = '';
  #handedOver = 0;
  #stopped = false;
  #warned = false;

  constructor(group: GroupState, name: 'cbpf' | 'none') {
    this.name = name;
    this.#group = group;
    this.#order = listenersAt(group.endpoint).map(({ inode }) => inode);
    if (name === 'none') {
      reachable(group.members)?.detachProgram();
      return;
    }
    this.#attach();
    this.#watch = new (native().QueueWatch)(() => this.#startLooking());
    for (const { socket } of this.#present()) this.#watch.add(socket);
    this.#watch.arm();
  }

  changed(): void {
    for (const member of this.#present()) this.#keepLimit(member);
    this.#attach();
  }

  placed(slot: number): void {
    const member = this.#group.members[slot];
    if (!member) return;
    this.#order.push(member.inode);
    this.#watch?.add(member.socket);
    this.#watch?.arm();
    this.#attach();
  }

  async leave(slot: number, socket: NativeSocket, inode: number): Promise<void> {
    this.#watch?.remove(socket);
    this.#leaving.add(inode);
    this.#attach();
    try {
      if (this.#group.settings(this.name).migrate) await this.#empty(slot, socket);
    } finally {
      this.#close(socket, inode);
    }
  }

  left(inode: number): void {
    this.#forget(inode);
    this.#attach();
  }

  counts(): TierCounts {
    const slots = this.#group.members.map(() => ({ ...unknown }));
    return { slots, decisions: null, stale: null, migrated: this.#handedOver };
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#looking);
    this.#watch?.close();
    reachable(this.#group.members)?.detachProgram();
  }

  #present(): Member[] {
    return this.#group.members.filter((member) => member !== undefined);
  }

  /** Accepts what is queued until no handshake is left that began before the listener was excluded. */
  async #empty(slot: number, socket: NativeSocket): Promise<void> {
    const begun = new Set(halfOpenAt(this.#group.endpoint).map(({ peer }) => peer));
    const deadline = performance.now() + HANDSHAKE_LIMIT;
    for (;;) {
      for (let fd = socket.accept(); fd >= 0; fd = socket.accept()) {
        this.#handedOver++;
        this.#group.handOver(fd, slot);
      }
      if (begun.size === 0 || performance.now() > deadline) return;
      const open = new Set(halfOpenAt(this.#group.endpoint).map(({ peer }) => peer));
      for (const peer of begun) if (!open.has(peer)) begun.delete(peer);
      // A handshake that has just ended may have put its connection into the queue: the loop takes another turn.
      await wait(LOOK_EVERY);
    }
  }

  /**
   * Closing moves the last listener to the leaver's index. Until the new program is attached only indices may be
   * named that mean the same before and after; with none of them left the kernel's hash over the rest decides.
   */
  #close(socket: NativeSocket, inode: number): void {
    const index = this.#order.indexOf(inode);
    const last = this.#order.length - 1;
    // After a change of selector the program in force is another tier's.
    if (index >= 0 && !this.#stopped) {
      const steady = this.#entries().filter((entry) => entry.index !== index && entry.index !== last);
      this.#attachEntries(steady.length > 0 ? steady : [{ index: last, weight: 1 }]);
      this.#forget(inode);
    }
    // Other processes may hold the listener as well: shutting it down is what takes it out of the group.
    socket.shutdown();
    socket.close();
    this.#leaving.delete(inode);
    if (!this.#stopped) this.#attach();
  }

  #startLooking(): void {
    this.#quiet = 0;
    this.#look();
  }

  #look(): void {
    if (this.#stopped) return;
    try {
      this.#attach();
    } catch (error) {
      this.#keepServing(error as Error);
    }
    this.#quiet = this.#present().some(({ socket }) => (socket.acceptQueue()?.length ?? 0) > 0)
      ? 0
      : this.#quiet + 1;
    if (this.#quiet > QUIET_LOOKS) {
      this.#watch?.arm();
      return;
    }
    this.#looking = setTimeout(() => this.#look(), LOOK_EVERY);
    this.#looking.unref();
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
    this.#attached = '';
  }

  /** A program may have called listen() with its own backlog; here the kernel's limit is the only one in force. */
  #keepLimit({ socket, limit }: Member): void {
    const queue = socket.acceptQueue();
    if (queue && queue.limit !== limit) socket.listen(limit);
  }

  /** A listener has left the kernel's group: the last one takes its index. */
  #forget(inode: number): void {
    const index = this.#order.indexOf(inode);
    if (index < 0) return;
    const last = this.#order.pop();
    if (index < this.#order.length && last !== undefined) this.#order[index] = last;
  }

  #entries(): { index: number; weight: number }[] {
    const listening = this.#present().flatMap((member) => {
      const queue = member.socket.acceptQueue();
      if (queue) return [{ ...member, room: queue.length <= member.limit }];
      // Shut down by somebody who holds it too: it is no longer in the kernel's group.
      this.#forget(member.inode);
      return [];
    });
    const candidates = listening.flatMap(({ inode, weight, enabled, room }) => {
      const index = this.#order.indexOf(inode);
      return index < 0 || !enabled ? [] : [{ index, weight, room }];
    });
    const withRoom = candidates.filter(({ room }) => room);
    // Nobody has room: whoever is chosen, the kernel drops at the full queue.
    return withRoom.length > 0 ? withRoom : candidates;
  }

  #attach(): void {
    if (this.name === 'cbpf') {
      for (const member of this.#present()) this.#keepLimit(member);
      this.#attachEntries(this.#entries());
    } else if (this.#leaving.size > 0) {
      this.#attachEntries(this.#entries());
    } else if (this.#attached !== '') {
      reachable(this.#group.members)?.detachProgram();
      this.#attached = '';
    }
  }

  #attachEntries(entries: readonly { index: number; weight: number }[]): void {
    const key = entries.map(({ index, weight }) => `${index}*${weight}`).join();
    const socket = reachable(this.#group.members);
    if (key === this.#attached || key === '' || !socket) return;
    socket.attachClassic(buildClassicProgram(entries));
    this.#attached = key;
  }
}
