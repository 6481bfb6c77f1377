/** How a worker can be made to stand still: see service/program.mjs, which does it. */
export const BLOCKERS = ['spin', 'exec-sync', 'atomics-wait'] as const;
export type Blocker = (typeof BLOCKERS)[number];
