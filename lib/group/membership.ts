/** Sockets that join a group, take another one's place, and leave. */
import { SpillwayError } from '../errors.js';
import type { NativeSocket } from '../native.js';
import { type AddOptions, checkAdding } from './arguments.js';
import { isRefusedSocket, refusedSocket } from './ebpf-tier.js';
import { applyLiveOptions, type BoundOptions } from './listener-options.js';
import { adoptListeners, explain, inodeOf, openSocket } from './listeners.js';
import type { LiveOptions } from './live-options.js';
import { isClaimed, type Members, memberOf } from './members.js';
import { assertGives } from './options.js';
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
    const weight = own.weight ?? this.#settings.asked.weight ?? 1;
    const enabled = own.enabled ?? this.#settings.asked.enabled ?? true;
    const cpu = own.cpu ?? this.#settings.asked.cpu ?? -1;
    assertGives(this.#selection.name, 'weight', weight);
    assertGives(this.#selection.name, 'enabled', enabled);
    assertGives(this.#selection.name, 'cpu', cpu);
    if (!enabled) this.#options.assertOneStaysEnabled(slot);
    const socket = this.#newListener(fd, this.#selection.inForce('backlog'));
    this.#place(slot, memberOf(socket, { weight, enabled, cpu, worker: { helps: false } }));
    return slot;
  }

  async replace(slot: number, fd?: number): Promise<void> {
    const before = this.#members.at(slot);
    this.#assertCanLeave(slot, true);
    const { limit } = before;
    const member = memberOf(this.#newListener(fd, limit), before);
    this.#place(slot, { ...member, limit }, before);
    await this.#leave(slot, before);
  }

  async remove(slot: number): Promise<void> {
    const member = this.#members.at(slot);
    this.#assertCanLeave(slot, false);
    this.#members.empty(slot);
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
