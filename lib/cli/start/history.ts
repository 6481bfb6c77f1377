/** The last lines of all workers, for `spillway logs`. */
import type { LineSource, OutputLine } from '../../control/protocol.js';

const MOST_LINES = 1000;
/** Characters; a thousand of the longest lines would be too much. */
const MOST_TEXT = 4 * 1024 * 1024;

export class History implements LineSource {
  #lines: OutputLine[] = [];
  #text = 0;
  readonly #followers = new Set<(line: OutputLine) => void>();

  add(line: OutputLine): void {
    this.#lines.push(line);
    this.#text += line.text.length;
    while (this.#lines.length > MOST_LINES || this.#text > MOST_TEXT) {
      this.#text -= (this.#lines.shift() as OutputLine).text.length;
    }
    for (const follower of this.#followers) follower(line);
  }

  recent(most: number, slot: number | undefined): OutputLine[] {
    const lines = slot === undefined ? this.#lines : this.#lines.filter((line) => line.slot === slot);
    return most === 0 ? [] : lines.slice(-most);
  }

  follow(listener: (line: OutputLine) => void): () => void {
    this.#followers.add(listener);
    return () => this.#followers.delete(listener);
  }
}
