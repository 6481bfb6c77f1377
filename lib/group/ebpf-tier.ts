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

function rowOf({ limit, weight, enabled }: Member): SlotRow {
  return { limit, weight, flags: enabled ? SLOT_ENABLED : 0, address: 0 };
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
function refusingRowOf({ limit, enabled }: Member): SlotRow {
  const places = Math.min(limit + 1, MOST_PLACES);
  return { limit, weight: enabled ? places * BEYOND_ANY_LOAD : 1, flags: 0, address: 0 };
}

export class EbpfTier implements Tier {
  readonly name = 'ebpf';
  readonly #group: GroupState;
  readonly #selector: NativeSelector;
  #sink: NativeSocket | undefined;
  #refusing = false;

  /** Loads and attaches the program. Throws the addon's errors and leaves nothing behind when it does. */
  constructor(group: GroupState, { readBy, sockmap }: EbpfOptions) {
    const readByCast = readBy === 'cast' || (readBy === 'auto' && kernelHasCast());
    if (readBy === 'cast' && !kernelHasCast()) throw new NoCastError();
    this.#group = group;
    this.#selector = new (native().Selector)({ capacity: group.capacity, sockmap, readByCast });
    try {
      group.members.forEach((member, slot) => {
        // One that another holder has shut down is no longer in the kernel's group and cannot be taken into the map.
        if (member?.socket.acceptQueue()) this.#selector.setSlot(slot, member.socket, this.#rowOf(member));
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
    this.#configure();
    this.#group.members.forEach((member, slot) => {
      if (member) this.#selector.updateSlot(slot, this.#rowOf(member));
    });
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
    try {
      this.#selector.setSlot(slot, member.socket, this.#rowOf(member));
      // The kernel's group may have lost all its members meanwhile, and with them the program.
      this.#selector.attach(member.socket);
      this.#configure();
    } catch (error) {
      if (before) this.#selector.setSlot(slot, before.socket, this.#rowOf(before));
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
      // While it refuses, the program stays: without it a client could connect to a listener that is about to be closed.
      // It goes with the last listener of the kernel's group.
      if (detach && !this.#refusing) reachable(this.#group.members)?.detachProgram();
    } finally {
      this.#selector.close();
    }
  }

  #rowOf(member: Member): SlotRow {
    return this.#refusing ? refusingRowOf(member) : rowOf(member);
  }

  #configure(): void {
    const { members, deferring } = this.#group;
    const settings = this.#group.settings(this.name);
    const weights = members.map((member) => (member?.enabled ? member.weight : 0));
    this.#selector.setChoices(buildChoices(weights));
    this.#selector.setConfig({
      slots: members.length,
      policy: POLICIES[settings.policy],
      overflow: OVERFLOWS[this.#refusing ? 'reset' : settings.overflow],
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
