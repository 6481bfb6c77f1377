/** Bytes into lines. */

/** A longer line is given in parts: nobody's memory is filled by a program that never ends its line. */
export const LONGEST_LINE = 64 * 1024;

const NEWLINE = 0x0a;

/** Cuts a stream of bytes at its newlines; what is taken has none at its end. */
export class LineSplitter {
  readonly #take: (line: Buffer) => void;
  #begun: Buffer[] = [];
  #length = 0;

  constructor(take: (line: Buffer) => void) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end));
      this.#give();
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** The stream has ended: what has no newline is a line as well. */
  end(): void {
    if (this.#length > 0) this.#give();
  }

  #keep(piece: Buffer): void {
    let rest = piece;
    while (this.#length + rest.length > LONGEST_LINE) {
      const whole = Buffer.concat([...this.#begun, rest.subarray(0, LONGEST_LINE - this.#length)]);
      const cut = characterBoundary(whole);
      this.#take(whole.subarray(0, cut));
      rest = rest.subarray(LONGEST_LINE - this.#length);
      this.#begun = [whole.subarray(cut)];
      this.#length = whole.length - cut;
    }
    this.#begun.push(rest);
    this.#length += rest.length;
  }

  #give(): void {
    const line = this.#begun.length === 1 ? (this.#begun[0] as Buffer) : Buffer.concat(this.#begun);
    this.#begun = [];
    this.#length = 0;
    this.#take(line);
  }
}

/** The end of the last whole UTF-8 character; that of the bytes where they are no UTF-8. */
function characterBoundary(bytes: Buffer): number {
  for (let back = 1; back <= 4 && back < bytes.length; back++) {
    const byte = bytes[bytes.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}
