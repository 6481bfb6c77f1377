import { pathToFileURL } from 'node:url';
import { explain, StepError, say } from './exec.mjs';
import { withLock } from './lock.mjs';
import { nativeStep } from './native.mjs';
import { missingPackages, providePackages } from './needs.mjs';
import { packagesStep } from './packages.mjs';
import { typescriptStep } from './typescript.mjs';

/** In this order: the addon and the compiler come out of node_modules. */
const STEPS = [packagesStep, nativeStep, typescriptStep];

/**
 * Does what is missing until the tree can run, or with `test` also be tested and linted. Work that is done is
 * recognised by its inputs and outputs and not repeated. Throws a StepError that says what to do.
 */
export async function setUp({ test = false } = {}) {
  checkPlatform();
  if (missingPackages(purposes(test)).length === 0 && STEPS.every((step) => step.isFresh())) return;

  await withLock(async (held) => {
    // Looked at again: the set-up we have waited for may have done it.
    await providePackages(purposes(test), held);
    for (const step of STEPS) {
      if (!step.isFresh()) await step.run(held);
    }
  });
}

/** What the build needs is of interest only if there is something to build. */
function purposes(test) {
  return [...(nativeStep.isFresh() ? [] : ['build']), ...(test ? ['test'] : [])];
}

function checkPlatform() {
  if (process.platform !== 'linux') {
    throw new StepError('the choice is made in the Linux kernel: Spillway runs on Linux only', {
      hint: 'Start it on a Linux machine, in a virtual machine or in a container.',
    });
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  // As "engines" in package.json says: from there on Node can require() ES modules, as a worker's preload does.
  const suffices = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;
  if (!suffices) {
    throw new StepError(`Node ${process.versions.node} does not do: Spillway needs 20.19, 22.12 or newer`, {
      hint: 'Install a newer Node (https://nodejs.org) and start again.',
    });
  }
}

/** As `setUp`, and ends this process with 1 and an explanation if that fails. */
export async function setUpOrExit(options) {
  try {
    await setUp(options);
  } catch (error) {
    explain(error);
    process.exit(1);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const test = process.argv.includes('--test');
  await setUpOrExit({ test });
  say(test ? 'ready to run and to test' : 'ready to run');
}
