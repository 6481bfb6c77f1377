/** `npm run bench -- decision`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { MAX_SLOTS } from '../../lib/group/layout.js';
import { native, packageRoot } from '../../lib/native.js';
import { listOf, wholeNumber } from '../arguments.js';
import { showProgress } from '../progress.js';
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

async function decision({ quick, rounds, sockets, readBy, json, save }: Flags): Promise<void> {
  const options: DecisionOptions = {
    quick: quick ?? false,
    rounds: rounds ?? (quick ? QUICK_ROUNDS : ROUNDS),
    sockets: sockets ?? (quick ? QUICK_SOCKETS : SOCKETS),
    readBy: readBy ? [readBy] : READ_BY.filter((reads) => reads !== 'cast' || native().kernelHasCast()),
    connectionSockets: CONNECTION_SOCKETS,
  };
  const report = await benchDecision(options, (done) => showProgress(done));
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

export function addDecision(program: Command): void {
  program
    .command('decision')
    .description('what a decision of the selector costs, by group size, policy and state of the queues')
    .option('--quick', 'few sizes and rounds, to see that it works')
    .option('--rounds <n>', `how often everything is measured (default: ${ROUNDS})`, wholeNumber(1, 1000))
    .option('--sockets <list>', `group sizes (default: ${SOCKETS})`, listOf(wholeNumber(2, MAX_SLOTS)))
    .addOption(
      new Option('--read-by <how>', 'only one way of reading the listeners (default: both)').choices(READ_BY),
    )
    .option('--json <file>', 'write everything that was measured')
    .addOption(new Option('--save', 'write bench/results/decision.json and decision.md').conflicts('quick'))
    .action(decision);
}
