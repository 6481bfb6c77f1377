import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds between two looks at a condition. */
const LOOK_EVERY = 2;

/** Milliseconds after which a condition that tests wait for counts as never to come. */
const DEADLINE = 10_000;

/**
 * Waits until `condition` gives something truthy, and returns it. Asks at once, so that nothing is lost where it holds
 * already.
 *
 * @param what completes the sentence "waited … ms until", for the error when the deadline passes.
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  deadline = DEADLINE,
): Promise<NonNullable<T>> {
  const end = performance.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`waited ${deadline} ms until ${what}`);
    await delay(LOOK_EVERY);
  }
}
