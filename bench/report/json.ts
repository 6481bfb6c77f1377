/** JSON that is short and can still be compared line by line: what fits on a line is on one, lists of numbers always. */

const LONGEST_LINE = 160;

export function toJson(value: unknown): string {
  return `${written(value, '')}\n`;
}

function written(value: unknown, indent: string): string {
  const flat = JSON.stringify(value);
  if (typeof value !== 'object' || value === null) return flat;
  if (flat.length <= LONGEST_LINE || isListOfScalars(value)) return flat;
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    return `[\n${value.map((each) => inner + written(each ?? null, inner)).join(',\n')}\n${indent}]`;
  }
  const entries = Object.entries(value)
    .filter(([, each]) => each !== undefined)
    .map(([key, each]) => `${inner}${JSON.stringify(key)}: ${written(each, inner)}`);
  return `{\n${entries.join(',\n')}\n${indent}}`;
}

function isListOfScalars(value: object): boolean {
  return Array.isArray(value) && value.every((each) => typeof each !== 'object' || each === null);
}
