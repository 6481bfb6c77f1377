/** Files that are worth something until there is something newer. */
import { chmodSync, chownSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';

/**
 * Writes the file anew, or leaves it as it was: readers see the old content or the new one, and a full disk or a killed
 * writer costs neither. Mode and owner of a file that was there stay, and a symbolic link still leads to it.
 *
 * @throws {Error} of the system, when it cannot be written; what was written of it is gone then.
 */
export function replaceFile(file: string, text: string): void {
  const target = whereItIs(file);
  const draft = `${target}.${process.pid}.tmp`;
  try {
    // Flushed: some file systems notice only then that there is no room, and a crash must not leave an empty file.
    writeFileSync(draft, text, { flush: true });
    keepAttributes(target, draft);
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

function whereItIs(file: string): string {
  return statSync(file, { throwIfNoEntry: false }) ? realpathSync(file) : file;
}

function keepAttributes(from: string, to: string): void {
  const old = statSync(from, { throwIfNoEntry: false });
  if (!old) return;
  const made = statSync(to);
  if (made.uid !== old.uid || made.gid !== old.gid) chownSync(to, old.uid, old.gid);
  chmodSync(to, old.mode);
}
