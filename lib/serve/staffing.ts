/** Starts workers for the slots of a master, hears what becomes of them, and tells of it. */
import type { EventEmitter } from 'node:events';
import type { SpillwayError } from '../errors.js';
import type { Agreement } from './agreement.js';
import type { Answers } from './answers.js';
import { closeHandle } from './channel-guard.js';
import type { MasterEvents } from './events.js';
import type { Handover } from './handover.js';
import type { HintsRows } from './hints-rows.js';
import { launch } from './launch.js';
import { openLinks } from './links.js';
import type { Operations } from './operations.js';
import type { Plan } from './options.js';
import type { ServicePorts } from './service-ports.js';
import { Slot } from './slot.js';
import type { Slots } from './slots.js';
import { WorkerProcess } from './worker-process.js';

export interface StaffingParts {
  plan: () => Plan;
  slots: Slots;
  ports: ServicePorts;
  hints: HintsRows;
  handover: Handover;
  answers: Answers;
  agreement: Agreement;
  operations: Operations;
  /** Name of the abstract socket of the desk, once it is open. */
  desk: () => string;
  events: EventEmitter<MasterEvents>;
  /** No other worker follows in a slot. */
  failed: (error: SpillwayError) => void;
  report: (error: Error) => void;
}

export class Staffing {
  readonly #parts: StaffingParts;

  constructor(parts: StaffingParts) {
    this.#parts = parts;
  }

  /** The slot of that number, where nobody works yet. */
  add(number: number): void {
    const { plan, slots, answers, agreement, events, failed, report } = this.#parts;
    const slot = new Slot(
      number,
      (each) => this.#spawn(each),
      () => ({ timing: plan(), autoRestart: plan().autoRestart }),
    );
    slots.put(slot);
    slot.on('start', (worker) => events.emit('worker:start', worker));
    slot.on('ready', (worker) => {
      slots.proven = true;
      agreement.look();
      answers.look();
      events.emit('worker:ready', worker, (worker.readyAt ?? 0) - worker.startedAt);
    });
    slot.on('drain', (worker, reason) => {
      agreement.look();
      events.emit('worker:drain', worker, reason);
    });
    slot.on('exit', (worker, expected, reason) => {
      this.#lost(slot, worker);
      answers.look();
      const { code, signal } = worker.ending;
      events.emit('worker:exit', { slot: number, pid: worker.pid, code, signal, expected, reason });
    });
    slot.on('restart', ({ delay, failures, reason }) => {
      const most = plan().maxRestarts;
      events.emit('worker:restart', { slot: number, delay, failures, most, reason });
    });
    slot.on('failed', (error) => {
      events.emit('worker:failed', { slot: number, reason: error.message });
      failed(error);
      agreement.vacate(slot);
      answers.look();
    });
    slot.on('immortal', report);
  }

  async #spawn(number: number): Promise<WorkerProcess> {
    const { ports, hints, operations, desk } = this.#parts;
    const plan = this.#parts.plan();
    for (const port of ports) await port.fill(number);
    operations.assertOpen();
    const isNode = plan.program.kind === 'node';
    const { declared } = ports;
    const listeners = declared.map((port) => port.listener(number));
    const links = isNode ? openLinks(hints) : undefined;
    try {
      const child = launch(plan, number, {
        listeners,
        ...(links ? { node: links } : {}),
        desk: desk(),
        port: declared[0]?.group.address.port,
      });
      const readiness = {
        isNode,
        waits: plan.waitReady,
        ports: declared.map(({ id }) => id),
        listeners: listeners.length,
        isPort: (id: number) => ports.get(id) !== undefined,
      };
      const worker = new WorkerProcess(number, child, readiness, links?.kept);
      this.#hear(worker);
      return worker;
    } catch (error) {
      links?.kept.close();
      throw error;
    } finally {
      links?.given();
    }
  }

  #hear(worker: WorkerProcess): void {
    const { handover, answers, agreement, events } = this.#parts;
    handover.add(worker);
    // The slots come first, so that a listener of the events sees the groups as they are.
    worker.on('state', () => agreement.look());
    worker.on('listening', () => events.emit('worker:listening', worker));
    answers.hear(worker);
    worker.on('message', (message, handle) => {
      // Whoever listens owns the handle.
      if (!events.emit('worker:message', worker, message, handle)) closeHandle(handle);
    });
  }

  #lost(slot: Slot, worker: WorkerProcess): void {
    const { slots, agreement } = this.#parts;
    if (slot.workers.length === 0) slots.forget(slot);
    agreement.look();
    if (worker.state === 'exited') agreement.vacate(slot);
  }
}
