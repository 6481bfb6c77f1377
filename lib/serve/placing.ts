/**
 * Puts workers where their slots are placed, and somewhere else when a processor is taken offline: the kernel then lets
 * them run anywhere, and would leave it at that.
 */
import { type NativeError, native } from '../native.js';
import { assign, type Machine, type Place, type Placement, readMachine } from './placement.js';
import type { Port } from './port.js';
import type { Slots } from './slots.js';

/** Milliseconds between looks at which processors there are. */
const LOOK_EVERY = 1000;

export interface PlacingParts {
  placement: Placement;
  slots: Pick<Slots, 'all'>;
  ports: Iterable<Pick<Port, 'group'>>;
  /** Slots were moved because processors came or went. */
  moved: (cpus: readonly number[]) => void;
  report: (error: Error) => void;
  /** What there is now; for tests, which cannot take a processor away from the machine. */
  read?: (allowed: readonly number[]) => Machine;
}

export class Placing {
  readonly #parts: PlacingParts;
  readonly #timer: NodeJS.Timeout;
  /** As of the start: a worker of ours is placed by us alone. */
  readonly #allowed = native().allowedCpus();
  readonly #read: (allowed: readonly number[]) => Machine;
  #machine: Machine;

  constructor(parts: PlacingParts) {
    this.#parts = parts;
    this.#read = parts.read ?? readMachine;
    this.#machine = this.#read(this.#allowed);
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY);
    this.#timer.unref();
  }

  /** Where the worker of a slot is to be started; undefined: anywhere. */
  at(slot: number): Place | undefined {
    return assign(this.#parts.placement, slot + 1, this.#machine)[slot];
  }

  /** Tells a port, whose policy may ask for it, where the slots are. */
  tell(slot: number): void {
    const place = this.at(slot);
    for (const { group } of this.#parts.ports) {
      if (!group.has(slot) || group.getOption('selector') !== 'ebpf') continue;
      group.setOption('cpu', place?.length === 1 ? (place[0] ?? -1) : -1, slot);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const machine = this.#read(this.#allowed);
    if (machine.cpus.join() === this.#machine.cpus.join()) return;
    this.#machine = machine;
    for (const slot of this.#parts.slots.all) {
      const place = this.at(slot.number) ?? machine.cpus;
      this.tell(slot.number);
      for (const { pid } of slot.workers) if (pid !== undefined) this.#move(pid, place);
    }
    this.#parts.moved(machine.cpus);
  }

  #move(pid: number, place: Place): void {
    try {
      native().setAffinity(pid, Int32Array.from(place));
    } catch (error) {
      // It has gone.
      if (!['ESRCH', 'ENOENT'].includes((error as NativeError).code)) this.#parts.report(error as Error);
    }
  }
}
