/**
 * When which request is due, decided before the load begins: the same for every rival in a round, because it comes from
 * a seed.
 */
import type { Arrivals } from './order.js';
import { seededRandom } from './random.js';

/**
 * `poisson`: of clients that know nothing of one another; several at once and long pauses are part of it. `even`: one
 * every 1/rate seconds, which hides what a service does with requests that come together.
 */
type Spacing = 'even' | 'poisson';

/** A part of a load with one rate; lasts `milliseconds`. `rate` in requests per second, 0 or more. */
export interface Step {
  rate: number;
  milliseconds: number;
}

/**
 * Requests at one rate, all of kind 0. Exactly rate × milliseconds / 1000 of them, rounded: Poisson arrivals are drawn
 * given their number (the times are then independent of one another and uniform), so that rounds of different seeds are
 * the same amount of work.
 */
export function steady(options: Step & { seed: number; spacing?: Spacing }): Arrivals {
  return steps([options], options.seed, options.spacing);
}

/** One step after another; every one has the number of requests it would have by itself. */
export function steps(list: readonly Step[], seed: number, spacing: Spacing = 'poisson'): Arrivals {
  const { fraction } = seededRandom(seed);
  let begin = 0;
  const parts = list.map(({ rate, milliseconds }) => {
    if (!(rate >= 0 && milliseconds >= 0 && Number.isFinite(rate * milliseconds)))
      throw new RangeError(`no load has ${rate} requests per second for ${milliseconds} ms`);
    const count = Math.round((rate * milliseconds) / 1000);
    const place = spacing === 'even' ? (index: number) => index / count : fraction;
    const part = Float64Array.from({ length: count }, (_, index) => begin + place(index) * milliseconds);
    begin += milliseconds;
    return part.sort();
  });
  const at = Float64Array.from(parts.flatMap((part) => [...part]));
  return { at, kind: new Uint8Array(at.length) };
}

/** Keeps the numbers of one purpose apart from those of another that was given the same seed. */
const KINDS_SALT = 0x6b696e64;

/**
 * Makes one request in `oneIn` (1 or more) one of another kind, at random places: exactly that share of all, rounded,
 * whatever the seed. At fixed places the requests of a kind would meet the same worker again and again wherever
 * connections are dealt out in turn.
 *
 * @param options.from milliseconds from the start in which there is none of the kind; default 0. The share is of the
 *   requests after that.
 */
export function withKind(
  { at, kind }: Arrivals,
  options: { kind: number; oneIn: number; seed: number; from?: number },
): Arrivals {
  const { oneIn, from = 0 } = options;
  if (!(oneIn >= 1)) throw new RangeError(`one in ${oneIn} is no share`);
  const { fraction } = seededRandom(options.seed ^ KINDS_SALT);
  const changed = Uint8Array.from(kind);
  let left = at.reduce((count, time) => count + Number(time >= from), 0);
  let wanted = Math.round(left / oneIn);
  // Selection sampling: every set of that many requests is equally likely (Knuth, volume 2, 3.4.2, algorithm S).
  for (let index = at.length - left; wanted > 0; index++, left--) {
    if (fraction() * left >= wanted) continue;
    changed[index] = options.kind;
    wanted--;
  }
  return { at, kind: changed };
}
