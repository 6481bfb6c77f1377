/** What a master is asked for: its own options, checked, and apart from those of its socket group. */
import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { delimiter, resolve } from 'node:path';
import type { Stream } from 'node:stream';
import { inspect } from 'node:util';
import { z } from 'zod';
import { SpillwayError } from '../errors.js';
import { checkOpening } from '../group/arguments.js';
import { hasCapability } from '../group/capability.js';
import type { OpenOptions } from '../group/group.js';
import { MAX_SLOTS } from '../group/layout.js';
import { native } from '../native.js';
import type { DemandRules } from './demand.js';
import { assertPlaces, isPlace, type Placement, readMachine } from './placement.js';

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
  /**
   * Number of workers, 1 to 1024. Or from how many to how many: then they are started when they are wanted, and retired
   * when they are not. Default: the CPUs that this process may use.
   */
  workers?: number | { min: number; max: number };
  /** With a number of workers that changes: milliseconds for which fewer must have been enough. Default: 30000. */
  idleTimeout?: number;
  /**
   * Several ports to open beforehand: numbers, `'host:port'`, or `{ host, port }`. Instead of `host` and `port`. Without
   * either nothing is opened beforehand: what the program listens on is.
   */
  listen?: readonly (number | string | { host?: string; port: number })[];
  /**
   * On which processors the workers run: `'auto'`, one for each; or places, such as `'0'`, `'2-3'`, `'0+2'` or `'node1'`, one
   * for each slot in turn. Default: where this process runs.
   */
  placement?: Placement;
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
  /** A worker is ready when its program says so (`process.send('ready')`, `worker.ready()`). Default: when it listens. */
  waitReady?: boolean;
  /** Milliseconds until a worker must be ready. Default: 30000. */
  startTimeout?: number;
  /** Milliseconds that a worker that is to end has to finish what it has. Default: 30000. */
  drainTimeout?: number;
  /** Milliseconds from SIGTERM to SIGKILL. Default: 5000. */
  killTimeout?: number;
  /** Whether a worker that has ended is started again. Default: true. */
  autoRestart?: boolean;
  /** A worker that ends sooner than so many milliseconds after it was ready has failed. Default: 1000. */
  minUptime?: number;
  /** Milliseconds before a worker that has failed is started again; doubled with every failure in a row. Default: 100. */
  restartDelay?: number;
  /** Milliseconds that this delay grows to. Default: 15000. */
  maxRestartDelay?: number;
  /** Restarts of one slot that may fail in a row. Default: 10. */
  maxRestarts?: number;
  /** Resident bytes above which a worker is replaced. Default: none. */
  maxMemory?: number;
  /** Milliseconds that an event loop may be stuck before the worker is avoided. Default: 200. */
  stuckAfter?: number;
  /** Milliseconds that it may be stuck before the worker is killed and started again; 0: never. Default: 30000. */
  hangTimeout?: number;
  /** Milliseconds between changes of the TLS session ticket keys; 0: never. Default: 12 hours. */
  ticketKeyRotation?: number;
}

/** What a reload may change. */
export type WorkerChange = Partial<
  Pick<MasterOptions, 'script' | 'command' | 'args' | 'env' | 'execArgv' | 'cwd'>
>;

/** The master's options with everything filled in. */
export interface Plan extends Timing {
  /** What was asked for; a reload changes it. */
  options: MasterOptions;
  program: Program;
  /** How many there are at first. */
  workers: number;
  /** Undefined: as many as there are at first, or as the owner says. */
  demand: DemandRules | undefined;
  placement: Placement | undefined;
  cwd: string;
  env: NodeJS.ProcessEnv;
  stdio: readonly [Output, Output, Output];
  identity: { uid?: number | undefined; gid?: number | undefined; groups: readonly number[] };
  waitReady: boolean;
  autoRestart: boolean;
  /** Undefined: no limit. */
  maxMemory: number | undefined;
  /** What is opened beforehand. */
  declared: readonly { host?: string; port: number }[];
  /** Options of every socket group. */
  group: Omit<OpenOptions, 'sockets' | 'host' | 'port'>;
}

/** Milliseconds, and numbers of times. */
export interface Timing {
  startTimeout: number;
  drainTimeout: number;
  killTimeout: number;
  minUptime: number;
  restartDelay: number;
  maxRestartDelay: number;
  maxRestarts: number;
  stuckAfter: number;
  hangTimeout: number;
  ticketKeyRotation: number;
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

const TIMING: Timing = {
  startTimeout: 30_000,
  drainTimeout: 30_000,
  killTimeout: 5000,
  minUptime: 1000,
  restartDelay: 100,
  maxRestartDelay: 15_000,
  maxRestarts: 10,
  stuckAfter: 200,
  hangTimeout: 30_000,
  ticketKeyRotation: 12 * 60 * 60 * 1000,
};

/** Milliseconds. */
const IDLE_TIMEOUT = 30_000;

/** Slots that a group has room for, unless it is told otherwise. */
const ROOM = 256;

/** The longest time of a timer of Node. */
export const LONGEST = 2 ** 31 - 1;

function milliseconds(name: keyof Timing, least: 0 | 1, text: string): MasterOptionRow {
  return {
    schema: z.int().min(least).max(LONGEST),
    range: `integer, ${least} to ${LONGEST} milliseconds`,
    default: `\`${TIMING[name]}\``,
    text,
  };
}

const place = z.union([
  z.int().min(0).max(65535),
  z.string().refine((value) => splitPlace(value) !== undefined),
  z.strictObject({ host: z.string().optional(), port: z.int().min(0).max(65535) }),
]);

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
    schema: z.union([
      z.int().min(1).max(MAX_SLOTS),
      z
        .strictObject({ min: z.int().min(1).max(MAX_SLOTS), max: z.int().min(1).max(MAX_SLOTS) })
        .refine(({ min, max }) => min <= max),
    ]),
    range: `integer, 1 to ${MAX_SLOTS}, or { min, max } of them`,
    default: 'the CPUs this process may use',
    text: 'How many workers, and slots of the group. With `{ min, max }` one is started when somebody finds no room or waits, or when all have their hands full, and the last one is retired when fewer would have been enough for `idleTimeout`.',
  },
  idleTimeout: {
    schema: z.int().min(0).max(LONGEST),
    range: `integer, 0 to ${LONGEST} milliseconds`,
    default: '`30000`',
    text: 'With a number of workers that changes: for how long fewer must have been enough before one is retired.',
  },
  placement: {
    schema: z.union([z.literal('auto'), z.array(z.string().refine(isPlace)).min(1)]),
    range: "'auto', or a list of places: processors such as '0', '2-3', '0+2', or 'node1'",
    default: "the master's",
    text: 'On which processors the workers run: one place for each slot, in turn. `auto`: one processor for each, as evenly as possible over nodes and cores. A worker whose processors are taken offline is moved.',
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
  listen: {
    schema: z.array(place).min(1),
    range: "list of ports, 'host:port', or { host, port }",
    default: 'nothing',
    text: 'Several ports to open beforehand, instead of `host` and `port`. Without either nothing is opened beforehand: what the program listens on is, when it listens.',
  },
  waitReady: {
    schema: z.boolean(),
    range: 'boolean',
    default: '`false`',
    text: "A worker is ready when its program says so, by `process.send('ready')` or `worker.ready()`. Otherwise when it listens on every port that was opened beforehand, or on any if none was; a `command` when it runs.",
  },
  startTimeout: milliseconds('startTimeout', 1, 'How long a worker has to become ready.'),
  drainTimeout: milliseconds(
    'drainTimeout',
    0,
    'How long a worker that is to end has to finish what it has. Idle connections are closed at its end.',
  ),
  killTimeout: milliseconds('killTimeout', 0, 'From SIGTERM to SIGKILL.'),
  autoRestart: {
    schema: z.boolean(),
    range: 'boolean',
    default: '`true`',
    text: 'Whether a worker that has ended is started again.',
  },
  minUptime: milliseconds(
    'minUptime',
    0,
    'A worker that ends sooner after it was ready has failed. One that has lived longer is started again at once.',
  ),
  restartDelay: milliseconds(
    'restartDelay',
    0,
    'How long a slot whose worker has failed stays empty; doubled with every failure in a row.',
  ),
  maxRestartDelay: milliseconds('maxRestartDelay', 0, 'What that delay grows to.'),
  maxRestarts: {
    schema: z.int().min(0).max(LONGEST),
    range: `integer, 0 to ${LONGEST}`,
    default: `\`${TIMING.maxRestarts}\``,
    text: 'How many restarts of one slot may fail in a row. After them the slot stays empty; when all are, the master ends with `ERR_SPILLWAY_NO_WORKER`.',
  },
  maxMemory: {
    schema: z.int().min(1),
    range: 'integer, bytes',
    default: 'no limit',
    text: 'Resident memory above which a worker is replaced: its successor starts, then it drains.',
  },
  stuckAfter: milliseconds(
    'stuckAfter',
    1,
    'How long an event loop may be stuck, or a process stopped, before the worker is given nothing new and its queue goes to the others.',
  ),
  hangTimeout: milliseconds(
    'hangTimeout',
    0,
    'How long it may last before the worker is killed and started again; 0: for ever.',
  ),
  ticketKeyRotation: milliseconds(
    'ticketKeyRotation',
    0,
    'How long the workers share the same TLS session ticket keys; 0: for ever.',
  ),
} as const satisfies Record<string, MasterOptionRow>;

/**
 * Checks the options, and that the program is there.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`, `ERR_SPILLWAY_OPTION_UNKNOWN`, `ERR_SPILLWAY_PERMISSION`, `ERR_SPILLWAY_SCRIPT_MISSING`
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
  const { script, command, args, workers, env, cwd, execArgv, stdio, uid, gid, groups, listen } = options;
  if ((script === undefined) === (command === undefined)) {
    throw outOfRange('one of script and command must be given, and only one');
  }
  if (command !== undefined && execArgv !== undefined)
    throw outOfRange('execArgv is for a script, not for a command');
  if (uid !== undefined && gid === undefined)
    throw outOfRange("uid needs gid: the group would stay the master's");
  if (groups !== undefined && gid === undefined) throw outOfRange('groups needs gid');
  if (uid !== undefined) assertCanEnd(uid);

  if (command !== undefined && options.overflow === 'wait') {
    throw outOfRange(
      "overflow 'wait' is for a script: nobody could take from the waiting list for a command",
    );
  }
  if (command !== undefined && options.waitReady) {
    throw outOfRange('waitReady is for a script: a command has no way to say that it is ready');
  }
  if (listen !== undefined && (options.host !== undefined || options.port !== undefined)) {
    throw outOfRange('listen is instead of host and port');
  }
  const declared = declaredBy(options);
  if (command !== undefined && declared.length === 0) {
    throw outOfRange('a command needs port or listen: it inherits its listeners when it starts');
  }

  const range = typeof workers === 'object' ? workers : undefined;
  const atFirst = range?.min ?? (workers as number | undefined) ?? availableParallelism();
  if (options.placement !== undefined) {
    const allowed = native().allowedCpus();
    assertPlaces(options.placement, readMachine(allowed), allowed);
  }
  const group = groupOptions(options);
  checkOpening({ ...group, sockets: range?.max ?? atFirst });
  const folder = existingFolder(cwd ?? '.');
  const environment = { ...process.env, ...env };
  return {
    options,
    program: {
      kind: script === undefined ? 'command' : 'node',
      file:
        script === undefined
          ? runnable(command as string, folder, environment.PATH)
          : nodeProgram(script, folder),
      args: args ?? [],
      execArgv: execArgv ?? [],
    },
    workers: atFirst,
    placement: options.placement,
    demand: range && { ...range, idleTimeout: options.idleTimeout ?? IDLE_TIMEOUT },
    cwd: folder,
    env: environment,
    stdio: typeof stdio === 'object' ? stdio : ['ignore', stdio ?? 'inherit', stdio ?? 'inherit'],
    identity: { uid, gid, groups: groups ?? [] },
    waitReady: options.waitReady ?? false,
    autoRestart: options.autoRestart ?? true,
    maxMemory: options.maxMemory,
    declared,
    group,
    ...timing(options),
  };
}

function timing(options: MasterOptions): Timing {
  const filled = { ...TIMING };
  for (const name of Object.keys(TIMING) as (keyof Timing)[]) filled[name] = options[name] ?? TIMING[name];
  return filled;
}

function declaredBy({ listen, host, port }: MasterOptions): Plan['declared'] {
  if (listen === undefined) {
    if (port === undefined && host !== undefined) throw outOfRange('host needs port');
    return port === undefined ? [] : [{ port, ...(host === undefined ? {} : { host }) }];
  }
  return listen.map((each) => {
    if (typeof each === 'number') return { port: each };
    return typeof each === 'string' ? (splitPlace(each) as { host?: string; port: number }) : each;
  });
}

/** `8080`, `host:8080`, `127.0.0.1:8080`, `[::1]:8080`, `:8080`; undefined for anything else. */
export function splitPlace(text: string): { host?: string; port: number } | undefined {
  const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const port = Number(match[3]);
  const host = match[1] ?? match[2];
  if (port > 65535) return undefined;
  return host ? { host, port } : { port };
}

function groupOptions(options: MasterOptions): Plan['group'] {
  const own = new Set<string>(['host', 'port', ...Object.keys(MASTER_OPTIONS)]);
  const given = Object.fromEntries(Object.entries(options).filter(([name]) => !own.has(name)));
  // A master may be scaled: what is not used of the room costs some kilobytes.
  const { workers: asked = 0 } = options;
  const workers = typeof asked === 'number' ? asked : asked.max;
  return { capacity: Math.min(MAX_SLOTS, Math.max(ROOM, 2 * workers)), ...given };
}

/** Workers that are expected at most where nobody has said how many there may be. */
const MOST_USUAL = 64;

/**
 * For how many workers there is memory that the kernel's programs read too: it is all taken at the start, so it is not
 * what a group has room for by itself. Twice as many as there may be in the slots, because those before may still have
 * something to finish; who comes when none is left has a page that only the master reads.
 */
export function hintsRowsOf({
  workers,
  demand,
  options,
}: Pick<Plan, 'workers' | 'demand' | 'options'>): number {
  return 2 * Math.max(MOST_USUAL, workers, demand?.max ?? 0, options.capacity ?? 0);
}

const CHANGEABLE = new Set(['script', 'command', 'args', 'env', 'execArgv', 'cwd']);

/**
 * The plan with other values for what a reload may change.
 *
 * @throws {SpillwayError} what {@link planOf} throws, and `ERR_SPILLWAY_OPTION_FIXED`.
 */
export function changedPlan(before: Plan, change: WorkerChange): Plan {
  for (const name of Object.keys(change)) {
    if (CHANGEABLE.has(name)) continue;
    throw new SpillwayError('ERR_SPILLWAY_OPTION_FIXED', `a reload cannot change ${name}`, {
      hint: `It can change: ${[...CHANGEABLE].join(', ')}. For the rest start the master anew.`,
    });
  }
  const after = planOf({ ...before.options, ...change });
  if (after.program.kind !== before.program.kind) {
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_FIXED',
      'a reload cannot turn a script into a command, or the reverse',
      { hint: 'Start the master anew.' },
    );
  }
  return after;
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

/**
 * A file stays as it was named: a link to it may point elsewhere at the next reload. Otherwise by Node's own rules: a folder
 * with a package.json, or a name without its extension.
 */
function nodeProgram(script: string, cwd: string): string {
  const path = resolve(cwd, script);
  if (kindOf(path)?.isFile()) return path;
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
