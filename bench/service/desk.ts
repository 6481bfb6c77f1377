/** The benchmark's connection to every worker of the service: who is there, who listens, and orders to stand still. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Worker } from '../scenarios/scenario.js';
import type { Blocker } from './blocking.js';

/** `sun_path` in unix(7) has 108 bytes, the last one a zero. */
const LONGEST_PATH = 107;

/** Milliseconds. */
const LISTENING_WITHIN = 20_000;

/** What program.mjs says, one JSON object per line: the first line is who it is. */
type Told = { id: string; pid: number; thread: boolean } | { listening: boolean };

/** What it is told, likewise. */
type Order = { block: { how: Blocker; ms: number } } | { serveIn: number };

class DeskWorker implements Worker {
  readonly id: string;
  readonly pid: number;
  readonly thread: boolean;
  listening = false;
  readonly #socket: Socket;

  constructor({ id, pid, thread }: { id: string; pid: number; thread: boolean }, socket: Socket) {
    this.id = id;
    this.pid = pid;
    this.thread = thread;
    this.#socket = socket;
  }

  block(how: Blocker, milliseconds: number): void {
    this.#order({ block: { how, ms: milliseconds } });
  }

  serveIn(milliseconds: number): void {
    this.#order({ serveIn: milliseconds });
  }

  /** A worker that has gone meanwhile is told nothing: whoever orders it sees that in what its clients get. */
  #order(order: Order): void {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(order)}\n`);
  }
}

/** Whoever opens it closes it. It keeps the process alive until then. */
export class Desk {
  /** For every process of the service. */
  readonly env: Readonly<Record<string, string>>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #workers = new Set<DeskWorker>();
  /** Called when anything has changed. */
  readonly #waiting = new Set<() => void>();
  #closed = false;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.env = { BENCH_DESK: path };
    server.on('connection', (socket: Socket) => this.#hear(socket));
  }

  /**
   * @param folder of which the desk becomes the file `desk`; its path has 102 bytes at most.
   */
  static async open(folder: string): Promise<Desk> {
    const path = join(folder, 'desk');
    // Node would cut the path off, and the desk would be somewhere else.
    if (Buffer.byteLength(path) > LONGEST_PATH)
      throw new Error(`the path of a Unix socket has ${LONGEST_PATH} bytes at most: ${path}`);
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    return new Desk(server, path);
  }

  /** The workers that listen now and whose connection is open, in the order in which they came. */
  workers(): Worker[] {
    return [...this.#workers].filter(({ listening }) => listening);
  }

  /**
   * Resolves when exactly `count` workers listen.
   *
   * @param milliseconds after which it rejects, with how many there were.
   */
  untilListening(count: number, milliseconds = LISTENING_WITHIN): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const look = () => {
        const there = this.workers().length;
        if (there !== count && !this.#closed) return;
        stop();
        if (there === count) resolve();
        else reject(new Error(`the desk was closed while ${there} workers listened, and not ${count}`));
      };
      const timer = setTimeout(() => {
        stop();
        const there = this.workers().map(({ id }) => id);
        const names = there.length === 0 ? '' : ` (${there.join(', ')})`;
        reject(
          new Error(`after ${milliseconds} ms ${there.length} workers listen${names}, and not ${count}`),
        );
      }, milliseconds);
      this.#waiting.add(look);
      look();
    });
  }

  /** May be called twice. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#changed();
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #hear(socket: Socket): void {
    this.#sockets.add(socket);
    let worker: DeskWorker | undefined;
    // A worker that is killed resets it; 'close' follows.
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (worker) this.#workers.delete(worker);
      this.#changed();
    });
    createInterface({ input: socket }).on('line', (line) => {
      const told = JSON.parse(line) as Told;
      if ('id' in told) {
        worker = new DeskWorker(told, socket);
        this.#workers.add(worker);
      } else if (worker) worker.listening = told.listening;
      this.#changed();
    });
  }

  #changed(): void {
    for (const look of [...this.#waiting]) look();
  }
}
