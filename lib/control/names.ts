/** What a master may be called, and where its control socket is. */
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, extname, isAbsolute, join } from 'node:path';
import { SpillwayError, systemError } from '../errors.js';
import { makeFolder } from './make-folder.js';

/** `sun_path` holds 108 bytes with the final zero (unix(7)). */
const LONGEST_PATH = 107;

const LONGEST_NAME = 64;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;

export const NAME_RANGE = `1 to ${LONGEST_NAME} letters, digits, and . _ - (the last two not first)`;

const SUFFIX = '.sock';

export function isName(name: string): boolean {
  return name.length <= LONGEST_NAME && NAME.test(name);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` */
export function assertName(name: string): void {
  if (isName(name)) return;
  throw new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', `name cannot be '${name}'; it takes: ${NAME_RANGE}`, {
    hint: 'The name becomes part of file names. Choose another one with --name.',
  });
}

/** The name of a service that was given none: its program's, without extension, with `-` for what a name cannot have. */
export function nameOfProgram(path: string): string {
  const bare = basename(path, extname(path))
    .replace(/[^A-Za-z0-9_.-]/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, LONGEST_NAME);
  return bare === '' ? 'app' : bare;
}

/**
 * The folder of this user's control sockets: below XDG_RUNTIME_DIR; without it the system's runtime folder for this
 * user; else one in the folder for temporary files.
 */
export function runtimeFolder(env: NodeJS.ProcessEnv = process.env, uid = process.getuid?.() ?? 0): string {
  const { XDG_RUNTIME_DIR: given } = env;
  // The XDG specification: a relative path is to be ignored.
  if (given && isAbsolute(given)) return join(given, 'spillway');
  if (uid === 0) return '/run/spillway';
  const ofUser = `/run/user/${uid}`;
  if (statSync(ofUser, { throwIfNoEntry: false })?.isDirectory()) return join(ofUser, 'spillway');
  return join(tmpdir(), `spillway-${uid}`);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` when the kernel takes no path that long. */
export function socketPath(folder: string, name: string): string {
  assertName(name);
  const path = join(folder, name + SUFFIX);
  const length = Buffer.byteLength(path);
  if (length <= LONGEST_PATH) return path;
  throw new SpillwayError(
    'ERR_SPILLWAY_OPTION_RANGE',
    `name cannot be '${name}': the path of the control socket, ${path}, has ${length} bytes, and the kernel takes ${LONGEST_PATH}`,
    { hint: 'Choose a shorter name with --name, or a shorter folder in XDG_RUNTIME_DIR.' },
  );
}

/**
 * Makes the folder if it is missing, and makes sure that nobody else can put anything into it.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL`
 */
export function claimFolder(folder: string): void {
  try {
    makeFolder(folder, 0o700);
  } catch (error) {
    throw systemError(
      'ERR_SPILLWAY_CONTROL',
      `the folder for control sockets, ${folder}, cannot be made`,
      error,
      'Let XDG_RUNTIME_DIR name a folder that belongs to you.',
    );
  }
  assertOurs(folder);
}

/** Whether there is such a folder, and it is safe to believe what is in it. */
export function isOurFolder(folder: string): boolean {
  if (!lstatSync(folder, { throwIfNoEntry: false })) return false;
  assertOurs(folder);
  return true;
}

/**
 * A link is refused whoever made it: in a folder for temporary files anybody can. Root may look into a user's folder,
 * since it may do so anyway.
 */
function assertOurs(folder: string): void {
  const { mode, uid, isFolder } = look(folder);
  const me = process.getuid?.() ?? 0;
  const wrong = !isFolder
    ? 'is not a folder (a link is not followed)'
    : uid !== me && me !== 0
      ? `belongs to the user with id ${uid}, not to you (${me})`
      : (mode & 0o077) !== 0
        ? `can be entered by others (mode ${(mode & 0o777).toString(8)})`
        : undefined;
  if (wrong === undefined) return;
  throw new SpillwayError('ERR_SPILLWAY_CONTROL', `the folder for control sockets, ${folder}, ${wrong}`, {
    hint: `Remove it or give it to yourself alone (chmod 700 ${folder}), or set XDG_RUNTIME_DIR.`,
  });
}

function look(folder: string): { mode: number; uid: number; isFolder: boolean } {
  try {
    const stat = lstatSync(folder);
    return { mode: stat.mode, uid: stat.uid, isFolder: stat.isDirectory() };
  } catch (error) {
    throw systemError('ERR_SPILLWAY_CONTROL', `the folder for control sockets, ${folder}`, error);
  }
}

/** The names that have a socket file, whether or not anybody is behind it. */
export function namesIn(folder: string): string[] {
  if (!isOurFolder(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
    .filter(isName)
    .sort();
}
