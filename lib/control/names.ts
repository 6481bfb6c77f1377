/** What a master may be called, and where its control socket is. */
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, isAbsolute, join } from 'node:path';
import { SpillwayError, systemError } from '../errors.js';
import { makeFolder } from './make-folder.js';

/** `sun_path` holds 108 bytes with the final zero (unix(7)). */
export const LONGEST_PATH = 107;

const LONGEST_NAME = 64;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;

export const NAME_RANGE = `1 to ${LONGEST_NAME} letters, digits, _ . and - (. and - not first)`;

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
  if (isFolder(ofUser)) return join(ofUser, 'spillway');
  return join(tmpdir(), `spillway-${uid}`);
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
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

/** The file whose lock stands for the name. */
export function lockPath(folder: string, name: string): string {
  assertName(name);
  return join(folder, `${name}.lock`);
}

/**
 * Makes the folder if it is missing, and makes sure that nobody else can put anything into it: not even its owner, where
 * root has kept the XDG_RUNTIME_DIR of another user.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL`
 */
export function claimFolder(folder: string): void {
  assertNotOfAnother(dirname(folder));
  try {
    makeFolder(folder, 0o700);
  } catch (error) {
    throw systemError(
      'ERR_SPILLWAY_CONTROL',
      `the folder for control sockets, ${folder}, cannot be made`,
      error,
      ELSEWHERE,
    );
  }
  const found = look(folder);
  if (found) assertSafe(folder, found, [ourUid()]);
}

/** Whoever owns the folder above could put another one in the place of ours, and root would write into that. */
function assertNotOfAnother(above: string): void {
  const found = look(above);
  if (!found || ourUid() !== 0 || found.uid === 0) return;
  throw new SpillwayError(
    'ERR_SPILLWAY_CONTROL',
    `the folder for control sockets would be in ${above}, which belongs to the user with id ${found.uid}, not to root`,
    { hint: 'Unset XDG_RUNTIME_DIR (su and sudo may have kept that of another user).' },
  );
}

/**
 * Whether there is such a folder, and it is safe to believe what is in it. Root may look into a user's folder, since it
 * may do so anyway.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL`
 */
export function isOurFolder(folder: string): boolean {
  const found = look(folder);
  if (!found) return false;
  const me = ourUid();
  assertSafe(folder, found, me === 0 ? [me, found.uid] : [me]);
  return true;
}

const ELSEWHERE = 'Let XDG_RUNTIME_DIR name a folder that belongs to you, or unset it.';

function ourUid(): number {
  return process.getuid?.() ?? 0;
}

/** A link is refused whoever made it: in a folder for temporary files anybody can. */
function assertSafe(folder: string, { mode, uid, isFolder }: Found, owners: readonly number[]): void {
  const wrong = !isFolder
    ? 'is not a folder (a link is not followed)'
    : !owners.includes(uid)
      ? `belongs to the user with id ${uid}, not to you (${ourUid()})`
      : (mode & 0o077) !== 0
        ? `can be entered by others (mode ${(mode & 0o777).toString(8)})`
        : undefined;
  if (wrong === undefined) return;
  const isMine = isFolder && uid === ourUid();
  throw new SpillwayError('ERR_SPILLWAY_CONTROL', `the folder for control sockets, ${folder}, ${wrong}`, {
    hint: isMine ? `Give it to yourself alone: chmod 700 ${folder}` : ELSEWHERE,
  });
}

interface Found {
  mode: number;
  uid: number;
  isFolder: boolean;
}

/** Undefined if there is none. */
function look(folder: string): Found | undefined {
  return lookedAt(folder, () => {
    const stat = lstatSync(folder);
    return { mode: stat.mode, uid: stat.uid, isFolder: stat.isDirectory() };
  });
}

/** Undefined if there is nothing at that path. */
function lookedAt<Result>(folder: string, act: () => Result): Result | undefined {
  try {
    return act();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw systemError(
      'ERR_SPILLWAY_CONTROL',
      `the folder for control sockets, ${folder}, cannot be looked at`,
      error,
      ELSEWHERE,
    );
  }
}

/**
 * The names that have a socket file, whether or not anybody is behind it.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL`
 */
export function namesIn(folder: string): string[] {
  if (!isOurFolder(folder)) return [];
  return (lookedAt(folder, () => readdirSync(folder)) ?? [])
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
    .filter(isName)
    .sort();
}
