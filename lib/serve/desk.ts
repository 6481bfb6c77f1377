/**
 * Where workers ask what they must know before they can go on (protocol.ts). An abstract Unix socket: nothing of it is
 * left on a disk, and the kernel takes it away with the master. It has no permissions of its own, so every question is
 * answered only to a process that is a worker: the kernel tells whose it is. A worker looks in the same way whether it
 * is its master that it has reached.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../native.js';
import { descriptorOf } from './descriptor.js';
import type { Answer, Question } from './protocol.js';
import { readQuestion } from './question.js';

/** A question is a few hundred bytes. */
const LONGEST = 4096;

/** Milliseconds for all of a connection; no worker waits longer for its answer (worker/desk.ts). */
const PATIENCE = 10_000;

/** Connections that a process may have at a time: a worker asks one question after another. */
const MOST_AT_ONCE = 4;

/**
 * Bytes of the name, with the zero it begins with: all of sun_path (unix(7)). A shorter one could be taken a second time,
 * with zeros at its end or without them, which some versions of Node add and others do not.
 */
const NAME_LENGTH = 108;

/** The descriptor, if any, stays its owner's. */
export interface Reply {
  answer: Answer;
  fd?: number;
  /** Called when there is nobody any more who could hear it. */
  undelivered?(): void;
}

/** Answers a question of the process. */
export type Answering = (question: Question, pid: number) => Promise<Reply>;

export class Desk {
  readonly name: string;
  readonly #server: Server;
  /** The connections there are, and whose they are. */
  readonly #open = new Map<Socket, number>();
  readonly #patience: number;
  readonly #isWorker: (pid: number) => boolean;
  readonly #answer: Answering;

  private constructor(
    isWorker: (pid: number) => boolean,
    answer: Answering,
    patience: number,
    name = newName(),
  ) {
    this.#isWorker = isWorker;
    this.#answer = answer;
    this.#patience = patience;
    this.name = name;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#hear(socket));
  }

  /**
   * Fulfilled when workers can ask.
   *
   * @param patience milliseconds for a question and its answer, together.
   */
  static async open(
    isWorker: (pid: number) => boolean,
    answer: Answering,
    patience = PATIENCE,
  ): Promise<Desk> {
    const desk = new Desk(isWorker, answer, patience);
    await new Promise<void>((resolve, reject) => {
      desk.#server.once('error', reject);
      desk.#server.listen(`\0${desk.name.slice(1)}`, resolve);
    });
    return desk;
  }

  /** The same desk in another process: workers find it where it was. The descriptor of its listener is the desk's. */
  static async adopt(
    name: string,
    fd: number,
    isWorker: (pid: number) => boolean,
    answer: Answering,
    patience = PATIENCE,
  ): Promise<Desk> {
    const desk = new Desk(isWorker, answer, patience, name);
    await new Promise<void>((resolve, reject) => {
      desk.#server.once('error', reject);
      // It calls listen(2), by which the kernel takes this process for the one that workers look for.
      desk.#server.listen({ fd }, resolve);
    });
    return desk;
  }

  /** Descriptor of its listener, which stays the desk's. */
  get fd(): number {
    return (this.#server as unknown as { _handle: { fd: number } })._handle.fd;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open.keys()) socket.destroy();
  }

  #hear(socket: Socket): void {
    // Whoever asked has gone.
    socket.on('error', () => {});
    const pid = this.#peer(socket);
    if (pid === undefined || [...this.#open.values()].filter((each) => each === pid).length >= MOST_AT_ONCE) {
      socket.destroy();
      return;
    }
    this.#open.set(socket, pid);
    const timer = setTimeout(() => socket.destroy(), this.#patience);
    socket.on('close', () => {
      clearTimeout(timer);
      this.#open.delete(socket);
    });
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => {
      text += part;
      if (text.length > LONGEST) socket.destroy();
    });
    socket.on('end', () => void this.#reply(socket, text, pid));
  }

  #peer(socket: Socket): number | undefined {
    try {
      const { pid } = native().peerCredentials(descriptorOf(socket));
      return this.#isWorker(pid) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  async #reply(socket: Socket, text: string, pid: number): Promise<void> {
    const { answer, fd = -1, undelivered } = await this.#answerTo(text, pid);
    try {
      native().sendWithDescriptor(descriptorOf(socket), Buffer.from(JSON.stringify(answer)), fd);
      socket.end();
    } catch {
      // A worker that is still there sees the end of the connection.
      undelivered?.();
      socket.destroy();
    }
  }

  async #answerTo(text: string, pid: number): Promise<Reply> {
    let question: Question;
    try {
      question = readQuestion(text);
    } catch (error) {
      return { answer: { error: { code: 'EPROTO', message: `no question: ${(error as Error).message}` } } };
    }
    return this.#answer(question, pid);
  }
}

function newName(): string {
  const name = `@spillway-${process.pid}-`;
  return name + randomBytes(NAME_LENGTH).toString('hex').slice(name.length, NAME_LENGTH);
}
