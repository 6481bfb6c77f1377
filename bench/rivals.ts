/** The rivals that come from npm: packages of bench/package.json, which are installed beside it when somebody wants them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../lib/native.js';
import type { Found } from './drivers/driver.js';

/** Of this folder, like everything else that npm has put there. */
export const RIVALS = join(packageRoot, 'bench', 'node_modules');

const INSTALL = 'npm ci --ignore-scripts --prefix bench';

/** A Node newer than the one that runs the benchmark, for what needs it: npm names the package after the processor. */
const NODE_PACKAGE = `node-linux-${process.arch}`;

export const RIVAL_NODE = join(RIVALS, NODE_PACKAGE, 'bin', 'node');

function versionOf(name: string): string | undefined {
  try {
    return JSON.parse(readFileSync(join(RIVALS, name, 'package.json'), 'utf8')).version;
  } catch {
    return undefined;
  }
}

const missing = (names: readonly string[]): Found => ({
  missing: `not installed from npm: ${names.join(', ')}. Type: ${INSTALL}`,
});

/** Node's own package. */
export function findNode(): Found {
  const version = versionOf(NODE_PACKAGE);
  return version === undefined ? missing([NODE_PACKAGE]) : { version: `Node ${version}` };
}

/** A rival that runs on the Node of the benchmark. */
export function findPackage(name: string): Found {
  const version = versionOf(name);
  return version === undefined
    ? missing([name])
    : { version: `${name} ${version}, Node ${process.versions.node}` };
}

/** A rival that runs on Node's package, together with others of its own. */
export function findOnNewerNode(name: string, ...others: string[]): Found {
  const needed = [name, ...others, NODE_PACKAGE];
  const absent = needed.filter((each) => versionOf(each) === undefined);
  if (absent.length > 0) return missing(absent);
  return { version: `${name} ${versionOf(name)}, Node ${versionOf(NODE_PACKAGE)}` };
}
