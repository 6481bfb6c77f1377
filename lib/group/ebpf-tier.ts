/** The `ebpf` selector: the kernel reads the queues itself, at the SYN, and moves the queue of a listener that leaves. */
import { SpillwayError } from '../errors.js';
import { type NativeSelector, type NativeSocket, native, type SlotRow } from '../native.js';
import { buildChoices } from './choices.js';
import {
  COUNTERS,
  decisionsOf,
  OVERFLOWS,
  POLICIES,
  READING,
  SLOT_COUNTERS,
  SLOT_ENABLED,
} from './layout.js';
import { inodeOf } from './listeners.js';
import {
  type GroupState,
  type Member,
  reachable,
  type SlotCount,
  type Tier,
  type TierCounts,
} from './tier.js';
import { NoCastError } from './why.js';

export interface EbpfOptions {
  /** How the program reads a listener: `cast` needs Linux 6.2, `probe` works before it, `auto` takes what works. */
  readBy: 'auto' | 'cast' | 'probe';
  /** Keep the sockets in a SOCKMAP, which sk_lookup can use too; needs CAP_NET_ADMIN. */
  sockmap: boolean;
}

let castFound: boolean | undefined;

function kernelHasCast(): boolean {
  castFound ??= native().kernelHasCast();
  return castFound;
}

function rowOf(member: Member): SlotRow {
  return { limit: member.limit, weight: member.weight, flags: member.enabled ? SLOT_ENABLED : 0, address: 0 };
}

export class EbpfTier implements Tier {
  readonly name = 'ebpf';
  readonly #group: GroupState;
  readonly #selector: NativeSelector;
  #sink: NativeSocket | undefined;

  /** Loads and attaches the program. Throws the addon's errors and leaves nothing behind when it does. */
  constructor(group: GroupState, { readBy, sockmap }: EbpfOptions) {
    const readByCast = readBy === 'cast' || (readBy === 'auto' && kernelHasCast());
    if (readBy === 'cast' && !kernelHasCast()) throw new NoCastError();
    this.#group = group;
    this.#selector = new (native().Selector)({ capacity: group.capacity, sockmap, readByCast });
    try {
      group.members.forEach((member, slot) => {
        // One that another holder has shut down is no longer in the kernel's group and cannot be taken into the map.
        if (member?.socket.acceptQueue()) this.#selector.setSlot(slot, member.socket, rowOf(member));
      });
      this.#configure();
      const socket = reachable(group.members);
      if (socket) this.#selector.attach(socket);
      this.openSink();
    } catch (error) {
      this.stop(true);
      throw error;
    }
  }

  /** To be called while the program is attached: the kernel's own hash would feed the sink. */
  openSink(): void {
    const { order } = this.#group;
    try {
      this.#sink = this.#group.newSocket();
      // The filter comes before listen(): nobody may find a listener that answers but never accepts.
      this.#selector.discardEverything(this.#sink);
      this.#sink.listen(0);
      order.joined(inodeOf(this.#sink));
      this.#selector.setSink(this.#sink);
    } catch (error) {
      this.closeSink();
      // The listeners may be another user's, who alone may open one more: then this selector is of no use here.
      throw error instanceof SpillwayError ? new Error(`the sink cannot be opened: ${error.message}`) : error;
    }
  }

  /** To be called before the program is replaced or taken off. */
  closeSink(): void {
    const sink = this.#sink;
    if (!sink) return;
    this.#sink = undefined;
    const inode = inodeOf(sink);
    sink.close();
    this.#group.order.left(inode);
  }

  changed(): void {
    this.#group.members.forEach((member, slot) => {
      if (member) this.#selector.updateSlot(slot, rowOf(member));
    });
    this.#configure();
  }

  placed(slot: number, before: Member | undefined): void {
    const member = this.#group.members[slot];
    if (!member) return;
    try {
      this.#selector.setSlot(slot, member.socket, rowOf(member));
      // The kernel's group may have lost all its members meanwhile, and with them the program.
      this.#selector.attach(member.socket);
      this.#configure();
    } catch (error) {
      if (before) this.#selector.setSlot(slot, before.socket, rowOf(before));
      else this.#selector.clearSlot(slot);
      throw error;
    }
    this.#group.order.joined(member.inode);
  }

  async leave(slot: number, socket: NativeSocket, inode: number): Promise<void> {
    try {
      if (!this.#group.members[slot]) {
        this.#selector.clearSlot(slot);
        this.#configure();
      }
    } finally {
      // Moves the queue, and marks half-open requests to be moved when their last ACK or their timer comes.
      try {
        socket.shutdown();
      } finally {
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
      slots.push({
        halfOpen: readings[slot * READING.words + READING.halfOpen] ?? 0,
        chosen: {
          syn: counter(SLOT_COUNTERS.syn),
          cookieAck: counter(SLOT_COUNTERS.cookieAck),
          migration: counter(SLOT_COUNTERS.migrated),
        },
        redirectedIn: counter(SLOT_COUNTERS.redirectedIn),
        redirectedOut: counter(SLOT_COUNTERS.redirectedOut),
      });
    }
    const decisions = decisionsOf(totals);
    const { first, redirected } = decisions.migration;
    return { slots, decisions, stale: totals[COUNTERS.stale] ?? 0, migrated: first + redirected };
  }

  /** Runs of the selector and the time they took, while run-time accounting is on. For benchmarks. */
  runTime(): { runs: number; nanoseconds: number } {
    return this.#selector.runTime();
  }

  stop(detach: boolean): void {
    try {
      this.closeSink();
      if (detach) reachable(this.#group.members)?.detachProgram();
    } finally {
      this.#selector.close();
    }
  }

  #configure(): void {
    const { members, deferring } = this.#group;
    const settings = this.#group.settings(this.name);
    const weights = members.map((member) => (member?.enabled ? member.weight : 0));
    this.#selector.setChoices(buildChoices(weights));
    this.#selector.setConfig({
      slots: members.length,
      policy: POLICIES[settings.policy],
      overflow: OVERFLOWS[settings.overflow],
      migrate: settings.migrate ? 1 : 0,
      rankByYoung: deferring ? 1 : 0,
    });
  }
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
