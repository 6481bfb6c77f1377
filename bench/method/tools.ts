/** Programs of the system that the benchmark itself uses; those of the rivals are their drivers' business. */
import { spawnSync } from 'node:child_process';
import type { Found } from '../drivers/driver.js';
import { BenchError } from '../error.js';

/** What a variant may ask for; without it, the variant is missing, and everything else is measured. */
const TOOLS = {
  wrk: {
    args: ['--version'],
    version: /^wrk (\S+)/,
    install: 'apt-get install --no-install-recommends wrk',
  },
} as const;
export type Tool = keyof typeof TOOLS;

function findTool(name: Tool): Found {
  const { args, version, install } = TOOLS[name];
  const { stdout, error } = spawnSync(name, args, { encoding: 'utf8' });
  if (error) return { missing: `${name} is not installed. Type: ${install}` };
  return { version: `${name} ${stdout.match(version)?.[1] ?? '(unknown version)'}` };
}

/** Of every tool: looking for one starts it, which is not done while others are measured. */
export function findTools(): Map<Tool, Found> {
  return new Map((Object.keys(TOOLS) as Tool[]).map((name) => [name, findTool(name)]));
}

/** Without these no service can be started as it has to be. */
const NEEDED = ['taskset', 'setpriv'];

/** @throws {BenchError} that names what is not there. */
export function checkNeededTools(): void {
  const absent = NEEDED.filter((name) => spawnSync(name, ['--version']).error !== undefined);
  if (absent.length === 0) return;
  throw new BenchError(`needed and not found: ${absent.join(', ')}`, {
    hint: 'Install util-linux (apt-get install --no-install-recommends util-linux).',
  });
}
