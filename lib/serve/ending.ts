/** The end of all workers: nobody new is let in, who waits is accepted, and everybody finishes what he has. */
import type { Port } from './port.js';
import type { ServicePorts } from './service-ports.js';
import type { Slots } from './slots.js';
import type { Patience } from './worker-process.js';

/** Milliseconds between looks at queues that are to become empty before the workers end. */
const QUEUE_LOOK = 5;

/** Milliseconds that handshakes under way are waited for: a first repetition of what was lost takes one second. */
const HANDSHAKE_LIMIT = 1500;

export interface EndingParts {
  slots: Slots;
  ports: ServicePorts;
  /** Is told of a port that goes on letting somebody in. */
  report: (error: Error) => void;
}

export class Ending {
  readonly #parts: EndingParts;
  /** How long it may still take, since it was hurried on. */
  #quickest: Patience = { drain: Number.POSITIVE_INFINITY, kill: Number.POSITIVE_INFINITY };

  constructor(parts: EndingParts) {
    this.#parts = parts;
  }

  /**
   * @param begun when the patience began to count, by performance.now().
   * @param closePorts is called when all have closed their servers, or have ended.
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` for a worker that cannot be ended, after the others have.
   */
  async run({ drain, kill }: Patience, begun: number, closePorts: () => Promise<void>): Promise<void> {
    const slots = this.#parts.slots.all;
    if (drain > 0 && this.#parts.slots.proven) await this.#emptyQueues(drain);
    const left = Math.max(0, Math.min(drain, this.#quickest.drain) - (performance.now() - begun));
    const patience = { drain: left, kill: Math.min(kill, this.#quickest.kill) };
    const retiring = Promise.allSettled(slots.map((slot) => slot.retire('stop', patience)));
    // Whoever tries to connect from then on shall learn that nobody is there, and not wait for the last response.
    const quiet = Promise.all(slots.flatMap(({ workers }) => workers.map((worker) => worker.quiet())));
    await Promise.race([retiring, quiet]);
    await closePorts();
    const failed = (await retiring).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** It has begun with more patience. */
  quicken(patience: Patience): void {
    this.#quickest = patience;
    // Those that have not been told yet will be, with this patience.
    for (const worker of this.#parts.slots.workers) {
      if (worker.state === 'draining') worker.end('stop', patience).catch(() => {});
    }
  }

  /** Nobody new is let in, and who waits is accepted, as long as there is somebody who accepts. */
  async #emptyQueues(limit: number): Promise<void> {
    const begun = performance.now();
    const { slots, report } = this.#parts;
    const ports = [...this.#parts.ports];
    const refused = await Promise.all(
      ports.map((port) =>
        port.refuseNew().catch((error: Error) => {
          report(error);
          return false;
        }),
      ),
    );
    // Most of the time may go into what waits. Where somebody new is let in all the same there is no end to it.
    const share = refused.every(Boolean) ? limit * 0.75 : Math.min(1000, limit / 4);
    const isServed = (port: Port) =>
      slots.wanted.some(({ current }) => current?.serves(port.id) && !current.stuck);
    const waits = (port: Port, time: number) =>
      isServed(port) && (port.queued > 0 || (time < HANDSHAKE_LIMIT && port.handshakes > 0));
    for (;;) {
      const time = performance.now() - begun;
      const over = time > Math.min(share, this.#quickest.drain);
      if (over || !ports.some((port) => waits(port, time))) return;
      await new Promise((resolve) => setTimeout(resolve, QUEUE_LOOK));
    }
  }
}
