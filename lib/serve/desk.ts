/**
 * Where workers ask what they must know before they can go on (protocol.ts). An abstract Unix socket: nothing of it is
 * left on a disk, and the kernel takes it away with the master. It has no permissions of its own, so every question is
 * answered only to a process that is a worker: the kernel tells whose it is.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../native.js';
import type { Answer, Question } from './protocol.js';

/** A question is a few hundred bytes. */
const LONGEST = 4096;

/** Milliseconds; a worker writes its question at once. */
const PATIENCE = 5000;

/** Answers a question of the process; the descriptor, if any, stays its owner's. */
export type Answering = (question: Question, pid: number) => Promise<{ answer: Answer; fd?: number }>;

export class Desk {
  readonly name: string;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  readonly #isWorker: (pid: number) => boolean;
  readonly #answer: Answering;

  private constructor(isWorker: (pid: number) => boolean, answer: Answering) {
    this.#isWorker = isWorker;
    this.#answer = answer;
    this.name = `@spillway-${process.pid}-${randomBytes(8).toString('hex')}`;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#hear(socket));
  }

  /** Fulfilled when workers can ask. */
  static async open(isWorker: (pid: number) => boolean, answer: Answering): Promise<Desk> {
    const desk = new Desk(isWorker, answer);
    await new Promise<void>((resolve, reject) => {
      desk.#server.once('error', reject);
      desk.#server.listen(`\0${desk.name.slice(1)}`, resolve);
    });
    return desk;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }

  #hear(socket: Socket): void {
    this.#open.add(socket);
    socket.on('close', () => this.#open.delete(socket));
    // Whoever asked has gone.
    socket.on('error', () => {});
    const pid = this.#peer(socket);
    if (pid === undefined) {
      socket.destroy();
      return;
    }
    socket.setTimeout(PATIENCE, () => socket.destroy());
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => {
      text += part;
      if (text.length > LONGEST) socket.destroy();
    });
    socket.on('end', () => {
      socket.setTimeout(0);
      void this.#reply(socket, text, pid);
    });
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
    try {
      const { answer, fd } = await this.#answer(JSON.parse(text) as Question, pid);
      if (socket.destroyed) return;
      native().sendWithDescriptor(descriptorOf(socket), Buffer.from(JSON.stringify(answer)), fd ?? -1);
      socket.end();
    } catch {
      // No question, or nobody to hear the answer; the worker sees the end of the connection.
      socket.destroy();
    }
  }
}

/** Node has no name for it; −1 when the socket has been closed. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd: number } })._handle?.fd ?? -1;
}
