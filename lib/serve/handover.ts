/**
 * Connections that are in the master's hands, on their way to a worker: those from the queue of a socket that leaves
 * below the `ebpf` selector, and those that arrive for a worker that has closed its server.
 *
 * The master keeps its descriptor until the worker says that it has the connection. A worker that refuses, or dies
 * before it has said so, leaves the connection to the next one, who may still have to be started. What nobody has taken
 * is reset when the service ends.
 */
import { Socket } from 'node:net';
import type { WorkerProcess } from './worker-process.js';

/**
 * Connections that may be on their way to one worker before no more are asked for: each is a descriptor of the master's,
 * and a worker that does not answer must not get all of them.
 */
const MOST_ON_THE_WAY = 64;

interface Pending {
  socket: Socket;
  /** The id of the port it came to. */
  port: number;
  /** Whom it was sent to; undefined while nobody can take it. */
  worker?: WorkerProcess;
}

export class Handover {
  /** Who may take connections, now or once they listen, and how many are on their way to each. */
  readonly #load = new Map<WorkerProcess, number>();
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #closed = false;

  /** One more who may take connections, as long as it can be spoken to. */
  add(worker: WorkerProcess): void {
    this.#load.set(worker, 0);
    worker.on('answer', (id, accepted) => {
      const pending = this.#pending.get(id);
      if (pending?.worker !== worker) return;
      if (accepted) this.#settle(id, pending, worker);
      else this.#send(id, pending, worker);
    });
    // What it has been sent stays with it until the channel closes: its last answers may be read after its exit.
    worker.on('exit', () => this.#forget(worker));
    worker.on('disconnect', () => {
      this.#forget(worker);
      for (const [id, pending] of this.#pending) {
        if (pending.worker === worker) this.#send(id, pending, worker);
      }
    });
    worker.on('state', () => this.#sendWaiting());
  }

  /** Somebody may take connections who could not before. */
  retry(): void {
    this.#sendWaiting();
  }

  /** Whether somebody can take one more connection to that port now. One that is given all the same waits. */
  hasRoom(port: number): boolean {
    for (const [worker, load] of this.#load) {
      if (load < MOST_ON_THE_WAY && worker.canTake(port)) return true;
    }
    return false;
  }

  /** Takes over the descriptor of a connection to a port. */
  give(fd: number, port: number): void {
    // Nothing may be read here: every byte is the worker's.
    const pending: Pending = {
      port,
      socket: new Socket({ fd, pauseOnCreate: true } as ConstructorParameters<typeof Socket>[0]),
    };
    // The worker that gets it will see the same end.
    pending.socket.on('error', () => {});
    const id = ++this.#lastId;
    this.#pending.set(id, pending);
    if (this.#closed) this.#reset(id, pending);
    else this.#send(id, pending);
  }

  /** A port ends: resets what nobody has been sent. */
  endOf(port: number): void {
    for (const [id, pending] of this.#pending) {
      if (pending.port === port && !pending.worker) this.#reset(id, pending);
    }
  }

  /** The service ends: resets what nobody has taken, and whatever is given from now on. */
  close(): void {
    this.#closed = true;
    for (const [id, pending] of this.#pending) this.#reset(id, pending);
  }

  #forget(worker: WorkerProcess): void {
    this.#load.delete(worker);
    this.#sendWaiting();
  }

  #sendWaiting(): void {
    for (const [id, pending] of this.#pending) if (!pending.worker) this.#send(id, pending);
  }

  /** Gives it to the worker that has the fewest on their way, but not to the one that has just not taken it. */
  #send(id: number, pending: Pending, except?: WorkerProcess): void {
    if (pending.worker) this.#count(pending.worker, -1);
    delete pending.worker;
    let taker: WorkerProcess | undefined;
    for (const [worker, load] of this.#load) {
      if (worker === except || !worker.canTake(pending.port)) continue;
      if (!taker || load < (this.#load.get(taker) ?? 0)) taker = worker;
    }
    if (!taker) return;
    pending.worker = taker;
    this.#count(taker, 1);
    // The handle itself and not the net.Socket: the worker shall see a connection as fresh as an accepted one.
    taker.hand(id, pending.port, (pending.socket as unknown as { _handle: unknown })._handle);
  }

  #reset(id: number, { socket }: Pending): void {
    this.#pending.delete(id);
    socket.resetAndDestroy();
  }

  /** Closing this descriptor leaves the connection to the worker's. */
  #settle(id: number, { socket }: Pending, worker: WorkerProcess): void {
    this.#count(worker, -1);
    this.#pending.delete(id);
    socket.destroy();
  }

  #count(worker: WorkerProcess, change: 1 | -1): void {
    const load = this.#load.get(worker);
    if (load !== undefined) this.#load.set(worker, load + change);
  }
}
