/**
 * What keeps new connections out of a group below `ebpf`, where no program can refuse them: a *gate*, a listener of the
 * kernel's group that hears nobody, and a classic program that leads every SYN to it (classic.ts).
 *
 * It hears nobody because its peers have to sign (RFC 2385) with a key that nobody has: the kernel drops what is not
 * signed before it looks at it (net/ipv4/tcp_ipv4.c, `tcp_v4_rcv`), so there is no moment at which somebody could get
 * in, nothing that must be kept full, and no answer that would make a client believe in a connection.
 */
import { randomBytes } from 'node:crypto';
import type { NativeSocket } from '../native.js';
import { closeAll, inodeOf } from './listeners.js';
import type { GroupState } from './tier.js';

type Prefix = readonly [address: string, family: 4 | 6];

/** All the peers a listener can have, as prefixes of length 0. A dual-stack one has those of both families. */
const EVERYBODY: Record<4 | 6, readonly Prefix[]> = {
  4: [['0.0.0.0', 4]],
  6: [
    ['::', 6],
    ['::ffff:0.0.0.0', 6],
  ],
};

const KEY_BYTES = 16;

/**
 * Makes a listener hear nobody, for all who hold it and for good. What is in its queue already can be accepted and works
 * as before; its half-open requests end without an answer.
 */
export function deafen(socket: NativeSocket, family: 4 | 6): void {
  const key = randomBytes(KEY_BYTES);
  for (const [address, of] of EVERYBODY[family]) socket.setSignatureKey(address, of, 0, key);
}

/**
 * Two listeners, of which one is never the last of the kernel's group: that one keeps its index whoever leaves, as the
 * last takes the leaver's place. So a program that names it is right before and after a departure, also one that
 * nobody has told us.
 */
const SOCKETS = 2;

/** Owns its listeners, and reports them to the group's join order. */
export class Gate {
  readonly #group: GroupState;
  readonly #sockets: { socket: NativeSocket; inode: number }[] = [];

  /** Throws what opening a listener throws, and the addon's errors; leaves nothing behind when it does. */
  constructor(group: GroupState) {
    this.#group = group;
    try {
      for (let count = 0; count < SOCKETS; count++) this.#open();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Where a program has to lead what is to be dropped; right until two listeners have left the kernel's group. */
  get index(): number {
    const { order } = this.#group;
    const indices = this.#sockets.map(({ inode }) => order.indexOf(inode));
    return Math.min(...indices);
  }

  /** A way to the kernel's group that no other holder can shut. */
  get socket(): NativeSocket | undefined {
    return this.#sockets[0]?.socket;
  }

  /** To be called when the program in force does not name it, or when nobody can get in any more. */
  close(): void {
    for (const { socket, inode } of this.#sockets.splice(0)) {
      socket.close();
      this.#group.order.left(inode);
    }
  }

  #open(): void {
    const { endpoint, order } = this.#group;
    const socket = this.#group.newSocket();
    try {
      // Before listen(): from the first moment on there is nothing to get into.
      deafen(socket, endpoint.family);
      socket.listen(0);
    } catch (error) {
      closeAll([socket]);
      throw error;
    }
    const inode = inodeOf(socket);
    order.joined(inode);
    this.#sockets.push({ socket, inode });
  }
}
