/**
 * Rescues: what waits at a worker that is stuck is taken by one that is free, and a worker that computes for long stands
 * back behind those that wake up on its processor.
 *
 * Who that is, the selectors say (native/bpf/rescue.h); a thread sends the free worker the other's listener, and it
 * accepts from there (native/acceptor.h). The master's event loop has no part in it.
 */
import type { Rescues } from '../group/tier.js';
import { type NativeRescuer, native } from '../native.js';
import type { WorkerProcess } from './worker-process.js';

/** Each worker is told apart by its object: another one's descriptors may have the same numbers. */
type Served = Pick<WorkerProcess, 'pid' | 'links'>;

/** What the kernel says of a port to nobody in particular. */
export type Notice = 'wanted' | 'expired';

/** SPILLWAY_ORDER_WANTED, SPILLWAY_ORDER_EXPIRED in native/bpf/layout.h. */
const NOTICES: ReadonlyMap<number, Notice> = new Map([
  [3, 'wanted'],
  [4, 'expired'],
]);

export class Rescue {
  readonly #notice: (port: number, notice: Notice) => void;
  #rescuer: NativeRescuer | undefined;
  /** Who serves, by slot. */
  readonly #serving = new Map<number, Served>();
  #closed = false;

  /**
   * @param notice is told when a port was wanted by more than there is room for, a hundred times a second at most, and when
   *   the first in its waiting list has waited for too long.
   */
  constructor(notice: (port: number, notice: Notice) => void = () => {}) {
    this.#notice = notice;
  }

  /** The rescues of the port of that number. */
  at(port: number): Rescues {
    let opened = 0;
    return {
      open: (ring = -1) => {
        const own = ++opened;
        this.#start()?.addPort(port, ring);
        return () => {
          if (own === opened) this.#rescuer?.removePort(port);
        };
      },
      order: (from, to, waiting) => this.#rescuer?.order(port, from, to, waiting),
      placed: (slot, fd) => this.#rescuer?.setListener(port, slot, fd),
      left: (slot) => this.#rescuer?.clearListener(port, slot),
    };
  }

  /**
   * Who serves in a slot from now on; undefined: nobody.
   *
   * @throws the addon's errors; nobody is known there then, and the same may be said again.
   */
  serves(slot: number, worker: Served | undefined): void {
    if (this.#serving.get(slot) === worker) return;
    // The one before comes first: its descriptor may be the only one that can be had for the next.
    this.#serving.delete(slot);
    this.#rescuer?.clearWorker(slot);
    if (worker?.pid === undefined) return;
    this.#tell(slot, worker);
    this.#serving.set(slot, worker);
  }

  /** The slots in which somebody serves. */
  get staffed(): number[] {
    return [...this.#serving.keys()];
  }

  /** Orders of a port that have reached a free worker, since the start. */
  sent(port: number): number {
    return this.#rescuer?.sent(port) ?? 0;
  }

  close(): void {
    this.#closed = true;
    this.#rescuer?.close();
    this.#rescuer = undefined;
  }

  /** The thread is there as soon as somebody may have orders for it. */
  #start(): NativeRescuer | undefined {
    if (this.#closed || this.#rescuer) return this.#rescuer;
    this.#rescuer = new (native().Rescuer)((port, kind) => {
      const notice = NOTICES.get(kind);
      if (notice) this.#notice(port, notice);
    });
    try {
      for (const [slot, worker] of this.#serving) this.#tell(slot, worker);
    } catch (error) {
      // Whoever opens next starts one that knows them all.
      this.#rescuer.close();
      this.#rescuer = undefined;
      throw error;
    }
    return this.#rescuer;
  }

  #tell(slot: number, { pid, links }: Served): void {
    if (pid !== undefined) this.#rescuer?.setWorker(slot, pid, links?.help ?? -1);
  }
}
