/** Starts workers when they are wanted, and retires them when they are not: what {@link decide} says is carried out. */
import { type Change, type DemandRules, decide, type Look, type Memory } from './demand.js';
import { usageOf } from './process-usage.js';
import type { ServicePorts } from './service-ports.js';
import type { Slots } from './slots.js';

/** Milliseconds between two looks while nobody is wanted. */
const LOOK_EVERY = 1000;

export interface DemandParts {
  rules: DemandRules;
  slots: Slots;
  ports: ServicePorts;
  /** Carries a change out; fulfilled when it is done, and rejected when it cannot be. */
  change: (change: Change) => Promise<void>;
  report: (error: Error) => void;
}

export class DemandWatch {
  readonly #parts: DemandParts;
  readonly #timer: NodeJS.Timeout;
  #memory: Memory = {};
  #turnedAway = false;
  #isLooking = false;
  /** A change is under way: another one waits for what becomes of it. */
  #isChanging = false;
  #closed = false;

  constructor(parts: DemandParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY);
    this.#timer.unref();
  }

  /** Somebody has found no room. */
  wanted(): void {
    this.#turnedAway = true;
    this.#look();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    if (this.#isLooking || this.#isChanging || this.#closed) return;
    this.#isLooking = true;
    try {
      const look = await this.#see();
      if (this.#closed) return;
      const { change, memory } = decide(this.#parts.rules, look, this.#memory);
      this.#memory = memory;
      this.#turnedAway = false;
      if (change) void this.#carryOut(change);
    } catch (error) {
      this.#parts.report(error as Error);
    } finally {
      this.#isLooking = false;
    }
  }

  async #carryOut(change: Change): Promise<void> {
    this.#isChanging = true;
    try {
      await this.#parts.change(change);
    } catch {
      // It has been told where it happened; the next look finds out what is still wanted.
    } finally {
      this.#isChanging = false;
    }
  }

  async #see(): Promise<Look> {
    const { slots, ports } = this.#parts;
    const serving = slots.wanted.flatMap(({ current }) => (current?.isReady ? [current] : []));
    const usage = await usageOf(serving.map(({ pid }) => pid));
    const groups = [...ports].filter(({ isOpen }) => isOpen).map(({ group }) => group);
    const waiting = groups.map((group) => group.waiting()).filter((list) => list !== undefined);
    const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0);
    return {
      now: performance.now(),
      workers: serving.map(({ pid, slot }) => {
        const counts = groups.flatMap((group) => (pid === undefined ? [] : (group.connectionsOf(pid) ?? [])));
        const limits = groups.flatMap((group) =>
          group.has(slot) ? [group.getOption('maxConnections', slot)] : [],
        );
        const cpu = usage.get(pid ?? 0)?.cpu;
        return {
          connections: counts.length > 0 ? sum(counts) : undefined,
          limit: limits.includes(0) ? 0 : sum(limits),
          busy: cpu === undefined ? undefined : cpu / 100,
        };
      }),
      starting: slots.wanted.length - serving.length,
      turnedAway: this.#turnedAway,
      waiting: {
        length: sum(waiting.map(({ length }) => length)),
        age: Math.max(0, ...waiting.map(({ age }) => age)),
      },
    };
  }
}
