/** What `npm run docs` writes into docs/config.md, made of the tables in the code. */
import { FAMILIAR, IGNORED, START_OPTIONS, UNSUPPORTED } from '../../lib/cli/start/options.js';
// @ts-expect-error: a plain script without types
import * as docs from '../../scripts/docs.mjs';

export const keyTable = (): string => docs.keyTable(START_OPTIONS);
export const familiarTable = (): string => docs.familiarTable(FAMILIAR);
export const unsupportedTable = (): string => docs.unsupportedTable(UNSUPPORTED);
export const ignoredList = (): string => docs.ignoredList(IGNORED);
