/** `spillway scale`: more workers, or fewer. */
import { Command } from 'commander';
import type { ScaleTo } from '../control/protocol.js';
import { type AskOptions, say } from './ask.js';

export function scaleCommand(): Command {
  return new Command('scale')
    .description('run more workers, or fewer')
    .usage('[options] [name] <workers>')
    .argument('<words...>', 'name of the service, needed only when several run; and how many: 8, +2, -1')
    .option('--json', 'print one JSON object instead (docs/cli.md)')
    .action(async (words: string[], options: AskOptions, command: Command) => {
      if (words.length > 2) command.error(`error: too many arguments: ${words.slice(2).join(' ')}`);
      // What a name may be, a number may be too: the last word is the number.
      const [workers = '', name] = words.toReversed();
      const to = numberOf(workers, command);
      const { Control } = await import('../control/client.js');
      const control = await Control.find(name);
      say(
        await control.scale(to),
        options,
        (result) => `${control.name} is scaled from ${result.from} to ${result.to} workers`,
      );
    });
}

function numberOf(text: string, command: Command): ScaleTo {
  if (/^[+-]\d+$/.test(text)) return { by: Number(text) };
  if (/^\d+$/.test(text)) return { workers: Number(text) };
  return command.error(`error: '${text}' is no number of workers: 8, +2, -1`);
}
