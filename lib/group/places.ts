/** Which slots are placed on which CPU, for the policy `local-cpu`: the tables `cpus` and `cpu_slots` of native/bpf/layout.h. */
import { MAX_CPUS } from './layout.js';
import type { Member } from './tier.js';

/**
 * For each CPU, where its part of the list begins and how long it is, in turn; and the list of slots, one CPU after
 * another. Slots that are disabled, or on no CPU in particular, are in no part.
 */
export function buildPlaces(
  members: readonly (Pick<Member, 'cpu' | 'enabled'> | undefined)[],
): [cpus: Uint32Array, slots: Uint32Array] {
  const placed = [...members.keys()].filter((slot) => members[slot]?.enabled && members[slot].cpu >= 0);
  const cpuOf = (slot: number) => members[slot]?.cpu ?? -1;
  placed.sort((one, other) => cpuOf(one) - cpuOf(other) || one - other);
  const cpus = new Uint32Array(2 * MAX_CPUS);
  placed.forEach((slot, place) => {
    const row = 2 * cpuOf(slot);
    if (cpus[row + 1] === 0) cpus[row] = place;
    cpus[row + 1]!++;
  });
  return [cpus, Uint32Array.from(placed)];
}
