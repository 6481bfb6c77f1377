/**
 * Whose connections are counted together: for every instance of a worker a row of `admissions` (native/bpf/layout.h), which
 * the kernel writes. An instance is a process at a slot; while none is known, the slot's listener stands for it.
 */
import { SpillwayError } from '../errors.js';
import type { Admission, NativeSelector } from '../native.js';

interface Instance {
  readonly row: number;
  process: number | undefined;
}

/** The first row is the waiting list's. */
const FIRST_ROW = 1;

/** Who has which row, for another process to go on with. */
export interface AdmissionsSnapshot {
  current: { slot: number; row: number; process: number | undefined }[];
  ending: { row: number; process: number | undefined }[];
}

export class Admissions {
  readonly #selector: NativeSelector;
  /** Who is given what comes, by slot. */
  readonly #current = new Map<number, Instance>();
  /** Those that have connections left. */
  readonly #ending = new Set<Instance>();
  readonly #free: number[] = [];
  #counting = false;

  /** @param left of whoever had this selector's maps before. */
  constructor(selector: NativeSelector, left?: AdmissionsSnapshot) {
    this.#selector = selector;
    for (const { slot, ...instance } of left?.current ?? []) this.#current.set(slot, instance);
    for (const instance of left?.ending ?? []) this.#ending.add({ ...instance });
    const taken = new Set([...this.#current.values(), ...this.#ending].map(({ row }) => row));
    for (let row = selector.instances; row-- > FIRST_ROW; ) {
      if (taken.has(row)) continue;
      // Somebody's of whom nothing was noted any more.
      if (left && selector.admission(row).open > 0) this.#ending.add({ row, process: undefined });
      else this.#free.push(row);
    }
  }

  snapshot(): AdmissionsSnapshot {
    return {
      current: [...this.#current].map(([slot, { row, process }]) => ({ slot, row, process })),
      ending: [...this.#ending].map(({ row, process }) => ({ row, process })),
    };
  }

  get counting(): boolean {
    return this.#counting;
  }

  /** From now on connections are counted. Whoever is in a slot has to be opened after that. */
  start(): void {
    if (this.#counting) return;
    this.#selector.countLive();
    this.#counting = true;
  }

  /** The row in force at a slot; 0: nothing is counted there. */
  rowOf(slot: number): number {
    return this.#current.get(slot)?.row ?? 0;
  }

  /**
   * A listener is about to come into the slot: what comes to it is another instance's.
   *
   * @param limit of its connections; 0: none.
   * @returns what brings back the one before.
   * @throws {SpillwayError} `ERR_SPILLWAY_LIMIT`
   */
  open(slot: number, limit: number): () => void {
    if (!this.#counting) return () => {};
    const before = this.#current.get(slot);
    const instance = { row: this.#take(), process: undefined };
    this.#selector.clearAdmission(instance.row, limit);
    this.#current.set(slot, instance);
    if (before) this.#ending.add(before);
    return () => {
      this.#ending.add(instance);
      if (before) {
        this.#ending.delete(before);
        this.#current.set(slot, before);
      } else this.#current.delete(slot);
    };
  }

  /** There is no listener in the slot any more. */
  left(slot: number): void {
    const instance = this.#current.get(slot);
    this.#current.delete(slot);
    if (instance) this.#ending.add(instance);
  }

  /**
   * That process serves at the slot from now on. One whose predecessor has gone takes over what was counted for that one:
   * the connections in the queue.
   *
   * @returns whether the row in force is another one now: the listener has to be tagged anew.
   */
  introduce(slot: number, process: number, limit: number): boolean {
    const before = this.#current.get(slot);
    if (!before || before.process === process) return false;
    const others = before.process !== undefined && isAlive(before.process);
    if (others) this.open(slot, limit);
    const now = this.#current.get(slot) ?? before;
    now.process = process;
    return others;
  }

  /** How many connections the worker of a slot may have; 0: as many as come. */
  limit(slot: number, limit: number): void {
    const row = this.rowOf(slot);
    if (row) this.#selector.setLimit(row, limit);
  }

  /** What the instance in force at a slot has; undefined where nothing is counted. */
  at(slot: number): Admission | undefined {
    const row = this.rowOf(slot);
    return row ? this.#selector.admission(row) : undefined;
  }

  /** What a process has, also when another one serves in its place already; undefined for one that is not known. */
  of(process: number): Admission | undefined {
    for (const instance of [...this.#current.values(), ...this.#ending])
      if (instance.process === process) return this.#selector.admission(instance.row);
    return undefined;
  }

  #take(): number {
    const row = this.#free.pop() ?? this.#reclaim();
    if (row !== undefined) return row;
    throw new SpillwayError('ERR_SPILLWAY_LIMIT', 'too many workers of the group have not ended yet', {
      hint: 'Set `drainTimeout` lower, or open the group with a larger `capacity`.',
    });
  }

  /** Those that have ended give their rows back when one is needed. */
  #reclaim(): number | undefined {
    for (const instance of this.#ending) {
      if (instance.process !== undefined && isAlive(instance.process)) continue;
      if (this.#selector.admission(instance.row).open > 0) continue;
      this.#ending.delete(instance);
      this.#free.push(instance.row);
    }
    return this.#free.pop();
  }
}

function isAlive(process: number): boolean {
  try {
    globalThis.process.kill(process, 0);
    return true;
  } catch (error) {
    // It is somebody else's, and there.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
