/** More slots, or fewer. */
import type { Answers } from './answers.js';
import type { ServicePorts } from './service-ports.js';
import type { Slots } from './slots.js';

export interface ScalingParts {
  slots: Slots;
  ports: ServicePorts;
  /** Which ports are needed depends on who might ask for one. */
  answers: Answers;
  /** Makes the slot of that number, without a worker yet. */
  add: (number: number) => void;
  /** Is told what goes wrong with a slot that is already out of the way. */
  report: (error: Error) => void;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_WORKER` when a worker is not ready: there are as many slots as before then. */
export async function scaleTo(workers: number, parts: ScalingParts): Promise<void> {
  if (workers > parts.slots.wanted.length) await grow(workers, parts);
  else await keepFirst(workers, parts);
}

async function grow(workers: number, parts: ScalingParts): Promise<void> {
  const { slots, add } = parts;
  const from = slots.wanted.length;
  for (let number = from; number < workers; number++) add(number);
  const added = slots.wanted.slice(from);
  const results = await Promise.allSettled(added.map((slot) => slot.start()));
  const failed = results.find((result) => result.status === 'rejected');
  if (!failed) return;
  await shrink(from, parts);
  throw failed.reason;
}

/** Slots that have been given up get another chance before those that serve in their place are taken away. */
async function keepFirst(workers: number, parts: ScalingParts): Promise<void> {
  const kept = parts.slots.wanted.slice(0, workers);
  for (const slot of kept.filter(({ isStaffed }) => !isStaffed)) {
    slot.forgive();
    await slot.start();
  }
  await shrink(workers, parts);
}

async function shrink(workers: number, { slots, ports, answers, report }: ScalingParts): Promise<void> {
  const leaving = slots.wanted.slice(workers);
  for (const { number } of leaving) for (const port of ports) port.retire(number);
  for (const slot of leaving) slots.retire(slot);
  const gone = leaving.map((slot) => {
    const ended = slot.retire('scale').then(
      () => slots.forget(slot),
      // It stays among the workers: it is there.
      report,
    );
    const quiet = Promise.all(slot.workers.map((worker) => worker.quiet()));
    return Promise.race([ended, quiet]);
  });
  await Promise.all(gone);
  slots.keepFirst(workers);
  answers.look();
  for (const { number } of leaving) for (const port of ports) await port.remove(number).catch(report);
}
