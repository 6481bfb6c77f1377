/**
 * The quantile of Student's t distribution: how many standard errors around a mean hold the true one.
 *
 * Found by bisection on the distribution function, which for a whole number of degrees of freedom is a finite sum of
 * elementary functions (Abramowitz and Stegun, 26.7.3 and 26.7.4). No package for it alone was found that is
 * maintained and does not bring hundreds of others.
 */

/** The t that a variable of `freedom` degrees of freedom (1 or more, whole) stays below with `probability` (0.5 to 1). */
export function studentQuantile(probability: number, freedom: number): number {
  if (!(probability >= 0.5 && probability < 1)) throw new RangeError(`no quantile of ${probability} here`);
  if (!Number.isInteger(freedom) || freedom < 1) throw new RangeError(`${freedom} degrees of freedom`);
  let low = 0;
  let high = 1;
  while (below(high, freedom) < probability) high *= 2;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    if (below(middle, freedom) < probability) low = middle;
    else high = middle;
  }
}

/** The probability that the variable is below `t`, 0 or more. */
function below(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const square = Math.cos(angle) ** 2;
  const odd = freedom % 2 === 1;
  let term = odd ? Math.cos(angle) : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k <= freedom - 2; k += 2) {
    term *= square * ((k - 1) / k);
    sum += term;
  }
  const within = odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
  return 0.5 + within / 2;
}
