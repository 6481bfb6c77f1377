/** New workers where others serve: one slot after another, all together, or after an end of all. */
import { SpillwayError } from '../errors.js';
import type { Operations } from './operations.js';
import type { DrainReason } from './protocol.js';
import type { Slot } from './slot.js';

/** @throws {SpillwayError} of the new worker: the one before goes on. */
export async function replace(slot: Slot, reason: DrainReason, operations: Operations): Promise<void> {
  if (reason === 'reload') slot.forgive();
  try {
    await slot.prepare();
  } catch (error) {
    // The one before may have gone meanwhile.
    if (!operations.isEnding && !slot.isStaffed) slot.notStarted(error as SpillwayError);
    throw error;
  }
  slot.promote(reason);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_RELOAD`; the workers of that slot and of all behind it are those of before. */
export async function replaceInTurn(slots: readonly Slot[], operations: Operations): Promise<void> {
  for (const [done, slot] of slots.entries()) {
    try {
      await replace(slot, 'reload', operations);
    } catch (error) {
      const rest = done === 0 ? 'all workers are those of before' : `${done} of ${slots.length} are new`;
      throw reloadFailure(error as SpillwayError, rest);
    }
  }
}

/** All new ones are ready before the first one takes over. @throws {SpillwayError} `ERR_SPILLWAY_RELOAD`; none has. */
export async function replaceTogether(slots: readonly Slot[], operations: Operations): Promise<void> {
  for (const slot of slots) slot.forgive();
  const results = await Promise.allSettled(slots.map((slot) => slot.prepare()));
  // One that was ready may have gone while the others were starting.
  const lost = slots.find((slot) => !slot.isPrepared);
  if (!lost) {
    for (const slot of slots) slot.promote('reload');
    return;
  }
  const failed = results.find((result) => result.status === 'rejected');
  const reason: SpillwayError =
    failed?.reason ??
    new SpillwayError('ERR_SPILLWAY_WORKER', `the new worker of slot ${lost.number} has gone again`);
  await Promise.allSettled(slots.map((slot) => slot.withdraw()));
  for (const slot of slots) if (!operations.isEnding && !slot.isStaffed) slot.notStarted(reason);
  throw reloadFailure(reason, 'all workers are those of before');
}

/**
 * All end before new ones start.
 *
 * @param report is told of one that does not end.
 * @throws {SpillwayError} `ERR_SPILLWAY_RELOAD` when a new one is not ready: it is tried again like one that has crashed.
 */
export async function restartAll(slots: readonly Slot[], report: (error: Error) => void): Promise<void> {
  const failures: SpillwayError[] = [];
  await Promise.all(
    slots.map(async (slot) => {
      await slot.empty('stop').catch(report);
      slot.forgive();
      await slot.start().catch((error: SpillwayError) => {
        failures.push(error);
        slot.notStarted(error);
      });
    }),
  );
  if (failures[0]) throw reloadFailure(failures[0], `${failures.length} of ${slots.length} failed`);
}

function reloadFailure(error: SpillwayError, state: string): SpillwayError {
  if (error.code === 'ERR_SPILLWAY_CLOSED') return error;
  return new SpillwayError('ERR_SPILLWAY_RELOAD', `${error.message}; ${state}`, {
    cause: error,
    hint: error.hint,
  });
}
