/** What is installed here: from it a running master is told to be of an older one. */
import { createHash } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Installation } from '../../control/protocol.js';
import { packageRoot } from '../../native.js';

/** What a master is made of, besides Node itself. */
const PARTS = ['package.json', 'build/Release', 'dist/lib'];

/** Of this process, and of the files as they are now. */
export function readInstallation(): Installation {
  const [, main = ''] = process.argv;
  const hash = createHash('sha256');
  for (const path of [process.execPath, ...PARTS.map((part) => join(packageRoot, part))]) add(hash, path);
  return { node: process.execPath, main, files: hash.digest('hex').slice(0, 16) };
}

/** By size and time, as everybody who replaces a file changes these. What is missing is a part of what it is. */
function add(hash: ReturnType<typeof createHash>, path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  hash.update(`${path}\n`);
  if (stat?.isFile()) hash.update(`${stat.size} ${stat.mtimeMs}\n`);
  if (!stat?.isDirectory()) return;
  for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // What a compiler keeps between the sources and its products.
    if (!entry.name.startsWith('.') && !entry.name.startsWith('obj')) add(hash, join(path, entry.name));
  }
}
