/** Why a driver is absent, as much of it as a terminal has room for. Pure. */
import { cut } from './wrap.js';

/** Characters of a reason's first line. */
const LONGEST = 200;

const WHERE = '(all of it: JSON and HTML)';

/**
 * The first line, and where the rest stands if there is one. What a launcher was told, JSON on its command line, says
 * nothing about the failure and is left out.
 */
export function inShort(reason: string): string {
  const whole = reason.trim();
  const [line = ''] = whole.split('\n', 1);
  const shown = cut(line.replace(/\{".*\}/, '{…}').trimEnd(), LONGEST);
  return shown === whole ? whole : `${shown} ${WHERE}`;
}
