/** What the three selectors have in common: a tier decides which member of a group gets a connection. */
import type { Endpoint, NativeSocket } from '../native.js';
import type { JoinOrder } from './join-order.js';
import type { Decisions } from './layout.js';
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
}

/**
 * A member through which the kernel's group can be reached: one that was shut down by another holder is no longer in
 * it, and a program attached there would start a group of its own.
 */
export function reachable(members: readonly (Member | undefined)[]): NativeSocket | undefined {
  return members.find((member) => member?.socket.acceptQueue() !== undefined)?.socket;
}

/** What a tier sees of its group. The group owns it and tells the tier after every change. */
export interface GroupState {
  readonly endpoint: Endpoint;
  /** By slot; a slot without a listener is undefined. */
  readonly members: readonly (Member | undefined)[];
  readonly capacity: number;
  /** Who is where in the kernel's group; tiers report every socket that joins or leaves it. */
  readonly order: JoinOrder;
  /** The group's options as they are in force under a selector: some defaults differ. */
  settings(selector: SelectorName): Pick<GroupOptions, 'policy' | 'overflow' | 'migrate'>;
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

/** What is counted per slot; null where the tier cannot know. */
export interface SlotCount {
  halfOpen: number | null;
  chosen: { syn: number; cookieAck: number; migration: number } | null;
  redirectedIn: number | null;
  redirectedOut: number | null;
}

export interface TierCounts {
  slots: SlotCount[];
  decisions: Decisions | null;
  stale: number | null;
  /** Connections of leaving listeners that were moved or handed over. */
  migrated: number;
}

export interface Tier {
  readonly name: SelectorName;
  /**
   * Limits, weights, enabled or group settings have changed, or a socket whose `leave()` had begun under the tier before
   * this one has been closed.
   */
  changed(): void;
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
}
