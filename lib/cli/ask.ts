/** What the commands that talk to a running master share. */
import { Command } from 'commander';

export interface AskOptions {
  json?: boolean;
}

/** A command with an optional name of a master, and `--json`. */
export function askCommand(verb: string, description: string): Command {
  return new Command(verb)
    .description(description)
    .argument('[name]', 'of the service; needed only when several run')
    .option('--json', 'print one JSON object instead (docs/cli.md)');
}

/** Prints what a master has answered: as one JSON object, or as a sentence. */
export function say<Result>(
  result: Result,
  { json }: AskOptions,
  sentence: (result: Result) => string,
): void {
  process.stdout.write(`${json ? JSON.stringify(result, null, 2) : sentence(result)}\n`);
}
