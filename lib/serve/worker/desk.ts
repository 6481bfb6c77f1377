/** Questions to the master that the program waits for: listen() has to know its address when it returns. */
import { native } from '../../native.js';
import type { Answer, Question } from '../protocol.js';

/** Milliseconds that the master has. It answers within one; so long only a stopped or stuck one needs. */
const PATIENCE = 10_000;

export class Desk {
  readonly #name: string;
  /** The process that alone is asked; undefined: whoever has that name. */
  master: number | undefined;

  constructor(name: string, master: number | undefined) {
    this.#name = name;
    this.master = master;
  }

  /**
   * Blocks the thread until the master has answered. A descriptor that comes with the answer is the caller's; −1: none.
   *
   * @throws an error with the `code` of what failed and a message that names the master.
   */
  ask(question: Question): { answer: Answer; fd: number } {
    try {
      const request = Buffer.from(JSON.stringify(question));
      const { reply, fd } = native().exchange(this.#name, request, PATIENCE, this.master);
      return { answer: JSON.parse(reply.toString()), fd };
    } catch (cause) {
      const { code = 'EPROTO', message } = cause as NodeJS.ErrnoException;
      const who = this.master === undefined ? '' : `, process ${this.master},`;
      const text = `the master of this worker${who} has not answered: ${message}`;
      throw Object.assign(new Error(text, { cause }), { code });
    }
  }
}
