/** `spillway demo`: four workers, one of them slow, and the kernel moving connections to the others. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { OPTIONS, SELECTORS } from '../group/options.js';
import { type DemoOptions, runDemo } from './demo/run.js';

export type { LoadCounts } from './demo/load-protocol.js';
export type { DemoResult } from './demo/snapshot.js';

/** Small, so that one sees it fill. */
const BACKLOG = 16;

const MOST_WORKERS = 64;

/** What commander gives: a flag that is not there is undefined. */
type Given = Omit<DemoOptions, 'flood' | 'json' | 'rescue'> & {
  flood?: boolean;
  json?: boolean;
  rescue?: boolean;
};

export function demoCommand(): Command {
  return new Command('demo')
    .description('serve a page with several workers and watch the kernel redirect from a full one')
    .option('-p, --port <port>', 'port; the next free one if it is taken, 0 for any', integer(0, 65535), 8080)
    .option('--host <host>', 'address or name to listen on (default: all addresses)')
    .option('-w, --workers <number>', `number of workers, 1 to ${MOST_WORKERS}`, integer(1, MOST_WORKERS), 4)
    .option('--flood', 'make one worker slow and send load from the start')
    .option('--seconds <number>', 'end after so many seconds (default: never)', integer(1, 86_400))
    .option('--json', 'print nothing but one JSON object at the end (docs/cli.md)')
    .addOption(
      new Option('--selector <name>', 'who chooses the worker')
        .choices(['auto', ...SELECTORS])
        .default('auto'),
    )
    .option('--backlog <number>', "limit of a worker's accept queue", integer(1, 65535), BACKLOG)
    .addOption(
      new Option('--policy <name>', 'the first choice')
        .choices(OPTIONS.policy.schema.options)
        .default('hash'),
    )
    .option('--rescue', 'let workers that are free take what waits at the slow one')
    .addHelpText(
      'after',
      '\nKeys: f turns the flood on and off, s makes another worker the slow one, q or Ctrl-C quits.',
    )
    .action((options: Given) =>
      runDemo({
        ...options,
        // As in a script whose variable is empty.
        host: options.host || undefined,
        flood: options.flood === true,
        json: options.json === true,
        rescue: options.rescue === true,
      }),
    );
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (text.trim() !== '' && Number.isInteger(number) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It takes a whole number from ${least} to ${most}.`);
  };
}
