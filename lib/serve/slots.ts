/** The slots of a master: those there are to be, and those that were scaled away and whose workers finish what they have. */
import type { Slot } from './slot.js';
import type { WorkerProcess } from './worker-process.js';

export class Slots {
  readonly #wanted: Slot[] = [];
  readonly #retired = new Set<Slot>();
  /** A worker has been ready: the program can run. */
  proven = false;

  /** By number. One that is being scaled away is among them until it is out of the way. */
  get wanted(): readonly Slot[] {
    return this.#wanted;
  }

  /** Those that were scaled away included, as long as somebody is there. */
  get all(): Slot[] {
    return [...new Set([...this.#wanted, ...this.#retired])];
  }

  /** Living processes by slot, successors and those that finish what they have included. */
  get workers(): WorkerProcess[] {
    return this.all.flatMap(({ workers }) => workers);
  }

  /** How many of the wanted are not being scaled away. */
  get staying(): number {
    return this.#wanted.filter((slot) => !this.#retired.has(slot)).length;
  }

  put(slot: Slot): void {
    this.#wanted[slot.number] = slot;
  }

  /** It is being scaled away, or was. */
  isRetired(slot: Slot): boolean {
    return this.#retired.has(slot);
  }

  retire(slot: Slot): void {
    this.#retired.add(slot);
  }

  /** Nobody is there any more. */
  forget(slot: Slot): void {
    this.#retired.delete(slot);
  }

  /** So many are wanted, the first ones. */
  keepFirst(count: number): void {
    this.#wanted.length = count;
  }
}
