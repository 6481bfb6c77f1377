/**
 * Takes what arrives at listeners that nobody accepts from: such a slot is given nothing new where the selector can help
 * it, but a few connections were on their way, and below `cbpf` the kernel goes on choosing it.
 */
import { type NativeQueueWatch, type NativeSocket, native } from '../native.js';

export class QueueTaker {
  readonly #take: (fd: number) => void;
  readonly #sockets = new Map<number, NativeSocket>();
  #watch: NativeQueueWatch | undefined;

  /** @param take gets the descriptor of each connection, and owns it. */
  constructor(take: (fd: number) => void) {
    this.#take = take;
  }

  /** Watches exactly these listeners, by slot; the descriptors stay their owner's. */
  only(listeners: ReadonlyMap<number, number>): void {
    for (const slot of this.#sockets.keys()) if (!listeners.has(slot)) this.#drop(slot);
    for (const [slot, fd] of listeners) {
      if (this.#sockets.has(slot)) continue;
      const socket = new (native().Socket)('duplicate', fd);
      this.#sockets.set(slot, socket);
      this.#watch ??= new (native().QueueWatch)(() => this.#empty());
      this.#watch.add(socket);
    }
    if (this.#sockets.size > 0) this.#watch?.arm();
  }

  /** Lets go of the listener of a slot. */
  without(slot: number): void {
    this.#drop(slot);
  }

  close(): void {
    this.only(new Map());
    this.#watch?.close();
    this.#watch = undefined;
  }

  #empty(): void {
    for (const socket of this.#sockets.values()) {
      for (let fd = socket.accept(); fd >= 0; fd = socket.accept()) this.#take(fd);
    }
    this.#watch?.arm();
  }

  #drop(slot: number): void {
    const socket = this.#sockets.get(slot);
    if (!socket) return;
    this.#sockets.delete(slot);
    this.#watch?.remove(socket);
    socket.close();
  }
}
