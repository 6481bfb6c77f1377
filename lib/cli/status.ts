/** `spillway status`: how a service is. Changes nothing. */
import type { Command } from 'commander';
import { type AskOptions, askCommand } from './ask.js';

export function statusCommand(): Command {
  return askCommand('status', 'show how a service and its workers are')
    .addHelpText('after', '\nExit code: 0 if it runs, otherwise 1.')
    .action(async (name: string | undefined, { json }: AskOptions) => {
      const { Control } = await import('../control/client.js');
      const status = await (await Control.find(name)).status();
      if (json) {
        process.stdout.write(`${JSON.stringify(status, null, 2)}\n`);
        return;
      }
      const [{ printStatus }, { columnsOf }, { default: pc }] = await Promise.all([
        import('./status/print.js'),
        import('./text.js'),
        import('picocolors'),
      ]);
      const colours = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
      process.stdout.write(printStatus(status, columnsOf(process.stdout), colours));
    });
}
