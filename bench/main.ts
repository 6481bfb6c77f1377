/** The command line of the benchmarks: `npm run bench -- …`. */
import { Command } from 'commander';
import { SpillwayError } from '../lib/errors.js';
import { addComparison } from './command.js';
import { addDecision } from './decision/command.js';
import { BenchError } from './error.js';
import { eraseProgress } from './progress.js';

function explainAndFail(error: unknown): void {
  eraseProgress();
  process.stderr.write(`bench: ${wordsFor(error)}\n`);
  process.exitCode = error instanceof BenchError ? error.exitCode : 1;
}

function wordsFor(error: unknown): string | undefined {
  if (error instanceof SpillwayError) return `${error.message} (${error.code})\n${error.hint}`;
  if (error instanceof BenchError) return `${error.message}\n${error.hint}`;
  return error instanceof Error ? error.stack : String(error);
}

const program = new Command('bench').description(
  'Spillway beside what people use today, measured in one run; bench/README.md says how.',
);
// The options before the name of a subcommand are the comparison's, those behind it the subcommand's.
program.enablePositionalOptions();
addComparison(program);
addDecision(program);
await program.parseAsync().catch(explainAndFail);
