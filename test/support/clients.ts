import type { SocketGroup } from '../../lib/group/group.js';
import { type ClientState, type Target, testing } from './testing.js';

/** Where a client reaches a group; a group on all addresses is reached through loopback. */
export function targetOf(group: SocketGroup): Target {
  const { address, family, port } = group.address;
  if (address === '::') return { address: '::1', family, port };
  if (address === '0.0.0.0') return { address: '127.0.0.1', family, port };
  return { address, family, port };
}

/** Kernel clients that were started in a row; what they see is one side of every comparison with a group's counters. */
export class Clients {
  readonly fds: readonly number[];
  readonly #states: ClientState[];

  private constructor(started: readonly { fd: number; state: ClientState }[]) {
    this.fds = started.map(({ fd }) => fd);
    this.#states = started.map(({ state }) => state);
  }

  static connect(to: SocketGroup | Target, count: number): Clients {
    const target = 'stats' in to ? targetOf(to) : to;
    return new Clients(testing().connectMany({ ...target, count }));
  }

  /** By client, in the order they connected. An error, once seen, stays. */
  get states(): readonly ClientState[] {
    const now = testing().pollEstablished(this.fds);
    now.forEach((state, index) => {
      if (state !== 'closed' || this.#states[index] === 'established') this.#states[index] = state;
    });
    return this.#states;
  }

  count(state: ClientState): number {
    return this.states.filter((each) => each === state).length;
  }

  get established(): number {
    return this.count('established');
  }

  /** How many have had no answer to their SYN yet. */
  get unanswered(): number {
    return this.count('inProgress');
  }

  /** SYNs sent: one each, and the repeated ones. Only right while no client has sent anything else. */
  get syns(): number {
    return this.fds.length + testing().retransmissions(this.fds);
  }

  /** Every established client says this. */
  say(text: string | ((index: number) => string)): void {
    const states = this.states;
    this.fds.forEach((fd, index) => {
      if (states[index] === 'established') {
        testing().send(fd, typeof text === 'string' ? text : text(index));
      }
    });
  }

  /** What each has heard since it was asked last. */
  heard(): string[] {
    return this.fds.map((fd) => testing().receive(fd).text);
  }

  close(): void {
    testing().closeMany(this.fds);
  }
}
