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
        if (member) this.#selector.setSlot(slot, member.socket, rowOf(member));
      });
      this.#sink = group.newSocket();
      // The filter comes before listen(): nobody may find a listener that answers but never accepts.
      this.#selector.discardEverything(this.#sink);
      this.#configure();
      const socket = reachable(group.members);
      if (socket) this.#selector.attach(socket);
      this.#sink.listen(0);
      this.#selector.setSink(this.#sink);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  changed(): void {
    this.#group.members.forEach((member, slot) => {
      if (member) this.#selector.updateSlot(slot, rowOf(member));
    });
    this.#configure();
  }

  placed(slot: number): void {
    const member = this.#group.members[slot];
    if (!member) return;
    this.#selector.setSlot(slot, member.socket, rowOf(member));
    // The kernel's group may have lost all its members meanwhile, and with them the program.
    this.#selector.attach(member.socket);
    this.#configure();
  }

  async leave(slot: number, socket: NativeSocket): Promise<void> {
    if (!this.#group.members[slot]) {
      this.#selector.clearSlot(slot);
      this.#configure();
    }
    // Moves the queue, and marks half-open requests to be moved when their last ACK or their timer comes.
    socket.shutdown();
    socket.close();
  }

  /** The slots never named it. */
  left(): void {}

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

  stop(): void {
    // The sink leaves before the program does: the kernel's plain hash would feed it.
    this.#sink?.close();
    this.#sink = undefined;
    reachable(this.#group.members)?.detachProgram();
    this.#selector.close();
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
