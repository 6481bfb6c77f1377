/** `npm run bench -- [--scenario …] [--driver …]`: Spillway beside what people use today. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { packageRoot } from '../lib/native.js';
import { listOf, oneOf, wholeNumber } from './arguments.js';
import { type Driver, toldOf } from './drivers/driver.js';
import { CORE, DRIVERS } from './drivers/index.js';
import { REUSEPORT } from './drivers/reuseport.js';
import { BenchError, USAGE } from './error.js';
import { beAlone } from './method/alone.js';
import { MINIMUM_ROUNDS } from './method/compare.js';
import { bindTo, enterOwnNetwork, shareProcessors } from './method/network.js';
import { runBenchmark, type Step } from './method/run.js';
import { checkNeededTools, findTools } from './method/tools.js';
import { isOurs, OURS } from './method/verdicts.js';
import { type OutputFiles, Outputs } from './outputs.js';
import { eraseProgress, showProgress } from './progress.js';
import type { Report } from './report/schema.js';
import { toTerminal } from './report/terminal.js';
import { SCENARIOS } from './scenarios/index.js';
import type { Scale, Scenario } from './scenarios/scenario.js';

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
  const rounds = flags.rounds ?? (quick ? 1 : MINIMUM_ROUNDS);
  const drivers = driversFrom(flags.driver ?? [quick ? 'core' : 'rivals']);
  const scenarios = unique(flags.scenario ?? SCENARIOS.filter(({ core }) => core));
  const scale = quick ? 'quick' : 'full';
  checkVariants(flags.variant ?? [], scenarios, scale);
  if (flags.save) checkWorthKeeping(flags, rounds, drivers);
  checkNeededTools();
  const html = flags.html ?? join(packageRoot, 'build', 'bench.html');
  const outputs = openOutputs({ json: flags.json, html, save: flags.save ?? false });
  const leave = beAlone();
  const processors = shareProcessors();
  enterOwnNetwork();
  bindTo(processors.generator);
  const signal = abortedBySignals();
  let failures: string[] = [];
  let soFar: Report | undefined;
  try {
    await runBenchmark(
      {
        scenarios,
        isWanted: (id) => flags.variant?.some((part) => id.includes(part)) ?? true,
        drivers,
        closer: flags.driver ? drivers : CORE,
        reference: REUSEPORT,
        rounds,
        scale,
        seed: flags.seed ?? SEED,
        processors,
        signal,
      },
      tell,
      (report) => {
        soFar = report;
        failures = outputs.write(report);
      },
    );
  } finally {
    leave();
    eraseProgress();
    if (soFar) show(soFar, html, [...outputs.kept]);
  }
  if (failures.length > 0) {
    throw new BenchError(`not everything could be written: ${failures.join('; ')}`, {
      hint: 'What was measured is above; give --json and --html other places.',
    });
  }
  const results =
    soFar?.scenarios.flatMap(({ variants }) => variants.flatMap((variant) => variant.drivers)) ?? [];
  if (results.every(({ absent }) => absent?.why === 'failed')) {
    throw new BenchError('nothing could be measured', { hint: 'The reasons are above.' });
  }
}

function show(report: Report, html: string, kept: readonly string[]): void {
  const { stdout } = process;
  stdout.write(toTerminal(report, { color: stdout.isTTY ?? false, width: stdout.columns ?? 120 }));
  stdout.write(`\nreport: ${html}\n`);
  if (kept.length > 0) stdout.write(`kept: ${kept.join(', ')}\n`);
}

function openOutputs(files: OutputFiles): Outputs {
  try {
    return new Outputs(files);
  } catch (error) {
    throw new BenchError((error as Error).message, {
      hint: 'Nothing was measured yet. Give --json and --html places that can be written.',
      exitCode: USAGE,
    });
  }
}

/** A name that is part of no variant's is a mistake, and would make a report that looks complete. */
function checkVariants(wanted: readonly string[], scenarios: readonly Scenario[], scale: Scale): void {
  const ids = scenarios.flatMap(({ variants }) => variants(scale).map(({ id }) => id));
  const unknown = wanted.filter((part) => !ids.some((id) => id.includes(part)));
  if (unknown.length === 0) return;
  throw new BenchError(`no variant of the scenarios is called ${unknown.join(' or ')}`, {
    hint: `There are${scale === 'quick' ? ' with --quick' : ''}: ${unique(ids).join(', ')}.`,
    exitCode: USAGE,
  });
}

/** Kept results are whole scenarios with a verdict, beside those that every Node user has at hand. */
function checkWorthKeeping({ variant }: Flags, rounds: number, drivers: readonly Driver[]): void {
  const absent = CORE.filter((driver) => !drivers.includes(driver)).map(({ name }) => name);
  const why =
    variant !== undefined
      ? 'some of the variants'
      : rounds < MINIMUM_ROUNDS
        ? `${rounds} rounds`
        : absent.length > 0
          ? `a run without ${absent.join(', ')}`
          : null;
  if (why === null) return;
  throw new BenchError(`--save: ${why} would replace whole results`, {
    hint: `Leave --variant away, take ${MINIMUM_ROUNDS} rounds or more and the core drivers; --json keeps anything.`,
    exitCode: USAGE,
  });
}

function unique<T>(list: readonly T[]): T[] {
  return [...new Set(list)];
}

function driversFrom(names: readonly (Driver | SetName)[]): Driver[] {
  const wanted = names.flatMap((name) => (typeof name === 'string' ? SETS[name] : [name]));
  // In the order of the reports, each once.
  return DRIVERS.filter((driver) => wanted.includes(driver));
}

function tell({ scenario, variant, driver, round, done }: Step): void {
  showProgress(done, `${scenario} ${variant}, round ${round + 1}${driver && `, ${driver}`}`);
}

/**
 * A signal ends what runs and lets it clean up behind itself. More of them change nothing: the end is under way, and is
 * bounded.
 */
function abortedBySignals(): AbortSignal {
  const controller = new AbortController();
  for (const [name, exitCode] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      const hint = 'What is above was finished before.';
      controller.abort(new BenchError(`ended by ${name}`, { hint, exitCode }));
    });
  }
  return controller.signal;
}

/** With the exit codes that shells give. */
const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

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
  lines.push('', 'Drivers (--driver), and what else is used:', '');
  const drivers = await Promise.all(
    DRIVERS.map(async (driver) => [driver.name, await driver.find()] as const),
  );
  for (const [name, found] of [...drivers, ...findTools()]) {
    const { version, missing } = toldOf(found);
    lines.push(`  ${name.padEnd(24)}${version ?? `missing: ${missing}`}`);
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}

function driverOrSet(text: string): Driver | SetName {
  return Object.hasOwn(SETS, text) ? (text as SetName) : oneOf(DRIVERS)(text);
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
