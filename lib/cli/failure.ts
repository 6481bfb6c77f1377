/** How an error ends a command. */
import pc from 'picocolors';
import { type ErrorCode, SpillwayError } from '../errors.js';
import { hintHere } from './doctor-call.js';

/** The command line, or a config file, makes no sense. */
export const USAGE = 2;

/** All other codes end a command with 1; docs/cli.md tells the same. */
const EXIT_CODES: { readonly [Code in ErrorCode]?: number } = {
  ERR_SPILLWAY_CONFIG: USAGE,
  ERR_SPILLWAY_NAME_NEEDED: USAGE,
  ERR_SPILLWAY_OPTION_RANGE: USAGE,
  ERR_SPILLWAY_NO_WORKER: 3,
  ERR_SPILLWAY_WORKER: 3,
};

export function exitCodeOf(error: unknown): number {
  return (error instanceof SpillwayError ? EXIT_CODES[error.code] : undefined) ?? 1;
}

/**
 * Prints an error that was thrown on purpose.
 *
 * @param json also on stdout, as one JSON object in one line.
 * @returns the exit code
 */
export function tellFailure(error: unknown, json = false): number {
  if (!(error instanceof SpillwayError)) throw error;
  const { message, code } = error;
  const hint = hintHere(error.hint);
  const colours = pc.createColors(process.stderr.isTTY === true && pc.isColorSupported);
  process.stderr.write(`${colours.red('spillway:')} ${message}\n${hint}\n${colours.dim(code)}\n`);
  if (json) process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
  return exitCodeOf(error);
}
