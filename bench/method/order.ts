/** In which order the rivals take their turns. */

/**
 * The list in the order of one round (from 0), by a Williams square: over as many rounds as there are rivals (twice as
 * many, if their number is odd) everybody has every place equally often, and comes after every other one equally often,
 * whose heat and TIME_WAITs it inherits. Two rivals change places from round to round.
 *
 * E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949.
 */
export function turnsOf<T>(list: readonly T[], round: number): T[] {
  const { length } = list;
  if (length === 0) return [];
  // 0, 1, n−1, 2, n−2, …: neighbours differ by another amount each time.
  const first = list.map((_, place) => (place % 2 === 1 ? (place + 1) / 2 : (length - place / 2) % length));
  const turned = first.map((index) => list[(index + round) % length] as T);
  return length % 2 === 1 && Math.floor(round / length) % 2 === 1 ? turned.reverse() : turned;
}
