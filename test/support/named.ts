/**
 * A table for `test.each(…)('%s', …)`, every row with its sentence in front: `$name` in a title would be quoted and
 * cut off.
 */
export function named<Row>(rows: readonly Row[], sentence: (row: Row) => string): [string, Row][] {
  return rows.map((row) => [sentence(row), row]);
}
