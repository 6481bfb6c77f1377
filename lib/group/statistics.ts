/** What `stats()` tells: the state of every socket of a group, and what has been decided. */
import type { Endpoint } from '../native.js';
import type { Decisions, Readiness } from './layout.js';
import type { Members } from './members.js';
import type { SelectorName } from './options.js';
import type { Selection } from './selection.js';
import { UNKNOWN_COUNT, type WaitingCount } from './tier.js';

/** One socket's state, and its slot's counts since the selector in force took over (also over replaced sockets). */
export interface SocketStats {
  slot: number;
  fd: number;
  /** False when a program has shut the listener down behind the group's back. */
  listening: boolean;
  enabled: boolean;
  weight: number;
  /** Connections waiting to be accepted. */
  queue: number;
  /** The backlog in force; the queue holds one connection more. */
  limit: number;
  /** Handshakes under way; null where it cannot be known. */
  halfOpen: number | null;
  /**
   * How soon the slot's worker is likely to take what comes, best first: `idle`, it waits for connections and has nothing
   * else to do; `running`, it was here a moment ago, or nothing is known of it; `late`, it has been away for longer than a
   * turn of an event loop should take; `leaving`, it wants nothing new. Null below `ebpf`, and where the program that
   * decides has no listener.
   */
  readiness: Readiness | null;
  /** Decisions that gave this slot a connection, by kind. A SYN that is repeated after a drop is another one. */
  chosen: { syn: number; cookieAck: number; migration: number } | null;
  /** Of those, the ones whose first choice was another slot. */
  redirectedIn: number | null;
  /** Decisions whose first choice was this slot and that went elsewhere. */
  redirectedOut: number | null;
  /** Connections that the slot's worker has open, those in its accept queue included; null where they are not counted. */
  connections: number | null;
  /** Places that are promised to connections to come; null where they are not counted. */
  promised: number | null;
  /** How many it may have; 0: as many as come. */
  maxConnections: number;
  /** What the kernel dropped at this socket by itself. */
  kernelDrops: number;
}

export interface GroupStats {
  selector: SelectorName;
  address: Endpoint;
  sockets: SocketStats[];
  /** Every decision of the kernel program, by what it was about and how it ended; null below `ebpf`. */
  decisions: Decisions | null;
  /** SYNs that went to another slot than the first choice. */
  redirected: number | null;
  /** SYNs that were dropped in silence because nobody had room. */
  dropped: number | null;
  /** SYNs that were refused because nobody had room, or because the group refuses new connections. */
  reset: number | null;
  /** Connections of leaving sockets that were moved, by the kernel or by hand. */
  migrated: number;
  /** Times a slot's socket had left the kernel's group without the owner saying so. */
  stale: number | null;
  /** Sum over all slots, also those that are empty now. */
  kernelDrops: number;
  /** Connections that were put on the waiting list; null below `ebpf`. */
  waited: number | null;
  /** The waiting list, with the age of its first connection in milliseconds; null where there is none. */
  waiting: WaitingCount | null;
}

function waitedOf({ syn, cookieAck, migration }: Decisions): number {
  return syn.waiting + cookieAck.waiting + migration.waiting;
}

export function gatherStats(address: Endpoint, members: Members, selection: Selection): GroupStats {
  const counts = selection.tier.counts();
  const drops = members.slots.map((_, slot) => members.drops(slot));
  const sockets: SocketStats[] = [];
  members.slots.forEach((member, slot) => {
    if (!member) return;
    const queue = member.socket.acceptQueue();
    sockets.push({
      slot,
      fd: member.socket.fd,
      listening: queue !== undefined,
      enabled: member.enabled,
      weight: member.weight,
      maxConnections: member.maxConnections,
      queue: queue?.length ?? 0,
      limit: Math.min(member.limit, queue?.limit ?? 0),
      ...(counts.slots[slot] ?? UNKNOWN_COUNT),
      kernelDrops: drops[slot] ?? 0,
    });
  });
  const syn = counts.decisions?.syn;
  return {
    selector: selection.name,
    address,
    sockets,
    decisions: counts.decisions,
    redirected: syn ? syn.redirected : null,
    dropped: syn ? syn.dropped : null,
    reset: syn ? syn.reset : null,
    migrated: selection.migrated(counts.migrated),
    stale: counts.stale,
    kernelDrops: drops.reduce((sum, count) => sum + count, 0),
    waited: counts.decisions ? waitedOf(counts.decisions) : null,
    waiting: counts.waiting,
  };
}
