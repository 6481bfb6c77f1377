/** In which order the rivals take their turns. */
import { rotated } from './statistics.js';

/**
 * The list for one round (from 0): begun one further in every round, and backwards in every second one. Over the rounds
 * nobody is always first, and nobody always comes after the same one, whose heat and TIME_WAITs it inherits.
 */
export function turnsOf<T>(list: readonly T[], round: number): T[] {
  const turned = rotated(list, round);
  return round % 2 === 0 ? turned : turned.reverse();
}
