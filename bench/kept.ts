/** What `--save` writes, and what is therefore no change of what is measured. */
import { join } from 'node:path';
import { packageRoot } from '../lib/native.js';

export const RESULTS = join(packageRoot, 'bench', 'results');
export const README = join(packageRoot, 'README.md');
