/** `spillway reload`: new workers take over, without losing a connection. */
import type { Command } from 'commander';
import { type AskOptions, askCommand, say } from './ask.js';
import { aboutTime, counted } from './text.js';

export function reloadCommand(): Command {
  return askCommand('reload', 'put new workers in the place of the old ones, without losing a connection')
    .option('--together', 'all at once instead of one after another')
    .action(async (name: string | undefined, options: AskOptions & { together?: boolean }) => {
      const { Control } = await import('../control/client.js');
      const control = await Control.find(name);
      say(
        await control.reload({ together: options.together === true }),
        options,
        ({ workers, after, needRestart }) => {
          const done = `${control.name} is reloaded: ${counted(workers, 'new worker')} after ${aboutTime(after)}`;
          if (needRestart.length === 0) return done;
          return `${done}\nChanged in the config file, but it takes \`spillway stop\` and \`start\`: ${needRestart.join(', ')}`;
        },
      );
    });
}
