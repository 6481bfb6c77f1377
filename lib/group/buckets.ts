/**
 * Which slot the clients of each bucket belong to, for the policy `sticky`: the table `buckets` of native/bpf/layout.h.
 *
 * Every bucket goes to the slot that draws the highest number for it (rendezvous hashing: Thaler and Ravishankar,
 * "A Name-Based Mapping Scheme for Rendezvous", 1996; with weights as in Schindelhauer and Schomaker, "Weighted
 * Distributed Hash Tables", 2005). The numbers depend on bucket and slot alone: a slot that leaves gives up its own
 * buckets and no others move, and one that comes takes its share from all.
 */
import { BUCKETS } from './layout.js';

/**
 * The slot of each bucket.
 *
 * @param weights by slot; a slot with 0 gets nothing. When none is above 0 all buckets are slot 0's.
 */
export function buildBuckets(weights: readonly number[]): Uint32Array {
  const buckets = new Uint32Array(BUCKETS);
  const takers = [...weights.keys()].filter((slot) => weights[slot]! > 0);
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    let best = Number.NEGATIVE_INFINITY;
    for (const slot of takers) {
      const score = weights[slot]! / -Math.log(draw(bucket, slot));
      if (score <= best) continue;
      best = score;
      buckets[bucket] = slot;
    }
  }
  return buckets;
}

/** A number between 0 and 1, both excluded, that tells nothing about its arguments (the finalizer of MurmurHash3, twice). */
function draw(bucket: number, slot: number): number {
  return (mixed(mixed(bucket + 1) ^ Math.imul(slot + 1, 0x9e3779b9)) + 0.5) / 2 ** 32;
}

function mixed(number: number): number {
  let mix = number;
  mix ^= mix >>> 16;
  mix = Math.imul(mix, 0x85ebca6b);
  mix ^= mix >>> 13;
  mix = Math.imul(mix, 0xc2b2ae35);
  return (mix ^ (mix >>> 16)) >>> 0;
}
