/**
 * The alias table (Vose, "A linear algorithm for generating random numbers with a given distribution", 1991) that
 * lets the selector pick a slot by weight in constant time. Its rows are `struct spillway_choice` of
 * native/bpf/layout.h; the reader is `weighted_pick` of native/bpf/selector.bpf.c.
 */

/** 2³²: how many random numbers there are, and the part of a row that a threshold is measured in. */
const RANGE = 2 ** 32;

/** The largest threshold a u32 holds. One low word in 2³² is not below it, so the row's alias must be itself. */
const KEEP_ALL = RANGE - 1;

/**
 * Builds the table: for each weight, in order, a threshold and an alias.
 *
 * Shares differ from weight/sum by less than 2⁻²⁰ for up to 1,024 rows. A weight of 0 (a disabled or empty slot) has
 * no share at all. When no weight is above 0, nobody is better than anybody and every row leads to itself.
 *
 * @param weights - whole numbers from 0; their sum times their number must be a safe integer.
 * @throws {RangeError} when a weight is something else, or the sum is too large.
 */
export function buildChoices(weights: readonly number[]): Uint32Array {
  const sum = sumOf(weights);
  const choices = keepAll(weights.length);

  // In units of 1/rows of a weight, a full row holds `sum` and a slot has weight × rows to spread: both are whole
  // numbers, so that nothing is lost to rounding while shares move from row to row, and every row is full at the end.
  // Without any weight a full row holds nothing, so that nobody is short to begin with.
  const rest = weights.map((weight) => weight * weights.length);
  const short = rowsWhere(rest, (share) => share < sum);
  const long = rowsWhere(rest, (share) => share > sum);

  for (let row = short.pop(); row !== undefined; row = short.pop()) {
    // Shares of the rows that are not full yet average to a full row: where one is short, another is long.
    const donor = long.at(-1)!;
    setRow(choices, row, thresholdOf(rest[row]!, sum), donor);
    rest[donor]! -= sum - rest[row]!;
    if (rest[donor]! > sum) continue;
    long.pop();
    if (rest[donor]! < sum) short.push(donor);
  }
  return choices;
}

/**
 * The slot that a random number leads to: the kernel's pick, word for word.
 *
 * @param choices - a table made by {@link buildChoices}.
 * @param r - a whole number from 0 to 2³² − 1.
 */
export function pick(choices: Uint32Array, r: number): number {
  const rows = choices.length / 2;
  const product = r * rows;
  const row = Math.floor(product / RANGE);
  return product % RANGE < choices[2 * row]! ? row : choices[2 * row + 1]!;
}

function sumOf(weights: readonly number[]): number {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (!weights.every((weight) => Number.isSafeInteger(weight) && weight >= 0)) {
    throw new RangeError('every weight must be a whole number from 0');
  }
  if (!Number.isSafeInteger(sum * weights.length))
    throw new RangeError('the sum of all weights is too large');
  return sum;
}

function keepAll(rows: number): Uint32Array {
  const choices = new Uint32Array(2 * rows);
  for (let row = 0; row < rows; row++) setRow(choices, row, KEEP_ALL, row);
  return choices;
}

function setRow(choices: Uint32Array, row: number, threshold: number, alias: number): void {
  choices[2 * row] = threshold;
  choices[2 * row + 1] = alias;
}

/** The part of a row that its own slot keeps. Rounding must not turn "almost all" into 2³², which no u32 holds. */
function thresholdOf(share: number, full: number): number {
  return Math.min(Math.round((share / full) * RANGE), KEEP_ALL);
}

function rowsWhere(shares: readonly number[], test: (share: number) => boolean): number[] {
  return [...shares.keys()].filter((row) => test(shares[row]!));
}
