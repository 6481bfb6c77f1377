/** Makes the ports agree with who is at the slots. */
import type { Handover } from './handover.js';
import type { Operations } from './operations.js';
import type { Rescue } from './rescue.js';
import type { ServicePorts } from './service-ports.js';
import type { Slot } from './slot.js';
import type { Slots } from './slots.js';

export interface AgreementParts {
  slots: Slots;
  ports: ServicePorts;
  handover: Handover;
  rescue: Rescue;
  operations: Operations;
  /** Told after every look. */
  agreed: () => void;
  /** What goes wrong with one slot or port must not keep the others from agreeing. */
  report: (error: Error) => void;
}

export class Agreement {
  readonly #parts: AgreementParts;
  /** It is going to be looked at whether slots and workers agree. */
  #isDue = false;
  /** Sockets that are being taken out; the groups must not be closed meanwhile. */
  readonly #leaving = new Set<Promise<void>>();

  constructor(parts: AgreementParts) {
    this.#parts = parts;
  }

  /** To be called after every change of who is at a slot, or of what a worker listens on. */
  look(): void {
    // Nobody is to be given anything new any more; the many changes of an end are looked at once.
    if (!this.#parts.operations.isEnding) this.#lookNow();
    else if (!this.#isDue) {
      this.#isDue = true;
      setImmediate(() => this.#lookNow());
    }
  }

  /** Nobody is at the slot: its queues go to the siblings, as far as that is possible. */
  vacate(slot: Slot): void {
    const { slots, ports, operations, report } = this.#parts;
    // Whoever else is at the slot has the same listener, and takes what is queued there.
    const isVacant = slots.wanted[slot.number] === slot && slot.workers.length === 0;
    if (!isVacant || !slots.proven || operations.isEnding) return;
    const forGood = slot.failed !== undefined && !slot.isStaffed;
    for (const port of ports) {
      const left = port
        .vacate(slot.number, { forGood })
        .then(() => this.look())
        .catch(report)
        .finally(() => this.#leaving.delete(left));
      this.#leaving.add(left);
    }
  }

  /** Fulfilled when no socket is being taken out any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#leaving);
  }

  #lookNow(): void {
    this.#isDue = false;
    const { slots, ports, handover, rescue, agreed, report } = this.#parts;
    const staff = new Map(slots.wanted.map((slot) => [slot.number, slot.workers]));
    const attempt = (act: () => void) => {
      try {
        act();
      } catch (error) {
        report(error as Error);
      }
    };
    for (const { number, current } of slots.wanted) attempt(() => rescue.serves(number, current));
    for (const number of rescue.staffed) if (!staff.has(number)) rescue.serves(number, undefined);
    for (const port of ports) attempt(() => port.agree(staff));
    handover.retry();
    agreed();
  }
}
