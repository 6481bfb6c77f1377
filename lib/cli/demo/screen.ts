/** The demo's terminal: the live view on stdout, single keys from stdin. Both are given back by `close()`. */
import type { WriteStream } from 'node:tty';
import { createLogUpdate } from 'log-update';
import type { Size } from './table.js';

export type Key = 'f' | 's' | 'q';

/** A terminal without a size, such as one nobody looks at, says 0. */
function sizeOf({ columns, rows }: WriteStream): Size {
  return { columns: columns || 80, rows: rows || 24 };
}

/** The terminal as log-update needs it: what it writes to, and always with a size. */
function sized(terminal: WriteStream): NodeJS.WritableStream {
  const view = {
    write: (text: string) => terminal.write(text),
    get columns() {
      return sizeOf(terminal).columns;
    },
    get rows() {
      return sizeOf(terminal).rows;
    },
  };
  return view as unknown as NodeJS.WritableStream;
}

export class Screen {
  readonly #draw = createLogUpdate(sized(process.stdout));
  readonly #onKey: (key: Key) => void;
  readonly keys = process.stdin.isTTY === true;
  #closed = false;

  /** Takes the terminal over. Ctrl-C, which the terminal then no longer makes a signal of, is the key `q`. */
  constructor(onKey: (key: Key) => void) {
    this.#onKey = onKey;
    process.stdout.on('resize', this.#wipe);
    if (!this.keys) return;
    process.stdin.setRawMode(true);
    process.stdin.setEncoding('utf8').on('data', this.#read).resume();
  }

  get size(): Size {
    return sizeOf(process.stdout);
  }

  show(view: string): void {
    if (!this.#closed) this.#draw(view);
  }

  /** Leaves the last view where it is and gives the terminal back. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    process.stdout.off('resize', this.#wipe);
    this.#draw.done();
    if (!this.keys) return;
    process.stdin.off('data', this.#read).pause();
    process.stdin.setRawMode(false);
  }

  /** A terminal that has become narrower has broken the lines anew: nobody knows where the old view begins. */
  readonly #wipe = () => {
    this.#draw.clear();
    process.stdout.write('\u001b[2J\u001b[H');
  };

  readonly #read = (text: string) => {
    for (const character of text) {
      // The rest belongs to an arrow or function key.
      if (character === '\u001b') return;
      if (character === '\u0003') this.#onKey('q');
      else if (character === 'f' || character === 's' || character === 'q') this.#onKey(character);
    }
  };
}
