/** `npm run bench -- [--scenario …] [--driver …]`: Spillway beside what people use today. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { packageRoot } from '../lib/native.js';
import { listOf, oneOf, wholeNumber } from './arguments.js';
import type { Driver } from './drivers/driver.js';
import { CORE, DRIVERS } from './drivers/index.js';
import { REUSEPORT } from './drivers/reuseport.js';
import { MINIMUM_ROUNDS } from './method/compare.js';
import { bindTo, enterOwnNetwork, shareProcessors } from './method/network.js';
import { runBenchmark, type Step } from './method/run.js';
import { isOurs, OURS } from './method/verdicts.js';
import { eraseProgress, showProgress } from './progress.js';
import { toHtml } from './report/html.js';
import { saveReport } from './report/results.js';
import { toTerminal } from './report/terminal.js';
import { SCENARIOS } from './scenarios/index.js';
import type { Scenario } from './scenarios/scenario.js';

const SEED = 1;

/** Several drivers by one name. */
const SETS = {
  all: DRIVERS,
  /** Spillway as it comes, and all others. */
  rivals: DRIVERS.filter(({ name }) => name === OURS || !isOurs(name)),
  core: CORE,
};
type SetName = keyof typeof SETS;

interface Flags {
  scenario?: Scenario[];
  driver?: (Driver | SetName)[];
  variant?: string[];
  rounds?: number;
  seed?: number;
  quick?: true;
  json?: string;
  html?: string;
  save?: true;
  list?: true;
}

async function compareRivals(flags: Flags): Promise<void> {
  if (flags.list) {
    await list();
    return;
  }
  const quick = flags.quick ?? false;
  const scenarios = flags.scenario ?? SCENARIOS.filter(({ core }) => core);
  const processors = shareProcessors();
  enterOwnNetwork();
  bindTo(processors.generator);
  const interrupted = abortedBySignals();
  const report = await runBenchmark(
    {
      scenarios,
      isWanted: (_, { id }) => flags.variant?.some((part) => id.includes(part)) ?? true,
      drivers: driversFrom(flags.driver ?? [quick ? 'core' : 'rivals']),
      reference: REUSEPORT,
      rounds: flags.rounds ?? (quick ? 1 : MINIMUM_ROUNDS),
      scale: quick ? 'quick' : 'full',
      seed: flags.seed ?? SEED,
      processors,
      signal: interrupted,
    },
    tell,
  );
  eraseProgress();
  const { stdout } = process;
  stdout.write(toTerminal(report, { color: stdout.isTTY ?? false, width: stdout.columns ?? 120 }));
  if (flags.json !== undefined) write(flags.json, `${JSON.stringify(report)}\n`);
  const html = flags.html ?? join(packageRoot, 'build', 'bench.html');
  write(html, toHtml([report]));
  stdout.write(`\nreport: ${html}\n`);
  if (!flags.save) return;
  const kept = saveReport(report, join(packageRoot, 'bench', 'results'), {
    readme: join(packageRoot, 'README.md'),
    renewal: 'npm run bench -- --save',
    order: SCENARIOS.map(({ name }) => name),
  });
  stdout.write(`kept: ${kept.map((file) => relative(packageRoot, file)).join(', ')}\n`);
}

function driversFrom(names: readonly (Driver | SetName)[]): Driver[] {
  const wanted = names.flatMap((name) => (typeof name === 'string' ? SETS[name] : [name]));
  // In the order of the reports, each once.
  return DRIVERS.filter((driver) => wanted.includes(driver));
}

function tell({ scenario, variant, driver, round, done }: Step): void {
  showProgress(done, `${scenario} ${variant}, round ${round + 1}${driver && `, ${driver}`}`);
}

/** The first SIGINT or SIGTERM ends what runs and lets it clean up behind itself. */
function abortedBySignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Error(`ended by ${name}`)));
  }
  return controller.signal;
}

async function list(): Promise<void> {
  const lines = ['Scenarios (--scenario) and their variants (--variant):', ''];
  for (const { name, title, core, variants } of SCENARIOS) {
    lines.push(`  ${name.padEnd(14)}${title}${core ? '' : ' (only when asked for)'}`);
    lines.push(
      `${' '.repeat(16)}${variants('full')
        .map(({ id }) => id)
        .join(', ')}`,
    );
  }
  lines.push('', 'Drivers (--driver):', '');
  for (const driver of DRIVERS) {
    const found = await driver.find();
    lines.push(
      `  ${driver.name.padEnd(24)}${'version' in found ? found.version : `missing: ${found.missing}`}`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}

function write(file: string, text: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true });
  writeFileSync(file, text);
}

function driverOrSet(text: string): Driver | SetName {
  return text in SETS ? (text as SetName) : oneOf(DRIVERS)(text);
}

export function addComparison(program: Command): void {
  program
    .option('--scenario <list>', 'which scenarios (default: all core scenarios)', listOf(oneOf(SCENARIOS)))
    .option('--variant <list>', 'only variants whose names contain one of these', listOf(String))
    .option(
      '--driver <list>',
      'which drivers; all, rivals, core (default: rivals, with --quick core)',
      listOf(driverOrSet),
    )
    .option(
      '--rounds <n>',
      `how often everybody has a turn (default: ${MINIMUM_ROUNDS}, with --quick 1); no verdict below ${MINIMUM_ROUNDS}`,
      wholeNumber(1, 1000),
    )
    .option('--seed <n>', `of the arrivals (default: ${SEED})`, wholeNumber(0, 2 ** 31))
    .option('--quick', 'short loads and few variants, to see that it works')
    .option('--json <file>', 'write everything that was measured')
    .option('--html <file>', 'where the report to look at is written (default: build/bench.html)')
    .option('--list', 'what there is, and what of it is installed')
    .addOption(
      new Option('--save', 'keep the results in bench/results and renew the table in README.md').conflicts(
        'quick',
      ),
    )
    .action(compareRivals);
}
