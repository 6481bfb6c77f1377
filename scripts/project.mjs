import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export const at = (...parts) => join(root, ...parts);

const stampFile = (name) => at('build', '.stamps', name);

/** Every file below the given files and folders that `accept` takes, absolute, in a stable order; missing ones are left out. */
export function filesBelow(paths, accept = () => true) {
  const found = [];
  const visit = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const child = join(path, entry.name);
      // Somebody else's files, thousands of them: what is installed has its own step.
      if (entry.name === 'node_modules') continue;
      if (entry.isDirectory()) visit(child);
      else if (accept(child)) found.push(child);
    }
  };
  for (const path of paths.map((name) => at(name)).filter((path) => existsSync(path))) {
    try {
      visit(path);
    } catch (error) {
      if (error.code !== 'ENOTDIR') throw error;
      found.push(path);
    }
  }
  return found.sort();
}

/** A hash of paths and contents of the files, and of further values that decide about the result. */
export function fingerprint(files, ...values) {
  const hash = createHash('sha256').update(JSON.stringify(values));
  for (const file of files) {
    const content = readFileSync(file);
    hash.update(`\0${relative(root, file)}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** What the last completed run of a step left behind: `{ inputs, outputs }` and what else the step noted, or undefined. */
export function readStamp(name) {
  try {
    return JSON.parse(readFileSync(stampFile(name), 'utf8'));
  } catch {
    return undefined;
  }
}

/** A stamp is true only if nothing that it speaks of has gone since. `outputs` are paths relative to the root. */
export function stampHolds(stamp, inputs) {
  return stamp?.inputs === inputs && stamp.outputs.every((output) => existsSync(at(output)));
}

export function writeStamp(name, stamp) {
  writeAtomically(stampFile(name), `${JSON.stringify(stamp, null, 2)}\n`);
}

export function removeStamp(name) {
  rmSync(stampFile(name), { force: true });
}

/** Readers see the old content or the new content, and a killed writer leaves the old one. */
export function writeAtomically(file, content) {
  mkdirSync(dirname(file), { recursive: true });
  const draft = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(draft, content);
    renameSync(draft, file);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}
