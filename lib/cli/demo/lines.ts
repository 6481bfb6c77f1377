/** The facts as plain lines, for output that is no terminal. */
import type { Snapshot, WorkerFacts } from './snapshot.js';
import { dash } from './table.js';

/** One line for one moment. Process ids are left to the introduction: they do not change. */
export function renderLine({ seconds, workers, load, ...group }: Snapshot): string {
  return [
    `${seconds.toFixed(0).padStart(3)} s`,
    `${group.connectionsPerSecond} connections/s, ${dash(group.redirected)} redirected, ${dash(group.dropped)} dropped, ${group.kernelDrops} kernel drops`,
    ...workers.map(workerFacts),
    `load ${load.rate === null ? 'off' : `${load.rate}/s`}, ${load.answered} of ${load.sent} answered`,
  ].join(' | ');
}

function workerFacts({ slot, alive, slow, queue, places, served, ...counts }: WorkerFacts): string {
  const state = alive ? (slow > 0 ? ' slow' : '') : ' gone';
  const moved = `in ${dash(counts.redirectedIn)}, out ${dash(counts.redirectedOut)}`;
  return `${slot}${state}: queue ${dash(queue)}/${dash(places)}, served ${served}, chosen ${dash(counts.chosen)}, ${moved}`;
}
