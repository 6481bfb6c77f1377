/** `spillway restart`: all workers end, then new ones start. */
import type { Command } from 'commander';
import { type AskOptions, askCommand, say } from './ask.js';
import { aboutTime, counted } from './text.js';

export function restartCommand(): Command {
  return askCommand('restart', 'end all workers, then start new ones; who connects meanwhile waits').action(
    async (name: string | undefined, options: AskOptions) => {
      const { Control } = await import('../control/client.js');
      const control = await Control.find(name);
      say(
        await control.restart(),
        options,
        ({ workers, after }) =>
          `${control.name} is restarted: ${counted(workers, 'worker')} after ${aboutTime(after)}`,
      );
    },
  );
}
