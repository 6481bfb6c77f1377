/** What a program is told when the master cannot give it a listener: the error its own call would have met. */
import { type ErrorCode, SpillwayError } from '../errors.js';
import type { Answer } from './protocol.js';

type ProgramError = Extract<Answer, { error: unknown }>['error'];

/** Names of errors by errno(3), for what has lost the system's own. */
const SYSTEM_CODES: Partial<Record<ErrorCode, string>> = {
  ERR_SPILLWAY_ADDRESS_IN_USE: 'EADDRINUSE',
  ERR_SPILLWAY_ADDRESS_UNAVAILABLE: 'EADDRNOTAVAIL',
  ERR_SPILLWAY_PERMISSION: 'EACCES',
  ERR_SPILLWAY_LIMIT: 'EMFILE',
};

/** To the program it was its call of listen() that failed, whatever the master tried for it. */
export function asProgramError(error: unknown): ProgramError {
  const { message, errno } = error as Error & { errno?: number };
  const known = error instanceof SpillwayError ? (SYSTEM_CODES[error.code] ?? error.code) : undefined;
  return {
    code: known ?? (error as { code?: string }).code ?? 'ERR_SPILLWAY_SYSTEM',
    message,
    ...(errno === undefined ? {} : { errno }),
  };
}
