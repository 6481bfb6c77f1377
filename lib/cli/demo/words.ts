/** The demo's sentences. */
import type { SelectorName } from '../../group/options.js';
import type { Snapshot } from './snapshot.js';

const UNDER_FLOOD: Record<SelectorName, string> = {
  ebpf: 'Its queue fills; from then on the kernel gives what would have been its share to the others, at the SYN. Their queues stay short.',
  cbpf: 'Its queue fills; within milliseconds Spillway takes it off the list the kernel chooses from, until it has room again. The others stay quick. A connection that comes in between may meet the full queue and wait a second (a kernel drop).',
  none: "Its queue fills, and the kernel's hash goes on giving it its share. What finds the queue full is dropped and tries again after a second or more, although the others are free.",
};

/** What one sees, given what is going on. */
export function whatOneSees({ workers, selector, dropped }: Snapshot): string {
  const slow = workers.find((worker) => worker.slow > 0);
  if (!slow) return 'No load: ask for a page by hand, or turn the flood on.';
  const turnedAway = dropped ? ` Dropped were only those that came while every queue was full.` : '';
  return `Worker ${slow.slot} takes ${slow.slow} ms for every request. ${UNDER_FLOOD[selector]}${turnedAway}`;
}

export function byHand(url: string): string {
  return `curl -s ${url.replace(/^http:\/\//, '')}`;
}
