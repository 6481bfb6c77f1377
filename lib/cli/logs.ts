/** `spillway logs`: what the workers have written last, and what they write from now on. */
import { type Command, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import { LINES, type LinesDropped, MOST_LINES, type OutputLine } from '../control/protocol.js';
import { MAX_SLOTS } from '../group/layout.js';
import { type AskOptions, askCommand } from './ask.js';

interface LogsOptions extends AskOptions {
  follow?: boolean;
  lines: number;
  worker?: number;
}

export function logsCommand(): Command {
  return askCommand('logs', 'show what the workers have written (the last 1000 lines are kept)')
    .option('-f, --follow', 'go on with what they write from now on, until Ctrl-C or the end of the service')
    .option('-n, --lines <number>', 'how many lines of before', (text) => whole(text, MOST_LINES), LINES)
    .option('--worker <slot>', 'of this worker alone', (text) => whole(text, MAX_SLOTS - 1))
    .action(async (name: string | undefined, { follow, lines, worker, json }: LogsOptions) => {
      const { Control } = await import('../control/client.js');
      const control = await Control.find(name);
      const ending = new AbortController();
      process.stdout.on('error', () => ending.abort());
      const colours = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
      const paint = (line: OutputLine) => {
        const prefix = `${line.slot} |`;
        return `${line.stream === 'stderr' ? colours.red(prefix) : colours.cyan(prefix)} ${line.text}`;
      };
      const text = (what: OutputLine | LinesDropped) =>
        'dropped' in what
          ? `spillway: ${what.dropped} lines are missing here: they came faster than they were read`
          : paint(what);
      await control.logs(
        { lines, slot: worker, follow: follow === true },
        (what) => process.stdout.write(`${json ? JSON.stringify(what) : text(what)}\n`),
        ending.signal,
      );
    });
}

function whole(text: string, most: number): number {
  if (/^\d{1,9}$/.test(text) && Number(text) <= most) return Number(text);
  throw new InvalidArgumentError(`It takes a whole number from 0 to ${most}.`);
}
