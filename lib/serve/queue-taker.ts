/**
 * Takes what arrives at listeners that nobody accepts from: such a slot is given nothing new where the selector can help
 * it, but a few connections were on their way, and below `cbpf` the kernel goes on choosing it.
 *
 * What cannot be taken at once waits in the kernel's queue: while whoever gets the connections has no room, and while this
 * process or the machine is short of descriptors or memory.
 */
import { closeSync } from 'node:fs';
import { type NativeError, type NativeQueueWatch, type NativeSocket, native } from '../native.js';

/** What becomes free again by itself (accept(2), epoll_create1(2)). */
const SHORTAGES = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM']);

/** Milliseconds until the queues are looked at again after a shortage, or without room. */
const AGAIN_AFTER = 5;

export interface Taking {
  /** Gets the descriptor of each connection, and owns it unless it throws. */
  take: (fd: number) => void;
  /** Whether it can be given one more now. */
  hasRoom: () => boolean;
  /** Is told why a listener cannot be emptied, or a connection not be given; once for each reason. */
  report: (error: Error) => void;
}

interface Watched {
  /** The owner's descriptor. */
  fd: number;
  socket: NativeSocket;
}

export class QueueTaker {
  readonly #taking: Taking;
  /** The descriptors of the listeners to be emptied, by slot. */
  #wanted = new Map<number, number>();
  readonly #watched = new Map<number, Watched>();
  /** Slots whose listener the kernel gives nothing of, for a reason that does not pass. */
  readonly #broken = new Set<number>();
  readonly #reported = new Set<string>();
  #watch: NativeQueueWatch | undefined;
  /** Set while nothing can be taken. */
  #pause: NodeJS.Timeout | undefined;

  constructor(taking: Taking) {
    this.#taking = taking;
  }

  /** Watches exactly these listeners, by slot; the descriptors stay their owner's. */
  only(listeners: ReadonlyMap<number, number>): void {
    this.#wanted = new Map(listeners);
    for (const [slot, { fd }] of this.#watched) if (listeners.get(slot) !== fd) this.#drop(slot);
    for (const slot of this.#broken) if (!listeners.has(slot)) this.#broken.delete(slot);
    if (!this.#pause) this.#watchWanted();
  }

  /** Lets go of the listener of a slot, which is about to be closed. */
  without(slot: number): void {
    this.#wanted.delete(slot);
    this.#broken.delete(slot);
    this.#drop(slot);
  }

  close(): void {
    this.only(new Map());
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#watch?.close();
    this.#watch = undefined;
  }

  #watchWanted(): void {
    try {
      for (const [slot, fd] of this.#wanted) {
        if (!this.#watched.has(slot) && !this.#broken.has(slot)) this.#add(slot, fd);
      }
      if (this.#watched.size > 0) this.#watch?.arm();
    } catch (error) {
      if (isShortage(error)) this.#later();
      else this.#complain(error as Error);
    }
  }

  #add(slot: number, fd: number): void {
    this.#watch ??= new (native().QueueWatch)(() => this.#empty());
    const socket = new (native().Socket)('duplicate', fd);
    try {
      this.#watch.add(socket);
    } catch (error) {
      socket.close();
      throw error;
    }
    this.#watched.set(slot, { fd, socket });
  }

  /** Runs as a callback of the event loop: nothing may be thrown from here. */
  #empty(): void {
    for (const [slot, { socket }] of this.#watched) {
      try {
        if (this.#takeFrom(socket)) continue;
        this.#later();
        return;
      } catch (error) {
        // It would be reported as readable without end.
        this.#broken.add(slot);
        this.#drop(slot);
        this.#complain(error as Error);
      }
    }
    this.#watchWanted();
  }

  /** Whether nothing is queued any more; otherwise there is no room, or a shortage. */
  #takeFrom(socket: NativeSocket): boolean {
    while (this.#taking.hasRoom()) {
      let fd: number;
      try {
        fd = socket.accept();
      } catch (error) {
        if (isShortage(error)) return false;
        throw error;
      }
      if (fd < 0) return true;
      this.#give(fd);
    }
    return false;
  }

  #give(fd: number): void {
    try {
      this.#taking.take(fd);
    } catch (error) {
      closeSync(fd);
      this.#complain(error as Error);
    }
  }

  /** Leaves what waits in the queues, for a while. */
  #later(): void {
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined;
      if (this.#watched.size > 0 && !this.#taking.hasRoom()) this.#later();
      else this.#watchWanted();
    }, AGAIN_AFTER).unref();
  }

  #complain(error: Error): void {
    if (this.#reported.has(error.message)) return;
    this.#reported.add(error.message);
    this.#taking.report(error);
  }

  #drop(slot: number): void {
    const watched = this.#watched.get(slot);
    if (!watched) return;
    this.#watched.delete(slot);
    this.#watch?.remove(watched.socket);
    watched.socket.close();
  }
}

function isShortage(error: unknown): boolean {
  return SHORTAGES.has((error as NativeError).code);
}
