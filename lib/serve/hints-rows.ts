/**
 * The memory in which workers note what their event loops do: a page for each, which the kernel's programs read as well
 * where that can be had, by a map of all of them. A worker has a descriptor of its own page and of no other.
 */
import { closeSync } from 'node:fs';
import { systemError } from '../errors.js';
import { type NativeHints, native } from '../native.js';

/** A worker's own page, as the master has it. */
export interface HintsPage {
  /** To be inherited, and mapped. It stays the master's. */
  readonly fd: number;
  readonly row: number;
  /** Whether the kernel reads it, as that row of {@link HintsRows.map}. */
  readonly inKernel: boolean;
  read(): ReturnType<NativeHints['read']>;
  /** The worker is gone: its row is somebody else's from now on. May be called twice. */
  close(): void;
}

/** Of a worker that has gone. */
const SILENT = { state: 'silent', since: 0, turn: 0 } as const;

export class HintsRows {
  #map: number | undefined;
  readonly #free: number[] = [];

  /**
   * @param rows how many workers there may be at a time whose hints the kernel reads.
   * @param left the map of a master that has ended, which had as many rows, and the rows that workers have; the descriptor
   *   is this object's.
   */
  constructor(rows: number, left?: { map: number; taken: ReadonlySet<number> }) {
    try {
      this.#map = left?.map ?? native().createHintsMap(rows);
    } catch {
      // Without the privilege, no selector could read it.
      return;
    }
    for (let row = rows; row-- > 0; ) if (!left?.taken.has(row)) this.#free.push(row);
  }

  /** The page of a worker that a master before this one has started. The descriptor is the page's from then on. */
  adopt(fd: number, row: number | undefined): HintsPage {
    const hints = new (native().Hints)('map', fd);
    let taken = true;
    return {
      fd,
      row: row ?? 0,
      inKernel: row !== undefined && this.#map !== undefined,
      read: () => (taken ? hints.read() : SILENT),
      close: () => {
        if (taken && row !== undefined) this.#giveBack(row, fd);
        else if (taken) closeSync(fd);
        taken = false;
        hints.close();
      },
    };
  }

  /** Descriptor of the map; undefined: there is none. */
  get map(): number | undefined {
    return this.#map;
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_LIMIT` */
  take(): HintsPage {
    try {
      return this.#takeRow() ?? takePage();
    } catch (error) {
      throw systemError('ERR_SPILLWAY_LIMIT', 'no memory can be shared with a worker', error);
    }
  }

  close(): void {
    const map = this.#map;
    this.#map = undefined;
    if (map !== undefined) closeSync(map);
  }

  /** Undefined without a map and when all rows are taken. */
  #takeRow(): HintsPage | undefined {
    const map = this.#map;
    const row = map === undefined ? undefined : this.#free.pop();
    if (map === undefined || row === undefined) return undefined;
    let fd: number | undefined;
    let hints: NativeHints;
    try {
      fd = native().openHintsPage(map, row);
      hints = new (native().Hints)('map', fd);
    } catch {
      this.#giveBack(row, fd);
      return undefined;
    }
    const page = fd;
    let taken = true;
    return {
      fd: page,
      row,
      inKernel: true,
      read: () => (taken ? hints.read() : SILENT),
      close: () => {
        if (taken) this.#giveBack(row, page);
        taken = false;
        hints.close();
      },
    };
  }

  #giveBack(row: number, page: number | undefined): void {
    if (page !== undefined) closeSync(page);
    // Once the map is closed, the rows are gone with the groups.
    if (this.#map !== undefined) native().clearHintsPage(this.#map, row);
    this.#free.push(row);
  }
}

function takePage(): HintsPage {
  const hints = new (native().Hints)('create');
  let open = true;
  return {
    fd: hints.fd,
    row: 0,
    inKernel: false,
    read: () => (open ? hints.read() : SILENT),
    close: () => {
      open = false;
      hints.close();
    },
  };
}
