#!/usr/bin/env node
/** The command `spillway`: one file per verb beside this one. */
import { Command, CommanderError } from 'commander';
import { tellFailure, USAGE } from './failure.js';
import { VERBS } from './verbs.js';
import { version } from './version.js';

// Whoever reads may stop early (`| head`), or the terminal may be closed: that is no failure. A verb that has
// something to clean up listens as well.
for (const [name, stream] of Object.entries({ stdout: process.stdout, stderr: process.stderr })) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || error.code === 'EIO') return;
    if (name === 'stdout') process.stderr.write(`spillway: stdout cannot be written: ${error.message}\n`);
    process.exit(1);
  });
}

const program = new Command('spillway')
  .description(
    'Connections that meet a full accept queue go to a free sibling, decided in the kernel, at the SYN.',
  )
  .version(version(), '-V, --version', 'print the version')
  .helpCommand(false)
  .showHelpAfterError(
    '(`spillway --help` lists the commands, `spillway <command> --help` the options of one)',
  );

// Help and suggestions need all of them.
const [, , asked = ''] = process.argv;
const wanted = Object.hasOwn(VERBS, asked) ? [asked] : Object.keys(VERBS);
for (const name of wanted) {
  const verb = await (VERBS[name] as (typeof VERBS)[string])();
  program.addCommand(verb.copyInheritedSettings(program));
}
// Instead of ending the process, so that its exit code is decided here.
for (const each of [program, ...program.commands]) each.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  // Help and version that were asked for end with 0, everything else is a usage error.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  else process.exitCode = tellFailure(error, wantsJson());
}

function wantsJson(): boolean {
  return program.commands.find((each) => each.name() === asked)?.opts().json === true;
}
