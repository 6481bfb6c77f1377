/** The end of a process whose terminal may have gone. */
import { closeSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

/** The exit code of a shell's child that was ended by SIGINT. */
export const INTERRUPTED = 130;

const TERMINALS = [0, 1, 2].filter((fd) => isatty(fd));

/**
 * As process.exit(). Node gives every terminal that it was started with its former settings back as it ends, and aborts
 * where that fails (ResetStdio() in src/node.cc), as it does with EIO when the terminal has been closed; a descriptor
 * that has been opened anew it leaves alone.
 */
export function exit(code: number): never {
  for (const fd of TERMINALS) {
    if (isatty(fd)) continue;
    try {
      closeSync(fd);
      // The lowest free number: the same.
      openSync('/dev/null', 'r+');
    } catch {
      // Somebody has closed it: nothing to give back.
    }
  }
  process.exit(code);
}
