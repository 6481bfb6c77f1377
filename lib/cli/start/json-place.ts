/** Where a JSON text stops being one. */

const SPACE = /[ \t\n\r]*/y;
/** From the space on, without quote and backslash. */
const STRING = /"(?:[ !#-[\]-\u{10ffff}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy;
const SIMPLE = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

export interface Place {
  line: number;
  /** In characters, from 1. */
  column: number;
}

class Misplaced extends Error {
  readonly at: number;

  constructor(at: number) {
    super();
    this.at = at;
  }
}

/** The first place at which `text` cannot go on as it does; JSON.parse() does not tell it for every fault. */
export function faultIn(text: string): Place {
  const reader = new Reader(text);
  let at = text.length;
  try {
    reader.value();
    at = reader.skip();
  } catch (error) {
    if (!(error instanceof Misplaced)) throw error;
    at = error.at;
  }
  const lines = text.slice(0, at).split('\n');
  return { line: lines.length, column: (lines.at(-1) as string).length + 1 };
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  skip(): number {
    this.#take(SPACE);
    return this.#at;
  }

  value(): void {
    this.skip();
    if (this.#is('{')) this.#list('}', () => this.#member());
    else if (this.#is('[')) this.#list(']', () => this.value());
    else if (!this.#take(STRING) && !this.#take(SIMPLE)) this.#fail();
  }

  #member(): void {
    this.skip();
    if (!this.#take(STRING)) this.#fail();
    this.skip();
    if (!this.#is(':')) this.#fail();
    this.value();
  }

  #list(end: string, one: () => void): void {
    this.skip();
    if (this.#is(end)) return;
    do {
      one();
      this.skip();
    } while (this.#is(','));
    if (!this.#is(end)) this.#fail();
  }

  #is(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #take(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  #fail(): never {
    throw new Misplaced(this.#at);
  }
}
