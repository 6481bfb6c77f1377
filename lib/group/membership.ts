/** Sockets that join a group, take another one's place, and leave. */
import { SpillwayError } from '../errors.js';
import type { NativeSocket } from '../native.js';
import { type AddOptions, checkAdding } from './arguments.js';
import { isRefusedSocket, refusedSocket } from './ebpf-tier.js';
import { applyLiveOptions, type BoundOptions } from './listener-options.js';
import { adoptListeners, explain, inodeOf, openSocket } from './listeners.js';
import type { LiveOptions } from './live-options.js';
import { isClaimed, type Members, memberOf } from './members.js';
import { assertGives, SLOT_OPTIONS } from './options.js';
import type { Selection } from './selection.js';
import type { Settings } from './settings.js';
import type { GroupState, Member } from './tier.js';

/** Owns a listener from its opening until it is in its slot, and again from there until the tier has closed it. */
export class Membership {
  readonly #group: GroupState;
  /** How the listeners are bound: newcomers must be bound likewise, or the kernel takes them for another group. */
  readonly #bound: BoundOptions;
  readonly #members: Members;
  readonly #settings: Settings;
  readonly #selection: Selection;
  readonly #options: LiveOptions;
  /** Listeners of the group that are in no slot yet, by descriptor. */
  readonly #successors = new Map<number, NativeSocket>();

  constructor(
    group: GroupState,
    bound: BoundOptions,
    members: Members,
    settings: Settings,
    selection: Selection,
    options: LiveOptions,
  ) {
    this.#group = group;
    this.#bound = bound;
    this.#members = members;
    this.#settings = settings;
    this.#selection = selection;
    this.#options = options;
  }

  add(given: AddOptions): number {
    const { fd, slot: wanted, ...own } = checkAdding(given);
    const slot = this.#members.vacancy(wanted);
    const { asked } = this.#settings;
    const wishes = {
      weight: own.weight ?? asked.weight ?? 1,
      enabled: own.enabled ?? asked.enabled ?? true,
      cpu: own.cpu ?? asked.cpu ?? -1,
      maxConnections: own.maxConnections ?? asked.maxConnections ?? 0,
    };
    for (const name of SLOT_OPTIONS) assertGives(this.#selection.name, name, wishes[name]);
    if (!wishes.enabled) this.#options.assertOneStaysEnabled(slot);
    const socket = this.#newListener(fd, this.#selection.inForce('backlog'));
    this.#place(slot, memberOf(socket, { ...wishes, worker: { helps: false } }));
    return slot;
  }

  /** @param quiet when nobody accepts from the one before any more: until then it is given nothing new, and left alone. */
  async replace(slot: number, fd?: number, quiet?: Promise<unknown>): Promise<void> {
    const before = this.#members.at(slot);
    this.#assertCanLeave(slot, true);
    const { limit } = before;
    const successor = fd === undefined ? undefined : this.#successors.get(fd);
    if (fd !== undefined) this.#successors.delete(fd);
    const member = memberOf(successor ?? this.#newListener(fd, limit), before);
    this.#place(slot, { ...member, limit }, before);
    if (quiet) await quiet;
    if (this.#group.closed) before.socket.close();
    else await this.#leave(slot, before);
  }

  /**
   * A listener for whoever is to follow in a slot, which is given nothing before it is put there by {@link replace}.
   *
   * @returns its descriptor, which stays the group's.
   */
  openSuccessor(slot: number): number {
    const { limit } = this.#members.at(slot);
    const socket = this.#newListener(undefined, limit);
    this.#successors.set(socket.fd, socket);
    this.#group.order.joined(inodeOf(socket));
    return socket.fd;
  }

  /** One that nobody has followed with. Called for any other it does nothing. */
  closeSuccessor(fd: number): void {
    const socket = this.#successors.get(fd);
    if (!socket) return;
    this.#successors.delete(fd);
    const inode = inodeOf(socket);
    socket.close();
    this.#group.order.left(inode);
  }

  closeSuccessors(): void {
    for (const fd of [...this.#successors.keys()]) this.closeSuccessor(fd);
  }

  async remove(slot: number): Promise<void> {
    const member = this.#members.at(slot);
    this.#assertCanLeave(slot, false);
    this.#members.empty(slot);
    this.#group.keeping?.drop(`slot.${slot}`);
    await this.#leave(slot, member);
  }

  /** A listener for a slot, in the kernel's group and listening; closed again when it does not fit. */
  #newListener(fd: number | undefined, backlog: number): NativeSocket {
    const { endpoint } = this.#group;
    let socket: NativeSocket | undefined;
    try {
      if (fd === undefined) {
        socket = openSocket(endpoint, { ...this.#settings.asked, ...this.#bound });
      } else {
        socket = adoptListeners([fd], { endpoint, bound: this.#bound }).sockets[0] as NativeSocket;
        if (isClaimed(inodeOf(socket))) {
          throw new SpillwayError('ERR_SPILLWAY_BAD_FD', `descriptor ${fd} already belongs to a group`);
        }
        applyLiveOptions(socket, endpoint.family, this.#settings.asked);
      }
      socket.listen(backlog);
      return socket;
    } catch (error) {
      socket?.close();
      throw explain(error, 'cannot add a socket to the group');
    }
  }

  #place(slot: number, member: Member, before?: Member): void {
    const undo = this.#members.put(slot, member);
    try {
      this.#selection.tier.placed(slot, before);
      this.#members.claim(member);
      this.#group.keeping?.keep(`slot.${slot}`, member.socket.fd);
    } catch (error) {
      undo();
      member.socket.close();
      throw isRefusedSocket(error) ? refusedSocket(error) : explain(error, `cannot fill slot ${slot}`);
    }
  }

  async #leave(slot: number, member: Member): Promise<void> {
    this.#members.release(slot, member);
    const { tier } = this.#selection;
    try {
      await tier.leave(slot, member.socket, member.inode);
    } catch (error) {
      throw explain(error, `slot ${slot} could not hand over its queue`);
    } finally {
      if (this.#selection.tier !== tier && !this.#group.closed) this.#selection.tier.changed();
    }
  }

  #assertCanLeave(slot: number, replaced: boolean): void {
    if (!this.#selection.inForce('migrate')) return;
    const takers = this.#members.slots.filter(
      (member, other) => member?.enabled && (replaced || (other !== slot && member.socket.acceptQueue())),
    );
    if (takers.length === 0) {
      throw new SpillwayError('ERR_SPILLWAY_NO_SIBLING', `nobody could take over the queue of slot ${slot}`);
    }
    if (this.#selection.name !== 'ebpf' && !this.#group.canHandOver) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_TIER',
        `with the selector '${this.#selection.name}' the queue of a leaving socket needs an \`onConnection\` to take it`,
      );
    }
  }
}
