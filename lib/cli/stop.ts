/** `spillway stop`: the master and its workers end gracefully. */
import type { Command } from 'commander';
import { type AskOptions, askCommand, say } from './ask.js';
import { aboutTime } from './text.js';

export function stopCommand(): Command {
  return askCommand('stop', 'end the service gracefully; returns when its process has gone').action(
    async (name: string | undefined, options: AskOptions) => {
      const { Control } = await import('../control/client.js');
      const control = await Control.find(name);
      say(
        await control.stop(),
        options,
        ({ pid, after }) => `${control.name} has ended: process ${pid}, after ${aboutTime(after)}`,
      );
    },
  );
}
