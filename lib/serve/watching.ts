/**
 * Looks after the workers that run: who does not react is passed by, and killed if that lasts; who has grown too large is
 * replaced.
 */
import type { EventEmitter } from 'node:events';
import type { SpillwayError } from '../errors.js';
import type { Agreement } from './agreement.js';
import type { MasterEvents } from './events.js';
import { Health } from './health.js';
import { MemoryWatch } from './memory.js';
import type { Operations } from './operations.js';
import type { Plan } from './options.js';
import { replace } from './replacing.js';
import type { ServicePorts } from './service-ports.js';
import type { Slots } from './slots.js';
import type { WorkerProcess } from './worker-process.js';

export interface WatchingParts {
  slots: Slots;
  ports: ServicePorts;
  agreement: Agreement;
  operations: Operations;
  events: EventEmitter<MasterEvents>;
  /** Is told of a replacement that has failed. */
  report: (error: Error) => void;
}

export class Watching {
  readonly #parts: WatchingParts;
  readonly #health: Health;
  readonly #memory: MemoryWatch | undefined;

  /** @param plan as it is at the start: what is used of it no reload changes. */
  constructor(plan: Plan, parts: WatchingParts) {
    this.#parts = parts;
    const { slots, ports, agreement, events } = parts;
    this.#health = new Health({
      stuckAfter: plan.stuckAfter,
      // A debugger may hold a worker as long as it likes.
      hangTimeout: isDebugged(plan) ? 0 : plan.hangTimeout,
      workers: () => slots.workers.filter(({ isReady }) => isReady),
      hasQueue: (worker) => [...ports].some((port) => port.queuedAt(worker.slot) > 0),
      changed: (worker, stuck, why) => {
        agreement.look();
        events.emit('worker:stuck', worker, stuck, why);
      },
      hung: (worker, why) => {
        worker.hurryAway(`was killed: ${why}`);
      },
    });
    const { maxMemory } = plan;
    if (maxMemory === undefined) return;
    this.#memory = new MemoryWatch({
      most: maxMemory,
      timing: plan,
      workers: () => slots.wanted.flatMap(({ current }) => (current?.isReady ? [current] : [])),
      replace: (worker, memory) => this.#replaceLarge(worker, memory, maxMemory),
    });
  }

  /** Whoever does not react is still seen. */
  stopReplacing(): void {
    this.#memory?.close();
  }

  close(): void {
    this.#memory?.close();
    this.#health.close();
  }

  /** Whether the worker has been replaced. */
  async #replaceLarge(worker: WorkerProcess, memory: number, most: number): Promise<boolean> {
    const { slots, operations, report } = this.#parts;
    try {
      return await operations.inTurn(async () => {
        const slot = slots.wanted[worker.slot];
        if (slot?.current !== worker) return false;
        await replace(slot, 'replace', operations);
        slot.restarts++;
        slot.lastReason = `was replaced: ${memory} bytes of memory, ${most} allowed`;
        return true;
      });
    } catch (error) {
      if ((error as SpillwayError).code !== 'ERR_SPILLWAY_CLOSED') report(error as Error);
      return false;
    }
  }
}

function isDebugged({ program, env }: Plan): boolean {
  return [...program.execArgv, ...(env.NODE_OPTIONS ?? '').split(' ')].some((each) =>
    each.startsWith('--inspect'),
  );
}
