/** Where lines are written, without anybody ever waiting for it. */

/** Bytes that may wait; further lines are dropped and counted. */
const MOST_WAITING = 4 * 1024 * 1024;

/** Bytes that are written at once. */
const BATCH = 256 * 1024;

/** Writes bytes; `done` follows always, exactly once, and before that write() is not called again. */
export interface Sink {
  write(bytes: Buffer, done: (error?: NodeJS.ErrnoException) => void): void;
  /** Whether nothing can ever be written again after this error. */
  isFinal(error: NodeJS.ErrnoException): boolean;
  close(): void;
}

/** Told when lines are lost, and when that is over; `lost` counts lines. */
export interface Trouble {
  failed(error: NodeJS.ErrnoException): void;
  recovered(lost: number): void;
}

export class Destination {
  readonly #sink: Sink;
  readonly #trouble: Trouble;
  #waiting: Buffer[] = [];
  #bytes = 0;
  #writing = false;
  #broken = false;
  #closed = false;
  /** Lines that found no room since the last one that did. */
  #dropped = 0;
  /** Lines that could not be written since the last that could; undefined while everything is well. */
  #lost: number | undefined;
  #lostInAll = 0;
  /** Since lines found no room, until everything that waits is written. */
  #congested = false;
  readonly #idle: (() => void)[] = [];
  /** Called when lines begin to find no room. */
  onCongested: (() => void) | undefined;

  constructor(sink: Sink, trouble: Trouble) {
    this.#sink = sink;
    this.#trouble = trouble;
  }

  /** Lines that were never written. */
  get lostLines(): number {
    return this.#lostInAll;
  }

  /** Whether lines go nowhere, at least some of them: whoever reads them need not hurry. */
  get discards(): boolean {
    return this.#congested || this.#broken || this.#lost !== undefined;
  }

  /** One line with its newline. */
  write(line: Buffer): void {
    if (this.#broken || this.#closed) this.#lostInAll++;
    else if (this.#bytes + line.length > MOST_WAITING) {
      this.#lostInAll++;
      this.#dropped++;
      if (!this.#congested) {
        this.#congested = true;
        this.onCongested?.();
      }
    } else {
      this.#tellDropped();
      this.#add(line);
      this.#pump();
    }
  }

  /** Resolves when everything has been written, or cannot be; at the latest after so many milliseconds. */
  async flush(patience: number): Promise<void> {
    this.#tellDropped();
    this.#pump();
    if (!this.#writing) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patience);
      this.#idle.push(resolve);
    });
    clearTimeout(timer);
  }

  close(): void {
    this.#closed = true;
    this.#sink.close();
  }

  #add(line: Buffer): void {
    this.#waiting.push(line);
    this.#bytes += line.length;
  }

  /** Said in its place among the lines, so that whoever reads them later knows where some are missing. */
  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#add(
      Buffer.from(
        `spillway: ${this.#dropped} lines were dropped here: they came faster than they could be written\n`,
      ),
    );
    this.#dropped = 0;
  }

  #pump(): void {
    if (this.#writing || this.#broken) return;
    if (this.#waiting.length === 0) {
      this.#congested = false;
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    let [count, size] = [0, 0];
    while (count < this.#waiting.length && (count === 0 || size < BATCH))
      size += (this.#waiting[count++] as Buffer).length;
    const batch = this.#waiting.splice(0, count);
    this.#writing = true;
    this.#sink.write(Buffer.concat(batch), (error) => {
      this.#writing = false;
      this.#bytes -= size;
      if (error) this.#failed(error, count);
      else if (this.#lost !== undefined) {
        const lost = this.#lost;
        this.#lost = undefined;
        this.#trouble.recovered(lost);
      }
      this.#pump();
    });
  }

  #failed(error: NodeJS.ErrnoException, count: number): void {
    this.#lostInAll += count;
    if (this.#sink.isFinal(error)) {
      this.#broken = true;
      this.#lostInAll += this.#waiting.length;
      this.#waiting = [];
      this.#bytes = 0;
      this.#trouble.failed(error);
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    if (this.#lost === undefined) this.#trouble.failed(error);
    this.#lost = (this.#lost ?? 0) + count;
  }
}
