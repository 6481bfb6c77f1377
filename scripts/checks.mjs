import { pathToFileURL } from 'node:url';
import { capture } from './exec.mjs';
import { at, filesBelow } from './project.mjs';
import { setUpOrExit } from './setup.mjs';
import { findTool } from './toolchain.mjs';

const BIOME = [process.execPath, at('node_modules', '@biomejs', 'biome', 'bin', 'biome')];
// The output is collected first, so the programs cannot see for themselves whether it goes to a terminal.
const colours = process.stdout.isTTY === true;
const BIOME_COLOURS = `--colors=${colours ? 'force' : 'off'}`;
const isNative = (file) => /\.(h|c|cc)$/.test(file);

/** What is held against the sources without running them; `fix` is the command that repairs, where there is one. */
const CHECKS = [
  {
    name: 'type check',
    check: () => [
      ...[process.execPath, at('node_modules', 'typescript', 'bin', 'tsc')],
      ...['-p', 'tsconfig.test.json', '--pretty', String(colours)],
    ],
  },
  {
    name: 'biome',
    check: () => [...BIOME, 'ci', BIOME_COLOURS, '.'],
    fix: () => [...BIOME, 'check', '--write', BIOME_COLOURS, '.'],
  },
  {
    name: 'clang-format',
    check: () => [findTool('clang-format'), '--dry-run', '-Werror', ...nativeFiles()],
    fix: () => [findTool('clang-format'), '-i', ...nativeFiles()],
  },
];

function nativeFiles() {
  const files = filesBelow(['native', 'bench/native', 'test'], isNative);
  // Without a file clang-format would wait for stdin, or pass without having looked at anything.
  if (files.length === 0) throw new Error('found no C++ or BPF file to look at');
  return files;
}

/** Runs all checks and returns `[{ name, passed, seconds, output }]`; none keeps another from running. */
export function runChecks() {
  return Promise.all(
    CHECKS.map(async ({ name, check }) => {
      const start = performance.now();
      const { status, output } = await outcome(check);
      return { name, passed: status === 0, seconds: (performance.now() - start) / 1000, output };
    }),
  );
}

async function outcome(command) {
  try {
    const [program, ...args] = command();
    return await capture(program, args);
  } catch (error) {
    return { status: 1, output: `${error.message}\n` };
  }
}

/** Prints one line per check, and what a failed one had to say. */
export function printChecks(results) {
  for (const { name, passed, seconds, output } of results) {
    process.stdout.write(`${passed ? '✓' : '✗'} ${name} (${seconds.toFixed(1)} s)\n`);
    if (!passed) process.stdout.write(output);
  }
}

async function fixAll() {
  for (const { name, fix } of CHECKS.filter((each) => each.fix)) {
    const { status, output } = await outcome(fix);
    process.stdout.write(`${status === 0 ? '✓' : '✗'} ${name}\n${status === 0 ? '' : output}`);
    if (status !== 0) process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await setUpOrExit({ test: true });
  if (process.argv.includes('--fix')) {
    await fixAll();
  } else {
    const results = await runChecks();
    printChecks(results);
    if (results.some(({ passed }) => !passed)) process.exitCode = 1;
  }
}
