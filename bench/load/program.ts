/** Where the benchmark's native programs are (bench/native). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SpillwayError } from '../../lib/errors.js';
import { packageRoot } from '../../lib/native.js';

/** @throws {SpillwayError} `ERR_SPILLWAY_ADDON` when it has not been built. */
export function benchProgram(name: 'spillway-bench-load' | 'spillway-bench-delay'): string {
  const path = join(packageRoot, 'build/Release', name);
  if (existsSync(path)) return path;
  throw new SpillwayError('ERR_SPILLWAY_ADDON', `${name} is not there: it has not been built`, {
    hint: 'npm run build',
  });
}
