/**
 * The waiting list of a port: the queue of a listener that nobody owns (docs/limits.md). Workers are sent that listener, and
 * take from it by themselves; who has waited for too long is reset here.
 */
import { closeSync } from 'node:fs';
import type { SocketGroup } from '../group/group.js';
import type { ClaimsOfWorker } from '../group/tier.js';
import { type NativeSocket, native } from '../native.js';
import type { WorkerProcess } from './worker-process.js';

interface Given {
  readonly worker: WorkerProcess;
  readonly list: number | undefined;
  readonly limited: boolean;
  readonly claims: ClaimsOfWorker | undefined;
}

export class WaitingList {
  readonly #port: number;
  readonly #group: SocketGroup;
  /** Who takes from it, by slot. */
  readonly #given = new Map<number, Given>();
  /** Connections that were taken out, and have to wait for their own end. */
  readonly #held = new Map<number, NodeJS.Timeout>();

  /** @param port the number by which workers know it. */
  constructor(port: number, group: SocketGroup) {
    this.#port = port;
    this.#group = group;
  }

  /** That worker serves in the slot now; undefined: nobody. It is told once. */
  serves(slot: number, worker: WorkerProcess | undefined): void {
    const list = this.#group.waitingList;
    const limited = this.#isLimited;
    const given = this.#given.get(slot);
    if (given?.worker === worker && given?.list === list && given?.limited === limited) return;
    given?.claims?.end();
    this.#given.delete(slot);
    if (!worker?.links) return;
    // Also without a list: whose a connection is that it takes from another worker is said by them.
    const claims = this.#group.openClaims(slot);
    if (list === undefined && !claims) return;
    try {
      const { sender = -1, receiver = -1 } = claims ?? {};
      native().sendWaitingList(worker.links.help, this.#port, list ?? -1, sender, receiver);
      this.#given.set(slot, { worker, list, limited, claims });
    } catch (error) {
      claims?.end();
      throw error;
    } finally {
      if (claims) for (const fd of [claims.sender, claims.receiver]) closeSync(fd);
    }
  }

  /** The first one has waited for longer than it may. */
  expire(): void {
    const fd = this.#group.waitingList;
    const limit = this.#group.getOption('waitTimeout');
    if (fd === undefined || limit === 0) return;
    const list: NativeSocket = new (native().Socket)('duplicate', fd);
    try {
      while ((this.#group.waiting()?.age ?? 0) >= limit) {
        const connection = list.accept();
        if (connection < 0) return;
        // A worker may have taken the first one meanwhile, and this is the next.
        const left = limit - idleTime(connection);
        if (left <= 0) native().reset(connection);
        else this.#hold(connection, left);
      }
    } finally {
      list.close();
    }
  }

  close(): void {
    for (const { claims } of this.#given.values()) claims?.end();
    this.#given.clear();
    for (const [connection, timer] of this.#held) {
      clearTimeout(timer);
      native().reset(connection);
    }
    this.#held.clear();
  }

  /**
   * It cannot be put back, and handing it to a worker would not ask whether there is room. So it waits for its own end; that
   * takes a worker that was a few microseconds ahead.
   */
  #hold(connection: number, milliseconds: number): void {
    const timer = setTimeout(() => {
      this.#held.delete(connection);
      native().reset(connection);
    }, milliseconds);
    this.#held.set(connection, timer.unref());
  }

  get #isLimited(): boolean {
    return this.#group.slots.some((slot) => this.#group.getOption('maxConnections', slot) > 0);
  }
}

/** Milliseconds; of a connection of which nothing can be learned: as long as can be. */
function idleTime(connection: number): number {
  try {
    return native().idleSince(connection);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
