/** Who is in which slot of a group. Owns the listeners: nobody else closes one that is in a slot. */
import { SpillwayError } from '../errors.js';
import type { NativeSocket } from '../native.js';
import { inodeOf } from './listeners.js';
import type { SLOT_OPTIONS } from './options.js';
import type { Member } from './tier.js';

/** Inodes of the sockets that are in a group of this process, to refuse them to a second one in every tier. */
const claimed = new Set<number>();

export function isClaimed(inode: number): boolean {
  return claimed.has(inode);
}

/** The backlog in force at a listener: the kernel caps a larger one at net.core.somaxconn, and an adopted listener keeps its own. */
export function limitOf(socket: NativeSocket): number {
  return socket.acceptQueue()?.limit ?? 0;
}

/** What a member has besides its socket. */
export type OwnOfMember = Pick<Member, (typeof SLOT_OPTIONS)[number] | 'worker'>;

export function memberOf(socket: NativeSocket, own: OwnOfMember): Member {
  const { weight, enabled, cpu, maxConnections, worker } = own;
  const inode = inodeOf(socket);
  return { socket, inode, limit: limitOf(socket), weight, enabled, cpu, maxConnections, worker };
}

export class Members {
  readonly capacity: number;
  /** Every slot up to the highest that was ever filled is there, an empty one as undefined: no tier meets a sparse array. */
  readonly #slots: (Member | undefined)[];
  /** Kernel drops of sockets that have left, by slot, so that a slot's count never goes back. */
  readonly #pastDrops: number[] = [];

  constructor(members: readonly (Member | undefined)[], capacity: number) {
    this.#slots = [...members];
    this.capacity = capacity;
  }

  /** By slot; always the same array, for those who look at it again later. */
  get slots(): readonly (Member | undefined)[] {
    return this.#slots;
  }

  get present(): Member[] {
    return this.#slots.filter((member) => member !== undefined);
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_NO_SUCH_SLOT` */
  at(slot: number): Member {
    const member = this.#slots[slot];
    if (member) return member;
    throw new SpillwayError(
      'ERR_SPILLWAY_NO_SUCH_SLOT',
      `there is no socket in slot ${slot}; the group has ${this.#slots.length} slots`,
    );
  }

  /**
   * The slot a newcomer gets: the wanted one, or else the first empty one.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` when the wanted one is taken, `ERR_SPILLWAY_LIMIT` when it, or
   *   every other, is beyond the capacity.
   */
  vacancy(wanted?: number): number {
    const empty = this.#slots.indexOf(undefined);
    const slot = wanted ?? (empty >= 0 ? empty : this.#slots.length);
    if (this.#slots[slot]) {
      throw new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', `slot cannot be ${slot}: a socket is in it`, {
        hint: 'Name an empty slot or none, or use replace().',
      });
    }
    if (slot < this.capacity) return slot;
    throw new SpillwayError(
      'ERR_SPILLWAY_LIMIT',
      wanted === undefined
        ? `all ${this.capacity} slots of the group are taken`
        : `there is no slot ${wanted} in a group with a capacity of ${this.capacity}`,
      { hint: 'Open the group with a larger `capacity`.' },
    );
  }

  /**
   * Fills a slot; those below it that have never been used stay empty.
   *
   * @returns what undoes it, as long as nobody else has come since.
   */
  put(slot: number, member: Member): () => void {
    const { length } = this.#slots;
    const before = this.#slots[slot];
    while (this.#slots.length < slot) this.#slots.push(undefined);
    this.#slots[slot] = member;
    return () => {
      if (slot < length) this.#slots[slot] = before;
      else this.#slots.length = length;
    };
  }

  empty(slot: number): void {
    this.#slots[slot] = undefined;
  }

  /** Makes sockets this group's, as far as other groups of the process are concerned. */
  claim(...members: readonly Member[]): void {
    for (const { inode } of members) claimed.add(inode);
  }

  /** To be called before a member's socket leaves for good: what it has counted stays the slot's. */
  release(slot: number, { socket, inode }: Member): void {
    this.#pastDrops[slot] = (this.#pastDrops[slot] ?? 0) + socket.drops();
    claimed.delete(inode);
  }

  /** What the kernel has dropped by itself at all sockets a slot has had. */
  drops(slot: number): number {
    return (this.#pastDrops[slot] ?? 0) + (this.#slots[slot]?.socket.drops() ?? 0);
  }

  closeAll(): void {
    for (const { socket, inode } of this.present) {
      claimed.delete(inode);
      socket.close();
    }
  }
}
