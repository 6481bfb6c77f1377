/** How an error ends a command. */
import pc from 'picocolors';
import { SpillwayError } from '../errors.js';
import { hintHere } from './doctor-call.js';

/** The command line, or a config file, makes no sense. */
export const USAGE = 2;

const USAGE_CODES: readonly string[] = [
  'ERR_SPILLWAY_CONFIG',
  'ERR_SPILLWAY_NAME_NEEDED',
  'ERR_SPILLWAY_OPTION_RANGE',
];

/**
 * Prints an error that was thrown on purpose.
 *
 * @returns the exit code
 */
export function tellFailure(error: unknown): number {
  if (!(error instanceof SpillwayError)) throw error;
  const { message, hint, code } = error;
  const colours = pc.createColors(process.stderr.isTTY === true && pc.isColorSupported);
  process.stderr.write(`${colours.red('spillway:')} ${message}\n${hintHere(hint)}\n${colours.dim(code)}\n`);
  return USAGE_CODES.includes(code) ? USAGE : 1;
}
