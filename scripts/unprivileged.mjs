import { spawnSync } from 'node:child_process';
import { chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, sep } from 'node:path';
import { root } from './project.mjs';

/** Nobody: no file of the checkout, no process and no capability belongs to this user. */
const UID = 65534;
const GID = 65534;

const SETPRIV = ['setpriv', `--reuid=${UID}`, `--regid=${GID}`, '--clear-groups', '--no-new-privs'];

/** What a copy of the checkout does not need: the history and what lies between sources and products. */
const LEFT_OUT = [
  '.git',
  'coverage',
  join('build', 'Release', 'obj'),
  join('build', 'Release', 'obj.target'),
];

/**
 * A place where another user can run the tests: `prefix` is put before a command, `cwd` and `node` are paths that
 * the user can reach, `env` keeps everything that is written inside `folder`, which `dispose()` removes.
 * Only root can make one.
 */
export function openUnprivileged() {
  // TMPDIR may lie in a folder that only root may enter.
  const folder = mkdtempSync(join(existsSync('/tmp') ? '/tmp' : tmpdir(), 'spillway-test-'));
  const dispose = () => rmSync(folder, { recursive: true, force: true });
  try {
    chownSync(folder, UID, GID);
    const [home, temporary] = ['home', 'tmp'].map((name) => {
      const path = join(folder, name);
      mkdirSync(path, { mode: 0o700 });
      chownSync(path, UID, GID);
      return path;
    });
    const place = {
      folder,
      dispose,
      prefix: SETPRIV,
      cwd: canRead(root) ? root : copyOfCheckout(join(folder, 'checkout')),
      node: canRun(process.execPath) ? process.execPath : copyOfNode(join(folder, 'node')),
      env: {
        ...process.env,
        HOME: home,
        TMPDIR: temporary,
        XDG_CACHE_HOME: join(home, '.cache'),
        XDG_RUNTIME_DIR: temporary,
        USER: 'nobody',
        LOGNAME: 'nobody',
      },
    };
    return place;
  } catch (error) {
    dispose();
    throw error;
  }
}

function asUser(command) {
  const [program, ...args] = [...SETPRIV, ...command];
  return spawnSync(program, args, { cwd: '/', encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

/** Whether the user can reach the checkout and read every file in it, git's own folder aside. */
function canRead(path) {
  const unreadable = ['(', '!', '-readable', '-o', '-type', 'd', '!', '-executable', ')', '-print', '-quit'];
  const git = ['-path', join(path, '.git'), '-prune', '-o'];
  const { status, stdout } = asUser(['find', path, ...git, ...unreadable]);
  return status === 0 && stdout === '';
}

function canRun(program) {
  return asUser([program, '--version']).status === 0;
}

/** A checkout below /root, or one made with a strict umask, is copied: that needs no further privilege. */
function copyOfCheckout(target) {
  const skipped = (path) => LEFT_OUT.some((name) => path === name || path.startsWith(name + sep));
  cpSync(root, target, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !skipped(relative(root, source)),
  });
  const { status } = spawnSync('chmod', ['-R', 'a+rX', target]);
  if (status !== 0) throw new Error(`${target} could not be made readable`);
  return target;
}

function copyOfNode(target) {
  cpSync(process.execPath, target);
  return target;
}
