/** What the three selectors have in common: a tier decides which member of a group gets a connection. */
import type { Endpoint, LoopNote, NativeSocket } from '../native.js';
import type { AdmissionsSnapshot } from './admissions.js';
import type { JoinOrder } from './join-order.js';
import type { Decisions, Readiness } from './layout.js';
import type { GroupOptions, SelectorName } from './options.js';

/** A listener in its slot. */
export interface Member {
  socket: NativeSocket;
  /** Inode of the socket: equal for all descriptors that name it. */
  inode: number;
  /** Configured backlog; the queue holds one more. */
  limit: number;
  weight: number;
  enabled: boolean;
  /** The CPU its worker runs on; −1: on none in particular. */
  cpu: number;
  /** Connections its worker may have open; 0: no limit. */
  maxConnections: number;
  /** What is known of its worker beyond its listener. */
  worker: WorkerInSlot;
}

/** What the owner of a group says of the worker in a slot. */
export interface WorkerInSlot {
  /** Its process, as long as there is one to speak of; what was seen of another one is forgotten. */
  process?: number | undefined;
  /** The row that it writes in the map of hints of the group; undefined: none. */
  hints?: number | undefined;
  /** Whether it can be sent a listener at which connections wait. */
  helps: boolean;
  /** What its event loop does at this moment; undefined: it does not tell. */
  loop?: (() => LoopNote) | undefined;
}

/** Who carries out the rescues that a tier orders. */
export interface Rescues {
  /**
   * Rescues are ordered from now on: by this ring (struct spillway_order), or without one by `order()`. All listeners
   * follow by `placed()`. The ring is the tier's, who gives it up by the function that is returned, before it goes; that
   * does nothing once another tier has opened. When it throws, nobody orders rescues any more: whoever goes on opens
   * again.
   */
  open(ring?: number): () => void;
  /** The worker of slot `to` shall take from the queue of slot `from`, where so many connections wait. */
  order(from: number, to: number, waiting: number): void;
  /** The listener in a slot, of which a duplicate may be kept; its leaving is told before it is closed. */
  placed(slot: number, fd: number): void;
  left(slot: number): void;
}

/**
 * A tier orders the rescues from now on: of all members, and by this ring, if it has one.
 *
 * @returns what gives them up.
 * @throws what the rescues throw; nobody orders any then, also if somebody did before.
 */
export function openRescues(
  { rescues, members }: Pick<GroupState, 'rescues' | 'members'>,
  ring?: number,
): (() => void) | undefined {
  const close = rescues?.open(ring);
  try {
    members.forEach((member, slot) => {
      if (member) rescues?.placed(slot, member.socket.fd);
    });
  } catch (error) {
    close?.();
    throw error;
  }
  return close;
}

/** The listener that was about to take a slot does not: the one before, if any, stays. */
export function takeBackRescues(
  { rescues }: Pick<GroupState, 'rescues'>,
  slot: number,
  before?: Member,
): void {
  // First of all the other one, so that there is a descriptor for this one.
  rescues?.left(slot);
  if (before) rescues?.placed(slot, before.socket.fd);
}

/**
 * A member through which the kernel's group can be reached: one that was shut down by another holder is no longer in
 * it, and a program attached there would start a group of its own.
 */
export function reachable(members: readonly (Member | undefined)[]): NativeSocket | undefined {
  return members.find((member) => member?.socket.acceptQueue() !== undefined)?.socket;
}

/** Where descriptors are kept for a process that goes on when this one has ended, by name. */
export interface Keeping {
  /** A copy of the descriptor is kept under that name, in the place of the one of before. */
  keep(name: string, fd: number): void;
  drop(name: string): void;
}

/** What a tier has to know to go on where that of another process has ended. */
export interface TierSnapshot {
  admissions: AdmissionsSnapshot;
}

/** With the descriptors that were kept, by name; whoever takes one owns it. */
export interface AdoptedTier extends TierSnapshot {
  kept: Map<string, number>;
}

/** The options of a group that a tier carries out. */
export type TierSettings = Pick<
  GroupOptions,
  | 'policy'
  | 'overflow'
  | 'migrate'
  | 'rescue'
  | 'exclusiveHandover'
  | 'countConnections'
  | 'waitLimit'
  | 'waitTimeout'
>;

/** What a tier sees of its group. The group owns it and tells the tier after every change. */
export interface GroupState {
  readonly endpoint: Endpoint;
  /** By slot; a slot without a listener is undefined. */
  readonly members: readonly (Member | undefined)[];
  readonly capacity: number;
  /** Who is where in the kernel's group; tiers report every socket that joins or leaves it. */
  readonly order: JoinOrder;
  /** The group's options as they are in force under a selector: some defaults differ. */
  settings(selector: SelectorName): TierSettings;
  /** Descriptor of the map that workers write their hints into; undefined: they write none. */
  readonly hints: number | undefined;
  /** Undefined: nobody carries out rescues. */
  readonly rescues: Rescues | undefined;
  /** Whether there are workers that take from a waiting list. */
  readonly takesWaiting: boolean;
  /** Undefined: nothing of the group outlives this process. */
  readonly keeping: Keeping | undefined;
  /** Undefined: the group begins here. */
  readonly adopted: AdoptedTier | undefined;
  /** Whether half-open requests may be harmless clients that have not spoken yet (TCP_DEFER_ACCEPT). */
  readonly deferring: boolean;
  /** Opens one more listener on the endpoint, not listening yet. The caller owns it. */
  newSocket(): NativeSocket;
  /** Gives away a connection that was taken from a leaving listener's queue. */
  handOver(fd: number, slot: number): void;
  readonly canHandOver: boolean;
  /** Whether the group has been closed: nothing is handed over any more. */
  readonly closed: boolean;
}

/** What is seen and counted per slot; null where the tier cannot know. */
export interface SlotCount {
  halfOpen: number | null;
  readiness: Readiness | null;
  chosen: { syn: number; cookieAck: number; migration: number } | null;
  redirectedIn: number | null;
  redirectedOut: number | null;
  /** Connections its worker has open, and places that are promised to connections to come. */
  connections: number | null;
  promised: number | null;
}

/** Of a slot of which the tier knows nothing. */
export const UNKNOWN_COUNT: Readonly<SlotCount> = {
  halfOpen: null,
  readiness: null,
  chosen: null,
  redirectedIn: null,
  redirectedOut: null,
  connections: null,
  promised: null,
};

export interface TierCounts {
  slots: SlotCount[];
  decisions: Decisions | null;
  stale: number | null;
  /** Connections of leaving listeners that were moved or handed over. */
  migrated: number;
  /** The waiting list; null where there is none. */
  waiting: WaitingCount | null;
}

export interface WaitingCount {
  /** Connections in it. */
  length: number;
  /** Handshakes under way to it. */
  halfOpen: number;
  /** Milliseconds that the first of it has waited; 0 for an empty one. */
  age: number;
}

/** By what a worker asks the kernel for places; both descriptors are the caller's. */
export interface ClaimsOfWorker {
  sender: number;
  receiver: number;
  /** To be called when the worker is gone. */
  end(): void;
}

export interface Tier {
  readonly name: SelectorName;
  /** For another process to go on with; undefined where there is nothing but the listeners. */
  snapshot(): TierSnapshot | undefined;
  /**
   * Limits, weights, enabled or group settings have changed, or a socket whose `leave()` had begun under the tier before
   * this one has been closed.
   */
  changed(): void;
  /** What is known of the worker in a slot has changed, and nothing else. */
  workerChanged(slot: number): void;
  /**
   * A listener, already listening, has taken its slot; the one before it, if any, is about to `leave()`. When it
   * throws, everything is as if it had not been called.
   */
  placed(slot: number, before: Member | undefined): void;
  /**
   * The listener is no longer in `members`. Makes sure that it is given nothing new and that its queue goes to the
   * siblings; when the promise is fulfilled nothing is lost by closing it, and the tier has closed it.
   */
  leave(slot: number, socket: NativeSocket, inode: number): Promise<void>;
  counts(): TierCounts;
  /** Descriptor of the listener whose queue is the waiting list; undefined: there is none. It stays the tier's. */
  readonly waitingList: number | undefined;
  /** As in `counts()`, for a fraction of its price. */
  waiting(): WaitingCount | undefined;
  /**
   * For the worker that serves in a slot.
   *
   * @returns undefined where it may have as many connections as come.
   */
  openClaims(slot: number): ClaimsOfWorker | undefined;
  /** What a worker has open; undefined where that is not known. */
  connectionsOf(process: number): number | undefined;
  /** As in `counts()`, for a fraction of its price. */
  decisions(): Decisions | null;
  /** Whether `refuseNew()` is in force. */
  readonly refusing: boolean;
  /**
   * From the return on no SYN gets an answer that leads to a connection, and whatever the group changes, that stays;
   * clients that have been answered get in. The addon's errors are thrown, and those of opening a listener.
   */
  refuseNew(): void;
  /**
   * Lets go of everything and leaves the members as they are.
   *
   * @param detach whether the program is taken off the kernel's group, unless it refuses what is new; not after another
   *   tier has attached its own.
   */
  stop(detach: boolean): void;
  /** A tier that was to take over has failed, and may have left its traces: this one goes on as before. */
  resume(): void;
}
