import { existsSync } from 'node:fs';
import { explain, say } from './exec.mjs';
import { withLock } from './lock.mjs';
import { nativeStep } from './native.mjs';
import { missingError, missingPackages } from './needs.mjs';
import { at } from './project.mjs';

/**
 * npm's `install` script, for those who have Spillway as a dependency: builds the addon. It installs no system
 * package: adding a dependency gives no right to do that.
 */
async function install() {
  // Only a checkout has this file ("files" in package.json leaves it out), and there set-up does all of this.
  if (existsSync(at('tsconfig.json'))) return;
  if (process.platform !== 'linux') {
    say('Spillway needs Linux: the package is installed, but will not run on this system');
    return;
  }
  const missing = missingPackages(['build']);
  if (missing.length > 0) throw missingError(missing);
  await withLock(async (held) => {
    if (!nativeStep.isFresh()) await nativeStep.run(held);
  });
}

try {
  await install();
} catch (error) {
  explain(error);
  process.exitCode = 1;
}
