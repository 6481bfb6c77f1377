/** The command line of the benchmarks: `npm run bench -- …`. */
import { Command } from 'commander';
import { SpillwayError } from '../lib/errors.js';
import { addComparison } from './command.js';
import { addDecision } from './decision/command.js';
import { eraseProgress } from './progress.js';

function explainAndFail(error: unknown): void {
  const text =
    error instanceof SpillwayError
      ? `${error.message} (${error.code})\n${error.hint}`
      : error instanceof Error
        ? error.stack
        : String(error);
  eraseProgress();
  process.stderr.write(`bench: ${text}\n`);
  process.exitCode = 1;
}

const program = new Command('bench').description(
  'Spillway beside what people use today, measured in one run; bench/README.md says how.',
);
addComparison(program);
addDecision(program);
await program.parseAsync().catch(explainAndFail);
