import { existsSync, readFileSync } from 'node:fs';
import { announced, mustRun } from './exec.mjs';
import { at } from './project.mjs';

const readLock = (file) => JSON.parse(readFileSync(file, 'utf8')).packages;

/**
 * npm writes node_modules/.package-lock.json as the last thing of an installation: it is npm's own stamp, and one
 * that also honours an installation made by hand. The tree is right if it holds every package that the lock
 * file asks for, nothing of another version, and nothing that was made for another platform.
 */
function isFresh() {
  let installed;
  try {
    installed = readLock(at('node_modules', '.package-lock.json'));
  } catch {
    return false;
  }
  const wanted = Object.entries(readLock(at('package-lock.json'))).filter(([path]) => path !== '');
  const complete = wanted.every(([path, { version, integrity, optional, devOptional }]) => {
    const found = installed[path];
    // A package for another platform is in the lock file only.
    if (!found) return optional || devOptional;
    return found.version === version && found.integrity === integrity && existsSync(at(path, 'package.json'));
  });
  const fits = (allowed, value) => !allowed || allowed.includes(value);
  return (
    complete &&
    Object.values(installed).every(({ os, cpu }) => fits(os, process.platform) && fits(cpu, process.arch))
  );
}

async function run(held) {
  await announced('installing npm packages', async () => {
    // The environment may ask for a production install; compiling needs the development packages too. Scripts stay
    // off: the addon is built by the step after this one.
    const args = [
      'ci',
      '--ignore-scripts',
      '--include=dev',
      '--include=optional',
      '--no-audit',
      '--no-fund',
      '--prefer-offline',
    ];
    const npm = process.env.npm_execpath;
    const [command, ...first] = npm && /\.c?js$/.test(npm) ? [process.execPath, npm] : ['npm'];
    await mustRun('npm ci', command, [...first, ...args, '--loglevel=error'], {
      held,
      env: { ...process.env, npm_config_dry_run: 'false' },
      hint: 'Is the registry reachable (npm ping)? Is package-lock.json in step with package.json (npm install)?',
    });
  });
}

/** The step that fills node_modules. */
export const packagesStep = { isFresh, run };
