/**
 * Everything a service can be started with: keys of the config file, and for most of them an option of the command line.
 * The command line, the reading of config files and docs/config.md come from this table.
 */

import { z } from 'zod';
import { NAME_RANGE } from '../../control/names.js';
import { OPTIONS, type OptionName } from '../../group/options.js';
import { isPlace } from '../../serve/placement.js';
import {
  addresses,
  boolean,
  duration,
  environment,
  instances,
  integer,
  type Kind,
  oneOf,
  placement,
  size,
  text,
  words,
} from './values.js';

interface OptionRow<Value = unknown> {
  kind: Kind<Value>;
  /** As commander takes it; undefined: in a config file only. */
  flag?: string;
  /** What the flag does, where that is the opposite of the key. */
  flagText?: string;
  /** Whether the option can be given several times. */
  many?: boolean;
  /** What other process managers call it. */
  aliases?: readonly string[];
  /** In words. */
  default: string;
  text: string;
}

function row<Value>(option: OptionRow<Value>): OptionRow<Value> {
  return option;
}

const OWN = {
  script: row({
    kind: text('path of a Node program; with `exec` of any other, or its name in PATH'),
    default: 'required, here or on the command line',
    text: 'What the workers run.',
  }),
  args: row({
    kind: words,
    default: 'none',
    text: 'Arguments of the program. On the command line: behind `--`.',
  }),
  exec: row({
    kind: boolean,
    flag: '--exec',
    default: '`false`',
    text: 'Run any executable, which takes its listener from descriptor 3 (`LISTEN_FDS`).',
  }),
  instances: row({
    kind: instances,
    flag: '-i, --instances <number>',
    aliases: ['workers'],
    default: 'the variable WEB_CONCURRENCY, else `max`',
    text: 'Number of workers. With `2-8` (in a config file also `{ min: 2, max: 8 }`) they are started when they are wanted, and retired when they are not.',
  }),
  idleTimeout: row({
    kind: duration(0),
    flag: '--idle-timeout <duration>',
    default: '30 s',
    text: 'With a number of workers that follows the load: for how long fewer must have been enough before one is retired.',
  }),
  name: row({
    kind: text(NAME_RANGE),
    flag: '--name <name>',
    default: "the script's file name without extension",
    text: 'What the service is called by `spillway status` and the others.',
  }),
  port: row({
    kind: integer(0, 65_535),
    flag: '-p, --port <port>',
    default: "what the program's `listen()` asks for",
    text: 'Port that is open before the program asks for it; 0: any free one. It is in the variable PORT of the workers.',
  }),
  host: row({
    kind: text('host name or numeric address'),
    flag: '--host <host>',
    default: 'all addresses',
    text: 'Where `port` is opened.',
  }),
  listen: row({
    kind: addresses,
    flag: '--listen <address>',
    many: true,
    default: 'none',
    text: 'Further ports that are open before the program asks for them.',
  }),
  cwd: row({
    kind: text('path of a folder'),
    flag: '--cwd <folder>',
    default: "that of the config file, else the caller's",
    text: 'Working directory of the workers.',
  }),
  placement: row({
    kind: placement,
    flag: '--placement <places>',
    default: "the master's processors",
    text: 'On which processors the workers run: `auto`, one for each; or places for the slots in turn: `0,1,2-3` (on one, on another, on two), `0+2`, `node0,node1`.',
  }),
  user: row({
    kind: text('user, or user:group, by name or number'),
    flag: '--user <name[:group]>',
    default: "the master's",
    text: 'Whom the workers run as.',
  }),
  env: row({
    kind: environment,
    flag: '--env <KEY=VALUE>',
    many: true,
    default: "the master's",
    text: 'Variables added to the environment of the workers.',
  }),
  nodeArgs: row({
    kind: words,
    flag: '--node-args <arguments>',
    aliases: ['node_args', 'interpreter_args', 'interpreterArgs', 'execArgv'],
    default: 'none',
    text: 'Options of Node for the workers, such as `--max-old-space-size=512`.',
  }),
  waitReady: row({
    kind: boolean,
    flag: '--wait-ready',
    aliases: ['wait_ready'],
    default: '`false`',
    text: "A worker is ready when it calls `process.send('ready')`, not when it listens.",
  }),
  startTimeout: row({
    kind: duration(1),
    flag: '--start-timeout <duration>',
    aliases: ['listen_timeout'],
    default: '30 s',
    text: 'How long a worker has to become ready.',
  }),
  drainTimeout: row({
    kind: duration(0),
    flag: '--drain-timeout <duration>',
    default: '30 s',
    text: 'How long a worker may finish what it has before it gets SIGTERM.',
  }),
  killTimeout: row({
    kind: duration(0),
    flag: '--kill-timeout <duration>',
    aliases: ['kill_timeout'],
    default: '5 s',
    text: 'Time between SIGTERM and SIGKILL.',
  }),
  autoRestart: row({
    kind: boolean,
    flag: '--no-auto-restart',
    flagText: 'Do not start a worker again that has ended by itself.',
    aliases: ['autorestart'],
    default: '`true`',
    text: 'Whether a worker that ends is started again.',
  }),
  minUptime: row({
    kind: duration(0),
    flag: '--min-uptime <duration>',
    aliases: ['min_uptime'],
    default: '1 s',
    text: 'A worker that ends sooner after it was ready has failed.',
  }),
  restartDelay: row({
    kind: duration(0),
    flag: '--restart-delay <duration>',
    aliases: ['restart_delay', 'exp_backoff_restart_delay'],
    default: '100 ms',
    text: 'Wait before the first restart; doubled with every further failure in a row.',
  }),
  maxRestartDelay: row({
    kind: duration(0),
    flag: '--max-restart-delay <duration>',
    default: '15 s',
    text: 'The longest wait before a restart.',
  }),
  maxRestarts: row({
    kind: integer(0, 1_000_000),
    flag: '--max-restarts <number>',
    aliases: ['max_restarts'],
    default: '10',
    text: 'After so many failures in a row a worker is not started again.',
  }),
  maxMemory: row({
    kind: size,
    flag: '--max-memory <size>',
    aliases: ['max_memory_restart'],
    default: 'no limit',
    text: 'A worker with more resident memory is replaced.',
  }),
  stuckAfter: row({
    kind: duration(1),
    flag: '--stuck-after <duration>',
    default: '200 ms',
    text: 'A worker whose event loop stands still that long gets no new connections.',
  }),
  hangTimeout: row({
    kind: duration(0),
    flag: '--hang-timeout <duration>',
    default: '30 s',
    text: 'A worker whose event loop stands still that long is replaced; 0: never.',
  }),
  ticketKeyRotation: row({
    kind: duration(1),
    default: '12 h',
    text: 'How often the keys of TLS session tickets change.',
  }),
  monitor: row({
    kind: boolean,
    flag: '--monitor',
    default: '`false`',
    text: 'Let a small process keep everything that must not end with the master, and start the master again when it has died or hangs. Workers and their clients notice nothing.',
  }),
  keeperPlacement: row({
    kind: {
      schema: z.string().refine(isPlace),
      range: 'processors such as `0` or `2-3`, or `node1`',
    },
    flag: '--keeper-placement <place>',
    default: "the master's",
    text: 'With `monitor`: on which processors the process runs that keeps it alive.',
  }),
  logs: row({
    kind: text('path of a folder'),
    flag: '--logs <folder>',
    default: "none: the output goes to the master's",
    text: 'Output of the workers is written to `NAME-SLOT.out.log` and `NAME-SLOT.err.log` there.',
  }),
  outFile: row({
    kind: text('path of a file'),
    aliases: ['out_file', 'output', 'out'],
    default: 'as `logs` says',
    text: 'stdout of the workers, a file for each: the slot goes before the extension (`out-0.log`). `/dev/null`: nowhere.',
  }),
  errorFile: row({
    kind: text('path of a file'),
    aliases: ['error_file', 'err_file', 'error'],
    default: 'as `logs` says',
    text: 'stderr of the workers, likewise.',
  }),
  logFile: row({
    kind: text('path of a file'),
    aliases: ['log_file', 'log'],
    default: 'none',
    text: 'What has no other file of stdout and stderr of the workers, likewise.',
  }),
  logFormat: row({
    kind: oneOf('text', 'json'),
    flag: '--log-format <format>',
    default: '`text`',
    text: "The master's own log on stderr.",
  }),
};

/** Options of the socket group that can be given; those of one slot mean nothing here. */
type GroupOptionName = Exclude<OptionName, 'enabled' | 'weight' | 'cpu'>;

const WITH_FLAG: readonly string[] = [
  'backlog',
  'policy',
  'overflow',
  'maxConnections',
  'waitLimit',
  'waitTimeout',
  'selector',
];

/** `maxConnections`: `max-connections`. */
function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function groupRow(name: GroupOptionName): OptionRow {
  const option = OPTIONS[name];
  const isNumber = option.schema.safeParse(1).success || option.schema.safeParse(65_535).success;
  return {
    kind: {
      schema: option.schema,
      range: option.range,
      ...(isNumber ? { fromText: (given: string) => (/^\d+$/.test(given) ? Number(given) : given) } : {}),
    },
    ...(WITH_FLAG.includes(name) ? { flag: `--${flagOf(name)} <${isNumber ? 'number' : 'name'}>` } : {}),
    default:
      option.default === undefined
        ? "the kernel's"
        : `\`${JSON.stringify(option.default).replaceAll('"', "'")}\``,
    text: option.text,
  };
}

const GROUP_NAMES = (Object.keys(OPTIONS) as OptionName[]).filter(
  (name): name is GroupOptionName => name !== 'enabled' && name !== 'weight' && name !== 'cpu',
);

/** In the order of docs/config.md. */
export const START_OPTIONS: Readonly<Record<SettingName, OptionRow>> = {
  ...OWN,
  ...(Object.fromEntries(GROUP_NAMES.map((name) => [name, groupRow(name)])) as Record<
    GroupOptionName,
    OptionRow
  >),
};

type Own = {
  -readonly [Name in keyof typeof OWN]?: (typeof OWN)[Name] extends OptionRow<infer V> ? V : never;
};
type OfGroup = { [Name in GroupOptionName]?: unknown };

export type SettingName = keyof typeof OWN | GroupOptionName;

/** What was asked for, checked and with its units resolved; whatever is missing has its default. */
export type Settings = Own & OfGroup;

export const SETTING_NAMES = Object.keys(START_OPTIONS) as SettingName[];
export const GROUP_SETTINGS: readonly GroupOptionName[] = GROUP_NAMES;

/** What a reload can change; everything else needs a new master. */
export const RELOADABLE = ['script', 'args', 'env', 'cwd', 'nodeArgs'] as const satisfies SettingName[];

/** Keys of other process managers that are more, or less, than another name. */
export const FAMILIAR: Readonly<Record<string, string>> = {
  apps: 'Another name of `services`.',
  env_NAME: 'Variables added to `env` with `--env-name NAME`.',
  interpreter:
    '`none` is `exec: true`; `node` is the default. Others: write them as `script`, with `exec: true`.',
  exec_interpreter: 'The same.',
  exec_mode: '`cluster` is what happens anyway; `fork` is taken with one instance.',
  uid: 'The first half of `user`.',
  gid: 'The second half of `user`.',
  merge_logs: 'Only `false`: every worker has a file of its own.',
  combine_logs: 'Only `false`: every worker has a file of its own.',
  watch: 'Only `false`: files are not watched; call `spillway reload`.',
};

/** Keys of other process managers that cannot be taken over; with `false` or `null` they ask for nothing. */
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  watch: 'files are not watched; call `spillway reload` when they have changed',
  ignore_watch: 'files are not watched',
  watch_delay: 'files are not watched',
  watch_options: 'files are not watched',
  merge_logs: 'every worker has a log file of its own',
  combine_logs: 'every worker has a log file of its own',
  cron_restart: 'there is no timer; let cron or a systemd timer call `spillway reload NAME`',
  log_date_format: 'lines are written as the program writes them',
  time: 'lines are written as the program writes them',
  source_map_support: "use nodeArgs: ['--enable-source-maps']",
  instance_var: 'the slot is in NODE_APP_INSTANCE and SPILLWAY_SLOT',
  increment_var: 'the slot is in NODE_APP_INSTANCE and SPILLWAY_SLOT',
  shutdown_with_message: 'workers get SIGTERM',
  pid_file: '`spillway status --json` has the process ids',
  deploy: 'Spillway does not deploy',
};

/** Keys that ask for what happens anyway, whatever their value. */
export const IGNORED: readonly string[] = ['vizion', 'treekill', 'namespace', 'force', 'pmx', 'automation'];
