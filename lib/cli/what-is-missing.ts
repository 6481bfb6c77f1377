import type { SelectorName } from '../group/options.js';

/** One sentence about a better selector that does not work here. */
export function whatIsMissing(selector: SelectorName, notice: string, doctor: string): string {
  return `The selector '${selector}' is in force, because ${notice}. \`${doctor}\` says how to change that.`;
}
