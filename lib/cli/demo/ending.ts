/** How the demo is told to end. */

/** Ctrl-C reaches a group of processes at once, and npm passes it on: repeats within so many milliseconds are one. */
const REPEAT = 500;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The exit code of a shell's child that was ended by SIGINT. */
const INTERRUPTED = 130;

/** `user`: a signal or a key; `reader`: whoever read our output has gone; `time`: it has run as long as it should. */
export type Reason = 'user' | 'reader' | 'time';

/** Ends the demo once, for the first reason there is. */
export class Ending {
  /** Rejected by {@link fail}. */
  readonly asked: Promise<Reason>;
  /** Fulfilled as soon as the user asks, also when the demo is ending for another reason already. */
  readonly askedByUser: Promise<void>;
  #resolve!: (reason: Reason) => void;
  #reject!: (error: Error) => void;
  #resolveByUser!: () => void;
  #first: number | undefined;
  #readerGone = false;

  /** Listens for signals and for a broken stdout as long as the process lives. */
  constructor() {
    this.asked = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever waits for it gets the error; while nobody does, it is not an unhandled one.
    this.asked.catch(() => {});
    this.askedByUser = new Promise((resolve) => {
      this.#resolveByUser = resolve;
    });
    for (const signal of SIGNALS) process.on(signal, () => this.request());
    process.stdout.on('error', () => {
      this.#readerGone = true;
      this.#resolve('reader');
    });
  }

  get isAskedByUser(): boolean {
    return this.#first !== undefined;
  }

  /** Whether writing to stdout has become pointless. */
  get readerGone(): boolean {
    return this.#readerGone;
  }

  /** The user wants it to end. Asked again, the process ends at once; workers and load end with it. */
  request(): void {
    const now = performance.now();
    if (this.#first !== undefined && now - this.#first > REPEAT) process.exit(INTERRUPTED);
    this.#first ??= now;
    this.#resolve('user');
    this.#resolveByUser();
  }

  timeIsUp(): void {
    this.#resolve('time');
  }

  fail(error: Error): void {
    this.#reject(error);
  }
}
