/**
 * What outlives a master: descriptors that somebody keeps for the next one (native/keeper, or systemd with its store of
 * descriptors), by name; and what they are, in a file in memory that is one of them.
 */
import { closeSync, fstatSync, readFileSync, writeSync } from 'node:fs';
import type { Keeping } from '../group/tier.js';
import { native } from '../native.js';

export type { Keeping } from '../group/tier.js';

/** Nobody keeps anything: what there is ends with this process. */
export const NOTHING_KEPT: Keeping = { keep: () => {}, drop: () => {} };

/** The same under names that begin with this. */
export function keptUnder(prefix: string, keeping: Keeping): Keeping {
  return {
    keep: (name, fd) => keeping.keep(`${prefix}.${name}`, fd),
    drop: (name) => keeping.drop(`${prefix}.${name}`),
  };
}

/** Descriptors that a master before this one has left, by name. Who takes one owns it. */
export class Legacy {
  readonly #left: Map<string, number>;

  /** Everything that there was. */
  readonly names: readonly string[];

  constructor(left: ReadonlyMap<string, number>) {
    this.#left = new Map(left);
    this.names = [...left.keys()];
  }

  /** Undefined when there is none of that name, or it has been taken. */
  take(name: string): number | undefined {
    const fd = this.#left.get(name);
    this.#left.delete(name);
    return fd;
  }

  /** Inodes of those whose names end with this, which stay where they are. */
  inodesAt(end: string): number[] {
    return [...this.#left].filter(([name]) => name.endsWith(end)).map(([, fd]) => fstatSync(fd).ino);
  }

  /** All whose names begin with this and a dot, by the rest of their names. */
  takeUnder(prefix: string): Map<string, number> {
    const found = new Map<string, number>();
    for (const name of [...this.#left.keys()]) {
      if (!name.startsWith(`${prefix}.`)) continue;
      const fd = this.take(name);
      if (fd !== undefined) found.set(name.slice(prefix.length + 1), fd);
    }
    return found;
  }

  /** What nobody has taken is nobody's any more. */
  giveUp(keeping: Keeping): void {
    for (const [name, fd] of this.#left) {
      closeSync(fd);
      keeping.drop(name);
    }
    this.#left.clear();
  }
}

/** The file has these names in turn: the one of before is given up only when the next one is kept. */
const STATES = ['state.0', 'state.1'] as const;

/** Raised whenever a state of before cannot be read any more. */
const VERSION = 1;

interface Written {
  version: number;
  /** Counts the states that were ever kept of a service. */
  number: number;
  state: unknown;
}

/** Keeps states, of which a later one takes the place as a whole: there is one at any moment, and none by half. */
export class StateKeeper {
  readonly #keeping: Keeping;
  #number: number;

  /** @param last number of the state that was found. */
  constructor(keeping: Keeping, last: number) {
    this.#keeping = keeping;
    this.#number = last;
  }

  keep(state: object): void {
    const number = ++this.#number;
    const fd = native().createMemory('spillway-state');
    try {
      const text = Buffer.from(JSON.stringify({ version: VERSION, number, state } satisfies Written));
      for (let at = 0; at < text.length; ) at += writeSync(fd, text, at);
      this.#keeping.keep(nameOf(number), fd);
    } finally {
      closeSync(fd);
    }
    this.#keeping.drop(nameOf(number - 1));
  }
}

function nameOf(number: number): string {
  return STATES[number % STATES.length] as string;
}

/** The last state that was kept; undefined when there is none, or one that this version cannot read. */
export function takeState<State>(legacy: Legacy): { number: number; state: State } | undefined {
  const found = STATES.map((name) => legacy.take(name)).flatMap((fd) =>
    fd === undefined ? [] : [readState(fd)],
  );
  const [last] = found.filter((each) => each !== undefined).sort((one, other) => other.number - one.number);
  return last?.version === VERSION ? { number: last.number, state: last.state as State } : undefined;
}

function readState(fd: number): Written | undefined {
  try {
    // A descriptor that was passed on shares its offset with all others.
    return JSON.parse(readFileSync(`/proc/self/fd/${fd}`, 'utf8'));
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}
