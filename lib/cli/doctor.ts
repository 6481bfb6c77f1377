/** `spillway doctor`: what this machine gives to Spillway, and how to get what is missing. Changes nothing. */
import { Command } from 'commander';
import pc from 'picocolors';
import { readMachine, trySelectors } from '../group/probe.js';
import { judge } from './doctor/judge.js';
import { printReport } from './doctor/print.js';
import { columnsOf } from './text.js';
import { version } from './version.js';

export type { Grant } from './doctor/grant.js';
export type { Check, CheckState, DoctorReport } from './doctor/judge.js';

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('tell what works on this machine, what does not, and how to change that')
    .option('--json', 'print one JSON object instead (docs/cli.md)')
    .addHelpText('after', '\nExit code: 0 if some selector works, otherwise 1.')
    .action(async ({ json }: { json?: boolean }) => {
      const machine = readMachine();
      const command = [machine.node.path, process.argv[1] ?? 'spillway'];
      const report = judge(version(), machine, await trySelectors(), command);
      const colours = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
      process.stdout.write(
        json
          ? `${JSON.stringify(report, null, 2)}\n`
          : printReport(report, columnsOf(process.stdout), colours),
      );
      process.exitCode = report.works ? 0 : 1;
    });
}
