/** Whether and when a worker that has ended is started again. Pure: no clock, no process. */
import type { Timing } from './options.js';

type RestartTiming = Pick<Timing, 'minUptime' | 'restartDelay' | 'maxRestartDelay' | 'maxRestarts'>;

/** What follows the end of a slot's worker; `failures` are those in a row, this one included. */
export type Verdict = { failures: number; delay: number } | { failures: number; giveUp: true };

/**
 * @param failures how many workers of the slot had failed in a row before.
 * @param uptime milliseconds since it became ready; undefined if it never was.
 */
export function afterEnd(failures: number, uptime: number | undefined, timing: RestartTiming): Verdict {
  if (uptime !== undefined && uptime >= timing.minUptime) return { failures: 0, delay: 0 };
  const inRow = failures + 1;
  if (inRow > timing.maxRestarts) return { failures: inRow, giveUp: true };
  return { failures: inRow, delay: grownDelay(inRow - 1, timing) };
}

/** The restart delay in milliseconds, doubled so many times, up to the longest. */
export function grownDelay(
  times: number,
  { restartDelay, maxRestartDelay }: Pick<Timing, 'restartDelay' | 'maxRestartDelay'>,
): number {
  // A factor above 2^31 would only meet the largest delay again.
  return Math.min(maxRestartDelay, restartDelay * 2 ** Math.min(times, 31));
}
