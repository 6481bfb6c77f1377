/** A group whose queues are brought into a certain state and kept in it while the kernel program decides. */
import { closeSync } from 'node:fs';
import { type GroupStats, SocketGroup, type SocketStats } from '../../lib/group/group.js';
import type { OptionName } from '../../lib/group/options.js';
import { type Target, testing } from '../../test/support/testing.js';
import { median } from '../method/statistics.js';

export const POLICIES = ['idle-first', 'hash', 'two-choices', 'least-queue'] as const;
export type Policy = (typeof POLICIES)[number];

/**
 * `idle`: every queue is empty, or nearly all are; `free`: somebody waits in every queue, and every queue has room;
 * `one-full`, `half-full`: one queue or every second one is full, the others as with `free`; `all-full`: nobody has room.
 */
export const STATES = ['idle', 'free', 'one-full', 'half-full', 'all-full'] as const;
export type State = (typeof STATES)[number];

export const READ_BY = ['cast', 'probe'] as const;
export type ReadBy = (typeof READ_BY)[number];

export interface StageOptions {
  sockets: number;
  state: State;
  readBy: ReadBy;
  port: number;
}

/** How much is measured at once: `parts` averages of at least `runs` decisions each, of which the median counts. */
export interface Amount {
  parts: number;
  runs: number;
}

export interface Sample {
  /** Nanoseconds per decision, the accounting included. */
  nanoseconds: number;
  /** Shares of the decisions, 0 to 1: another one than the first choice was taken; nobody had room. */
  redirected: number;
  dropped: number;
}

/** The largest backlog that net.core.somaxconn allows by default. */
const ROOMY = 4095;
/** The smallest backlog; such a queue is full with two connections. */
const SCANTY = 1;
/** Connections in a row when queues need not stay empty: they fit into one queue. */
const BURST = 512;

function isFull(state: State, slot: number): boolean {
  if (state === 'all-full') return true;
  if (state === 'half-full') return slot % 2 === 0;
  return state === 'one-full' && slot === 0;
}

/** Whether a state of a group of so many sockets is another name for a state that is measured anyway. */
export function isSameAsAnother(state: State, sockets: number): boolean {
  return state === 'half-full' && sockets === 2;
}

export class Stage {
  readonly #group: SocketGroup;
  readonly #target: Target;
  readonly #state: State;

  private constructor(group: SocketGroup, target: Target, state: State) {
    this.#group = group;
    this.#target = target;
    this.#state = state;
  }

  /** Needs what the `ebpf` selector needs, and a port that nobody uses. */
  static async open({ sockets, state, readBy, port }: StageOptions): Promise<Stage> {
    const target = { address: '127.0.0.1', family: 4, port } as const;
    const listeners: number[] = [];
    try {
      for (let slot = 0; slot < sockets; slot++) {
        const backlog = isFull(state, slot) ? SCANTY : ROOMY;
        listeners.push(testing().openListener({ ...target, reusePort: true, backlog }));
      }
      const group = await SocketGroup.of(listeners, {
        selector: 'ebpf',
        policy: 'hash',
        capacity: sockets,
        readBy,
      });
      const stage = new Stage(group, target, state);
      try {
        stage.#fill();
        return stage;
      } catch (error) {
        stage.close();
        throw error;
      }
    } finally {
      // The group works on duplicates.
      for (const listener of listeners) closeSync(listener);
    }
  }

  close(): void {
    this.#group.close();
  }

  /** Measures one policy; `warmUp` decisions go before. The state is the same afterwards. */
  sample(policy: Policy, { parts, runs }: Amount, warmUp: number): Sample {
    this.#group.setOption('policy' satisfies OptionName, policy);
    this.#decide(warmUp);
    const before = this.#group.stats();
    const averages: number[] = [];
    let decisions = 0;
    for (let part = 0; part < parts; part++) {
      const { runs: done, nanoseconds } = this.#decide(runs);
      averages.push(nanoseconds / done);
      decisions += done;
    }
    const outcome = this.#outcome(policy, before, decisions);
    return { nanoseconds: median(averages), ...outcome };
  }

  /** At least `atLeast` decisions, one by every connection, and what the kernel accounted for them. */
  #decide(atLeast: number): { runs: number; nanoseconds: number } {
    const sockets = this.#group.size;
    const burst = this.#state === 'idle' ? Math.max(1, sockets >> 3) : BURST;
    const before = this.#runTime();
    let connected = 0;
    while (connected < atLeast) {
      this.#connect(burst);
      connected += burst;
      this.#restore();
    }
    const after = this.#runTime();
    const runs = after.runs - before.runs;
    if (runs !== connected) {
      throw new Error(`the kernel program ran ${runs} times for ${connected} connections`);
    }
    return { runs, nanoseconds: after.nanoseconds - before.nanoseconds };
  }

  /** The kernel's own account, or a reason why there is none. */
  #runTime(): { runs: number; nanoseconds: number } {
    const runTime = this.#group.runTime();
    if (!runTime) throw new Error('the group is not served by the kernel program');
    return runTime;
  }

  /** The clients are gone at once, by RST; what they leave in the queues stays there until it is accepted. */
  #connect(count: number): void {
    testing().timeConnections({ ...this.#target, count });
  }

  /** By hash, which comes by every slot sooner or later: after `sockets` connections by two of three. */
  #fill(): void {
    if (this.#state === 'idle') return;
    const sockets = this.#group.size;
    for (let attempt = 0; attempt < 1000; attempt++) {
      this.#connect(2 * sockets);
      this.#restore();
      if (this.#group.stats().sockets.every((socket) => this.#isAsWanted(socket))) return;
    }
    throw new Error(`the queues of ${sockets} sockets could not be brought into the state '${this.#state}'`);
  }

  #isAsWanted({ slot, queue, limit }: SocketStats): boolean {
    if (this.#state === 'idle') return queue === 0;
    return isFull(this.#state, slot) ? queue === limit + 1 : queue === 1;
  }

  /** Accepts what is too much for the state. */
  #restore(): void {
    if (this.#state === 'all-full') return;
    if (this.#state === 'idle') {
      for (let slot = 0; slot < this.#group.size; slot++) this.#accept(this.#group.fd(slot));
      return;
    }
    for (const { slot, fd, queue } of this.#group.stats().sockets) {
      if (queue > 1 && !isFull(this.#state, slot)) this.#accept(fd, queue - 1);
    }
  }

  #accept(listener: number, most?: number): void {
    testing().closeMany(testing().acceptMany(listener, most));
  }

  /** A figure is worth something only if the queues were as they should be from the first decision to the last. */
  #outcome(policy: Policy, before: GroupStats, decisions: number): { redirected: number; dropped: number } {
    const after = this.#group.stats();
    const since = (name: 'redirected' | 'dropped') => (after[name] ?? 0) - (before[name] ?? 0);
    const [redirected, dropped] = [since('redirected'), since('dropped')];
    const somebodyFull = after.sockets.some(({ slot }) => isFull(this.#state, slot));
    // Of those with room `idle-first` passes by whoever has not come for a while. Here nobody waits for connections, so
    // the kernel takes that from when queues were last emptied, and it is not the same for all of them.
    const leavesForRoomAlone = policy !== 'idle-first';
    if (
      !after.sockets.every((socket) => this.#isAsWanted(socket)) ||
      dropped !== (this.#state === 'all-full' ? decisions : 0) ||
      (leavesForRoomAlone && !somebodyFull && redirected !== 0)
    ) {
      throw new Error(
        `the state '${this.#state}' of ${this.#group.size} sockets did not last: of ${decisions} connections ` +
          `${redirected} were redirected, ${dropped} dropped`,
      );
    }
    return { redirected: redirected / decisions, dropped: dropped / decisions };
  }
}
