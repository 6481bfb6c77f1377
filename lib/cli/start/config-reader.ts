/**
 * Imports a config file that is a program, in a process of its own: every reading sees it as it is now, with everything
 * it imports, and a program that never ends or ends the process does no harm. The value goes to descriptor 3 as JSON.
 */
import { closeSync, writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

export type Reading =
  | { value: unknown }
  /** It ran, and what it gave is no data: where in it, and why. */
  | { fault: { path: string; what: string } }
  | { error: { text: string; code?: string } };

const RESULT_FD = 3;

const [, , file = ''] = process.argv;

function tell(reading: Reading): void {
  const bytes = Buffer.from(JSON.stringify(reading));
  for (let at = 0; at < bytes.length; ) at += writeSync(RESULT_FD, bytes, at);
  closeSync(RESULT_FD);
}

/** JSON leaves out what it cannot hold; a key that silently counts for nothing would be worse than an error. */
function faultIn(
  value: unknown,
  path = '',
  around: readonly object[] = [],
): { path: string; what: string } | undefined {
  if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') {
    return { path, what: `is a ${typeof value}, not plain data` };
  }
  if (typeof value !== 'object' || value === null) return undefined;
  if (around.includes(value)) return { path, what: 'holds itself' };
  for (const [key, each] of Object.entries(value)) {
    const place = Array.isArray(value) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`;
    const fault = faultIn(each, place, [...around, value]);
    if (fault) return fault;
  }
  return undefined;
}

try {
  const namespace = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  const value = 'default' in namespace ? namespace.default : { ...namespace };
  const fault = faultIn(value);
  tell(fault ? { fault } : { value });
} catch (error) {
  const { code } = (error ?? {}) as { code?: string };
  const text = error instanceof Error ? (error.stack ?? error.message) : `threw ${inspect(error)}`;
  tell({ error: { text, ...(code === undefined ? {} : { code }) } });
  // For a syntax error Node knows the place, but tells it only of an error that nobody catches.
  throw error;
}
// Timers and servers of the config file shall not keep this process.
process.exit(0);
