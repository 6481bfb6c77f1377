/** What a master is asked for: its own options, checked, and apart from those of its socket group. */
import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { delimiter, resolve } from 'node:path';
import type { Stream } from 'node:stream';
import { inspect } from 'node:util';
import { z } from 'zod';
import { SpillwayError } from '../errors.js';
import { hasCapability } from '../group/capability.js';
import type { OpenOptions } from '../group/group.js';
import { MAX_SLOTS } from '../group/layout.js';

/** Where one of a worker's standard streams goes, as in `child_process.spawn()`. */
export type Output = 'inherit' | 'pipe' | 'ignore' | number | Stream;

/**
 * Options of {@link Master.start}. Those of the socket group (`host`, `port`, `backlog`, `policy`, …) are given beside
 * them. One of `script` and `command` is required.
 */
export interface MasterOptions extends Omit<OpenOptions, 'sockets' | 'onConnection'> {
  /** A Node program that listens by `server.listen()` on the group's port; it needs no change. Relative to `cwd`. */
  script?: string;
  /** Any other program, by path or by name in PATH. It takes its listener from descriptor 3 (`LISTEN_FDS`). */
  command?: string;
  /** Arguments of the program. Default: none. */
  args?: readonly string[];
  /** Number of workers, 1 to 1024. Default: the CPUs that this process may use. */
  workers?: number;
  /** Variables added to this process's environment; `undefined` takes one away. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Working directory of the workers. Default: this process's. */
  cwd?: string;
  /** Options of Node for `script`, such as `--max-old-space-size=512`. Default: none. */
  execArgv?: readonly string[];
  /** Where the workers' output goes, or a list of stdin, stdout and stderr. stdin is `ignore`. Default: `inherit`. */
  stdio?: 'inherit' | 'pipe' | 'ignore' | readonly [Output, Output, Output];
  /**
   * Numeric user and group the workers run as; `uid` needs `gid`. Need CAP_SETUID and CAP_SETGID, and CAP_KILL where the
   * user is not the master's own: without it neither close() nor the kernel could end the workers.
   */
  uid?: number;
  gid?: number;
  /** Supplementary groups besides `gid`. Default: none. */
  groups?: readonly number[];
  /** Milliseconds until every worker must listen. Default: 30000. */
  startTimeout?: number;
}

/** The master's options with everything filled in, except what only some workers have. */
export interface Plan {
  program: Program;
  workers: number;
  cwd: string;
  env: NodeJS.ProcessEnv;
  stdio: readonly [Output, Output, Output];
  identity: { uid?: number | undefined; gid?: number | undefined; groups: readonly number[] };
  startTimeout: number;
  group: OpenOptions;
}

export interface Program {
  /** A Node program gets the preload and an IPC channel. */
  kind: 'node' | 'command';
  /** The resolved script, or the command as it was given. */
  file: string;
  args: readonly string[];
  execArgv: readonly string[];
}

const output = z.union([
  z.enum(['inherit', 'pipe', 'ignore']),
  z.int().min(0),
  z.custom<Stream>((value) => typeof (value as Stream | null)?.pipe === 'function'),
]);
const id = z.int().min(0).max(0xfffffffe);
const text = z.string().regex(/^[^\0]*$/);

/** Milliseconds until every worker must listen. */
const START_TIMEOUT = 30_000;

interface MasterOptionRow {
  schema: z.ZodType;
  /** Type and range in words, for the documentation and for error messages. */
  range: string;
  /** In words. */
  default: string;
  text: string;
}

/** The master's own options, in the order of docs/master.md, which is made of them. */
export const MASTER_OPTIONS = {
  script: {
    schema: text.min(1),
    range: 'path of a Node program',
    default: 'this or `command`',
    text: 'Run by this Node, found by its rules for a main program, relative to `cwd`. It needs no change: its `server.listen()` on the port of the group gets the listener of its slot.',
  },
  command: {
    schema: text.min(1),
    range: 'path or name of a program',
    default: 'this or `script`',
    text: 'Any other program. A path is relative to `cwd`, a name is looked for in PATH. It takes its listener from descriptor 3.',
  },
  args: {
    schema: z.array(text),
    range: 'list of strings',
    default: 'none',
    text: 'Arguments of the program.',
  },
  workers: {
    schema: z.int().min(1).max(MAX_SLOTS),
    range: `integer, 1 to ${MAX_SLOTS}`,
    default: 'the CPUs this process may use',
    text: 'How many workers, and slots of the group.',
  },
  env: {
    schema: z.record(z.string(), text.optional()),
    range: 'object of strings',
    default: 'nothing',
    text: "Variables added to the master's environment; `undefined` takes one away.",
  },
  cwd: {
    schema: text.min(1),
    range: 'path of a folder',
    default: "the master's",
    text: 'Working directory of the workers.',
  },
  execArgv: {
    schema: z.array(text),
    range: 'list of strings',
    default: 'none',
    text: 'Options of Node for `script`, such as `--max-old-space-size=512`.',
  },
  stdio: {
    schema: z.union([z.enum(['inherit', 'pipe', 'ignore']), z.tuple([output, output, output])]),
    range: "'inherit', 'pipe', 'ignore', or a list of three",
    default: "`'inherit'`",
    text: "Where stdout and stderr go; stdin is ignored. Or a list for stdin, stdout and stderr, each one of the three words, a descriptor or a stream. What is `'pipe'` must be read.",
  },
  uid: {
    schema: id,
    range: 'integer, 0 to 4294967294',
    default: "the master's",
    text: 'User the workers run as; needs `gid`, and the master CAP_SETUID. Where it is not the user of the master it needs CAP_KILL as well, without which neither `close()` nor the kernel could end the workers.',
  },
  gid: {
    schema: id,
    range: 'integer, 0 to 4294967294',
    default: "the master's",
    text: 'Group the workers run as. The master needs CAP_SETGID.',
  },
  groups: {
    schema: z.array(id),
    range: 'list of integers, 0 to 4294967294',
    default: "none with `gid`, otherwise the master's",
    text: 'Supplementary groups of the workers; needs `gid`.',
  },
  startTimeout: {
    schema: z
      .int()
      .min(1)
      .max(2 ** 31 - 1),
    range: 'integer, 1 to 2147483647 milliseconds',
    default: `\`${START_TIMEOUT}\``,
    text: 'How long every worker has to listen. After it `Master.start()` fails, and nothing is left.',
  },
} as const satisfies Record<string, MasterOptionRow>;

/**
 * Checks the options and that the program is there. Options of the group are left for the group to check.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`, `ERR_SPILLWAY_PERMISSION`, `ERR_SPILLWAY_SCRIPT_MISSING`
 */
export function planOf(options: MasterOptions): Plan {
  if (typeof options !== 'object' || options === null) {
    throw outOfRange(`options cannot be ${show(options)}; they are an object with script or command`);
  }
  for (const [name, { schema, range }] of Object.entries(MASTER_OPTIONS)) {
    const value = options[name as keyof typeof MASTER_OPTIONS];
    if (value !== undefined && !schema.safeParse(value).success) {
      throw outOfRange(`${name} cannot be ${show(value)}; it takes: ${range}`);
    }
  }
  const {
    script,
    command,
    args,
    workers,
    env,
    cwd,
    execArgv,
    stdio,
    uid,
    gid,
    groups,
    startTimeout,
    ...group
  } = options;
  if ((script === undefined) === (command === undefined)) {
    throw outOfRange('one of script and command must be given, and only one');
  }
  if (command !== undefined && execArgv !== undefined)
    throw outOfRange('execArgv is for a script, not for a command');
  if (uid !== undefined && gid === undefined)
    throw outOfRange("uid needs gid: the group would stay the master's");
  if (groups !== undefined && gid === undefined) throw outOfRange('groups needs gid');
  if (uid !== undefined) assertCanEnd(uid);

  const folder = existingFolder(cwd ?? '.');
  const environment = { ...process.env, ...env };
  const count = workers ?? availableParallelism();
  return {
    program: {
      kind: script === undefined ? 'command' : 'node',
      file:
        script === undefined
          ? runnable(command as string, folder, environment.PATH)
          : nodeProgram(script, folder),
      args: args ?? [],
      execArgv: execArgv ?? [],
    },
    workers: count,
    cwd: folder,
    env: environment,
    stdio: typeof stdio === 'object' ? stdio : ['ignore', stdio ?? 'inherit', stdio ?? 'inherit'],
    identity: { uid, gid, groups: groups ?? [] },
    startTimeout: startTimeout ?? START_TIMEOUT,
    group: { ...group, sockets: count },
  };
}

function outOfRange(message: string): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', message, {
    hint: 'docs/master.md lists the type and range of every option of a master.',
  });
}

function show(value: unknown): string {
  return inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
}

/** Who may send a signal to a process: kill(2). It holds for the one that the kernel sends at the master's end, too. */
function assertCanEnd(uid: number): void {
  if (uid === process.getuid?.() || uid === process.geteuid?.() || hasCapability('CAP_KILL')) return;
  throw new SpillwayError(
    'ERR_SPILLWAY_PERMISSION',
    `uid cannot be ${uid}: without CAP_KILL the master could not end workers of another user`,
    { hint: 'Give the master CAP_KILL as well, or start it as the user of the workers.' },
  );
}

function missing(what: string, cause?: unknown): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_SCRIPT_MISSING', what, { cause });
}

function existingFolder(cwd: string): string {
  const folder = resolve(cwd);
  if (!kindOf(folder)?.isDirectory()) {
    throw outOfRange(`cwd cannot be '${cwd}'; there is no such folder`);
  }
  return folder;
}

/** Undefined also for what lies in a folder that this process may not search, as PATH has some. */
function kindOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** Node's own rules: also a folder with a package.json, and a name without its extension. */
function nodeProgram(script: string, cwd: string): string {
  const path = resolve(cwd, script);
  try {
    return createRequire(import.meta.url).resolve(path);
  } catch (cause) {
    throw missing(`there is no program '${script}' (looked for ${path})`, cause);
  }
}

/** The command stays as it was given: some programs look at the name they were called by. */
function runnable(command: string, cwd: string, path = '/usr/local/bin:/bin:/usr/bin'): string {
  const isPath = command.includes('/');
  const candidates = isPath
    ? [resolve(cwd, command)]
    : path.split(delimiter).map((each) => resolve(cwd, each, command));
  const found = candidates.filter((file) => kindOf(file)?.isFile());
  if (found.length === 0) throw missing(`there is no program '${command}'${isPath ? '' : ' in PATH'}`);
  if (!found.some(isExecutable)) throw missing(`${found[0]} cannot be executed`);
  return command;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
