/**
 * What user space alone can see of workers that are stuck, for the selectors without a program in the kernel: a connection
 * waits, and the event loop of the worker has not turned since the last look. A loop that waits for events would have been
 * woken by it.
 */
import type { LoopNote } from '../native.js';

/** What one look sees of a slot. */
export interface SlotLook {
  /** Connections in the accept queue. */
  queue: number;
  /** What the worker's loop does; undefined for programs that do not tell. */
  loop: LoopNote | undefined;
  /** Whether its worker can be sent a listener to take connections from. */
  helps: boolean;
}

/** A worker that is free, and the queue that it shall take from. */
export interface RescueOrder {
  from: number;
  to: number;
  waiting: number;
}

/**
 * Looks in a row after which a slot is given nothing new. With more workers than processors one that is not stuck may wait
 * for its turn that long, and who is named is in a program that has to be attached anew.
 */
const AVOID_AFTER = 5;

export class ClassicRescue {
  #before: readonly (SlotLook | undefined)[] = [];
  /** For how many looks in a row nobody has come, by slot. */
  readonly #missed = new Map<number, number>();
  /** Slots whose worker was asked to help, and whose loop has not turned since: it is not as free as it looks. */
  readonly #asked = new Set<number>();

  /**
   * Compares with the look before, about a millisecond ago.
   *
   * @returns the slots that shall be given nothing new, and who shall help whom.
   */
  look(slots: readonly (SlotLook | undefined)[]): { avoid: ReadonlySet<number>; orders: RescueOrder[] } {
    const waiting: { slot: number; left: number }[] = [];
    const free: number[] = [];
    slots.forEach((now, slot) => {
      const comes = !now || this.#comes(slot, now);
      if (comes) this.#missed.delete(slot);
      else this.#missed.set(slot, (this.#missed.get(slot) ?? 0) + 1);
      if (!now) return;
      if (!comes && now.queue > 0) waiting.push({ slot, left: now.queue });
      if (comes && now.queue === 0 && now.helps && now.loop?.state === 'waiting') free.push(slot);
    });
    this.#before = slots;
    const avoid = new Set(
      [...this.#missed].filter(([, looks]) => looks >= AVOID_AFTER).map(([slot]) => slot),
    );
    return { avoid, orders: this.#pair(waiting, free, slots) };
  }

  /** Nothing is known any more: the looks pause. */
  forget(): void {
    this.#before = [];
    this.#missed.clear();
    this.#asked.clear();
  }

  /** Whether somebody comes for what waits, or for what was asked of it, as far as can be seen. */
  #comes(slot: number, { queue, loop }: SlotLook): boolean {
    const before = this.#before[slot];
    if (!loop || !before?.loop) {
      // Nobody is there, or another one than at the look before.
      this.#asked.delete(slot);
      return true;
    }
    if (
      before.loop.turn !== loop.turn ||
      before.loop.since !== loop.since ||
      before.loop.state !== loop.state
    ) {
      this.#asked.delete(slot);
      return true;
    }
    // A queue may also become shorter because others help.
    return queue === 0 ? !this.#asked.has(slot) : before.queue === 0;
  }

  /** Every free one helps where most wait that nobody comes for. */
  #pair(
    waiting: readonly { slot: number; left: number }[],
    free: readonly number[],
    slots: readonly (SlotLook | undefined)[],
  ): RescueOrder[] {
    const orders: RescueOrder[] = [];
    for (const to of free) {
      let most: { slot: number; left: number } | undefined;
      for (const each of waiting) if (each.left > (most?.left ?? 0)) most = each;
      if (!most) break;
      most.left--;
      orders.push({ from: most.slot, to, waiting: slots[most.slot]?.queue ?? 0 });
      this.#asked.add(to);
    }
    return orders;
  }
}
