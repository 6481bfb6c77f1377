/** What the owner of a master asks for: one operation after another, and none once the end has begun. */
import { SpillwayError } from '../errors.js';

export class Operations {
  #last: Promise<unknown> = Promise.resolve();
  #isEnding = false;
  #tellEnd!: () => void;
  /** Fulfilled when the end begins: for whoever waits for something that will not come then. */
  readonly end: Promise<void> = new Promise((resolve) => {
    this.#tellEnd = resolve;
  });

  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** The first one follows the start, whether or not that succeeds. */
  follow(start: Promise<void>): void {
    this.#last = start.catch(() => {});
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_CLOSED` when the end comes first, and what `work` throws. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#isEnding) return Promise.reject(closedMeanwhile());
    const result = this.#last.then(() => {
      this.assertOpen();
      return work();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_CLOSED` */
  assertOpen(): void {
    if (this.#isEnding) throw closedMeanwhile();
  }

  beginEnd(): void {
    this.#isEnding = true;
    this.#tellEnd();
  }
}

export function closedMeanwhile(): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_CLOSED', 'the master is ending');
}
