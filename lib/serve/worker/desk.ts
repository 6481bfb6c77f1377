/** Questions to the master that the program waits for: listen() has to know its address when it returns. */
import { native } from '../../native.js';
import type { Answer, Question } from '../protocol.js';

/** Milliseconds that the master has. It answers within one; so long only a stopped or stuck one needs. */
const PATIENCE = 10_000;

export class Desk {
  readonly #name: string;
  readonly #master: number;

  constructor(name: string, master: number) {
    this.#name = name;
    this.#master = master;
  }

  /**
   * Blocks the thread until the master has answered. A descriptor that comes with the answer is the caller's; −1: none.
   *
   * @throws an error with the `code` of what failed and a message that names the master.
   */
  ask(question: Question): { answer: Answer; fd: number } {
    try {
      const { reply, fd } = native().exchange(this.#name, Buffer.from(JSON.stringify(question)), PATIENCE);
      return { answer: JSON.parse(reply.toString()), fd };
    } catch (cause) {
      const { code = 'EPROTO', message } = cause as NodeJS.ErrnoException;
      const text = `the master of this worker, process ${this.#master}, has not answered: ${message}`;
      throw Object.assign(new Error(text, { cause }), { code });
    }
  }
}
