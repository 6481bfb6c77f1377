#!/usr/bin/env node
/** The command `spillway`: one file per verb beside this one. */
import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { SpillwayError } from '../errors.js';
import { demoCommand } from './demo.js';
import { doctorCommand } from './doctor.js';
import { hintHere } from './doctor-call.js';
import { version } from './version.js';

/** The command line makes no sense; what it was is on stderr already. */
const USAGE = 2;

// Whoever reads may stop early (`| head`), or the terminal may be closed: that is no failure. A verb that has
// something to clean up listens as well.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
});

const program = new Command('spillway')
  .description(
    'Connections that meet a full accept queue go to a free sibling, decided in the kernel, at the SYN.',
  )
  .version(version(), '-V, --version', 'print the version')
  .helpCommand(false)
  .showHelpAfterError(
    '(`spillway --help` lists the commands, `spillway <command> --help` the options of one)',
  );

for (const verb of [demoCommand(), doctorCommand()]) {
  program.addCommand(verb.copyInheritedSettings(program));
}
// Instead of ending the process, so that its exit code is decided here.
for (const each of [program, ...program.commands]) each.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Help and version that were asked for end with 0, everything else is a usage error.
    process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  } else if (error instanceof SpillwayError) {
    printError(error);
    process.exitCode = 1;
  } else {
    throw error;
  }
}

function printError({ message, hint, code }: SpillwayError): void {
  const colours = pc.createColors(process.stderr.isTTY === true && pc.isColorSupported);
  process.stderr.write(`${colours.red('spillway:')} ${message}\n${hintHere(hint)}\n${colours.dim(code)}\n`);
}
