/** Random numbers that are the same in every run: mulberry32 by Tommy Ettinger (public domain). */
export interface Random {
  /** The next whole number from 0 to 2³² − 1. */
  word(): number;
  /** The next whole number from `low` to `high`, both included. */
  between(low: number, high: number): number;
  /** The next number from 0 to 1, 1 not included, in steps of 2⁻³². */
  fraction(): number;
}

export function seededRandom(seed: number): Random {
  const word = mulberry32(seed);
  const fraction = () => word() / 2 ** 32;
  return { word, fraction, between: (low, high) => low + Math.floor(fraction() * (high - low + 1)) };
}

function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
