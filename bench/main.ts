import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { SpillwayError } from '../lib/errors.js';
import { MAX_SLOTS } from '../lib/group/layout.js';
import { native, packageRoot } from '../lib/native.js';
import { benchDecision, type DecisionOptions } from './decision.js';
import { toMarkdown, toTerminal } from './report.js';
import { READ_BY, type ReadBy } from './stage.js';

const SOCKETS = [2, 4, 8, 16, 64, 256, 1024];
const QUICK_SOCKETS = [2, 16, 256];
const CONNECTION_SOCKETS = [4, 64];
const ROUNDS = 7;
const QUICK_ROUNDS = 2;

interface Flags {
  quick?: true;
  rounds?: number;
  sockets?: number[];
  readBy?: ReadBy;
  json?: string;
  save?: true;
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It takes an integer, ${least} to ${most}.`);
  };
}

function sizes(text: string): number[] {
  return text.split(',').map(wholeNumber(2, MAX_SLOTS));
}

async function decision({ quick, rounds, sockets, readBy, json, save }: Flags): Promise<void> {
  const options: DecisionOptions = {
    quick: quick ?? false,
    rounds: rounds ?? (quick ? QUICK_ROUNDS : ROUNDS),
    sockets: sockets ?? (quick ? QUICK_SOCKETS : SOCKETS),
    readBy: readBy ? [readBy] : READ_BY.filter((reads) => reads !== 'cast' || native().kernelHasCast()),
    connectionSockets: CONNECTION_SOCKETS,
  };
  const report = await benchDecision(options, showProgress);
  process.stdout.write(toTerminal(report));
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (json !== undefined) write(json, text);
  if (save) {
    const folder = join(packageRoot, 'bench', 'results');
    write(join(folder, 'decision.json'), text);
    write(join(folder, 'decision.md'), toMarkdown(report));
  }
}

function write(file: string, text: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true });
  writeFileSync(file, text);
}

function showProgress(done: number): void {
  if (!process.stderr.isTTY) return;
  const line = done < 1 ? `measuring: ${Math.floor(done * 100)} %` : '';
  process.stderr.write(`\r\x1b[K${line}`);
}

function explainAndFail(error: unknown): void {
  const text =
    error instanceof SpillwayError
      ? `${error.message} (${error.code})\n${error.hint}`
      : error instanceof Error
        ? error.stack
        : String(error);
  process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}bench: ${text}\n`);
  process.exitCode = 1;
}

const program = new Command('bench').description('Benchmarks of Spillway; each tells what it measures.');

program
  .command('decision')
  .description('what a decision of the selector costs, by group size, policy and state of the queues')
  .option('--quick', 'few sizes and rounds, to see that it works')
  .option('--rounds <n>', `how often everything is measured (default: ${ROUNDS})`, wholeNumber(1, 1000))
  .option('--sockets <list>', `group sizes (default: ${SOCKETS})`, sizes)
  .addOption(
    new Option('--read-by <how>', 'only one way of reading the listeners (default: both)').choices(READ_BY),
  )
  .option('--json <file>', 'write everything that was measured')
  .addOption(new Option('--save', 'write bench/results/decision.json and decision.md').conflicts('quick'))
  .action(decision);

await program.parseAsync().catch(explainAndFail);
