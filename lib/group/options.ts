/**
 * The option table: every option of a socket group with its type, range, default, when it can be set and which
 * selector gives it. Code, types and docs/options.md all come from here.
 */
import { z } from 'zod';
import { SpillwayError } from '../errors.js';
import { MAX_CPUS } from './layout.js';

/** A selector by name: how the socket of a connection is chosen. */
export const SELECTORS = ['ebpf', 'cbpf', 'none'] as const;
export type SelectorName = (typeof SELECTORS)[number];

/** Policies by name: how a worker is chosen (docs/policies.md). The first is the default. */
export const POLICY_NAMES = [
  'idle-first',
  'two-choices',
  'least-queue',
  'least-connections',
  'weighted',
  'hash',
  'sticky',
  'local-cpu',
] as const;

/** What a selector gives of an option: every value, or only those listed. */
type Gives = 'all' | readonly unknown[];

type Scope = 'group' | 'slot' | 'listener';

interface OptionRow<S extends z.ZodType = z.ZodType, O extends Scope = Scope> {
  /** Checks a value; everything it accepts is in range. */
  schema: S;
  /** Type and range in words, for the documentation and for error messages. */
  range: string;
  /** The value without being asked for; `undefined`: the kernel's own, which Spillway then leaves alone. */
  default: z.infer<S> | undefined;
  /** `group`: one value; `slot`: may differ by slot; `listener`: a socket option, set on every listener. */
  scope: O;
  /** Whether setOption() may change it on an open group. */
  live: boolean;
  gives: Record<SelectorName, Gives>;
  text: string;
}

function row<S extends z.ZodType, O extends Scope>(option: OptionRow<S, O>): OptionRow<S, O> {
  return option;
}

const everywhere = { ebpf: 'all', cbpf: 'all', none: 'all' } as const;
const int = (least: number, most: number) => z.int().min(least).max(most);
const INT_MAX = 2 ** 31 - 1;

export const OPTIONS = {
  backlog: row({
    schema: int(1, 65535),
    range: 'integer, 1 to 65535 connections',
    default: 511,
    scope: 'slot',
    live: true,
    gives: everywhere,
    text: "Limit of a slot's accept queue, which holds one connection more, as in listen(2). The kernel caps it at net.core.somaxconn. It stays in force when a program calls listen() on the socket with another number.",
  }),
  policy: row({
    schema: z.enum(POLICY_NAMES),
    range: POLICY_NAMES.map((name) => `\`${name}\``).join(', '),
    default: 'idle-first',
    scope: 'group',
    live: true,
    gives: { ebpf: 'all', cbpf: ['hash'], none: ['hash'] },
    text: "Who gets a connection; see docs/policies.md. `idle-first`: in turn, but an idle worker before a busy one, and nobody who is stuck. `two-choices`: the better of two at random. `least-queue`: the best of all. `least-connections`: who has the fewest open. `weighted`: who has the fewest open for its weight. `hash`: by the connection's hash and weight. `sticky`: by the client's address. `local-cpu`: who is placed on the CPU that has the packet (`cpu`), else as `idle-first`. Without being asked for, `hash` below the `ebpf` selector.",
  }),
  overflow: row({
    schema: z.enum(['drop', 'reset', 'wait']),
    range: '`drop`, `reset`, `wait`',
    default: 'drop',
    scope: 'group',
    live: true,
    gives: { ebpf: 'all', cbpf: ['drop'], none: ['drop'] },
    text: 'What happens to a SYN when nobody has room. `drop`: silence, the client tries again after a second. `reset`: refused at once. `wait`: put on a waiting list, from which workers take when they have room, first come first served; refused when that is full. See docs/limits.md.',
  }),
  maxConnections: row({
    schema: int(0, 1_000_000),
    range: 'integer, 0 to 1000000 connections; 0: no limit',
    default: 0,
    scope: 'slot',
    live: true,
    gives: { ebpf: 'all', cbpf: [0], none: [0] },
    text: 'How many connections the worker of a slot has open at most, those in its accept queue included. Kept by the kernel: a place is taken before the worker is chosen. One that is lowered closes nothing.',
  }),
  exclusiveHandover: row({
    schema: z.boolean(),
    range: 'boolean',
    default: false,
    scope: 'group',
    live: true,
    gives: { ebpf: 'all', cbpf: [false], none: [false] },
    text: 'Whether a worker that has been given a connection is given no other one before it has accepted it.',
  }),
  countConnections: row({
    schema: z.boolean(),
    range: 'boolean',
    default: false,
    scope: 'group',
    live: true,
    gives: { ebpf: 'all', cbpf: [false], none: [false] },
    text: 'Whether open connections are counted also where no policy and no limit needs it.',
  }),
  waitLimit: row({
    schema: int(1, 65535),
    range: 'integer, 1 to 65535 connections',
    default: 1024,
    scope: 'group',
    live: true,
    gives: everywhere,
    text: 'With the overflow policy `wait`: how long the waiting list may become. No longer than net.core.somaxconn.',
  }),
  waitTimeout: row({
    schema: int(0, 86_400_000),
    range: 'integer, 0 to 86400000 milliseconds; 0: for ever',
    default: 30_000,
    scope: 'group',
    live: true,
    gives: everywhere,
    text: 'With the overflow policy `wait`: how long a connection waits; then it is reset. A master has to be there to do it.',
  }),
  migrate: row({
    schema: z.boolean(),
    range: 'boolean',
    default: true,
    scope: 'group',
    live: true,
    gives: everywhere,
    text: 'Whether the queue of a socket that leaves goes to its siblings. By the kernel with `ebpf`; below it the queue is accepted and given to `onConnection`.',
  }),
  selector: row({
    schema: z.enum(['auto', ...SELECTORS]),
    range: '`auto`, `ebpf`, `cbpf`, `none`',
    default: 'auto',
    scope: 'group',
    live: true,
    gives: everywhere,
    text: 'Asked for: how the kernel chooses; `auto` takes the best that works. Read: the one in force.',
  }),
  weight: row({
    schema: int(1, 1000),
    range: 'integer, 1 to 1000',
    default: 1,
    scope: 'slot',
    live: true,
    gives: { ebpf: 'all', cbpf: 'all', none: [1] },
    text: "A slot's share of first choices, and what its load is divided by when loads are compared.",
  }),
  enabled: row({
    schema: z.boolean(),
    range: 'boolean',
    default: true,
    scope: 'slot',
    live: true,
    gives: { ebpf: 'all', cbpf: 'all', none: [true] },
    text: 'Whether new connections may be given to the slot. What it has queued stays its own.',
  }),
  cpu: row({
    schema: int(-1, MAX_CPUS - 1),
    range: `integer, 0 to ${MAX_CPUS - 1}; −1: on none in particular`,
    default: -1,
    scope: 'slot',
    live: true,
    gives: { ebpf: 'all', cbpf: [-1], none: [-1] },
    text: 'The CPU that the worker of the slot runs on, for the policy `local-cpu`. It puts nobody there.',
  }),
  rescue: row({
    schema: z.union([z.literal(0), int(100, 1_000_000)]),
    range: 'integer, 100 to 1000000 microseconds; 0: never',
    default: 500,
    scope: 'group',
    live: true,
    gives: everywhere,
    text: 'How often queues are looked at while anything waits in one, or a worker computes after a decision, but no more often than every 4 µs for each slot. What is still there at the next look, and nobody waits for, is offered to workers that are free; a worker that computes on and on stands back behind those that wake up. Not under `sticky`. Below `ebpf` only whether it is 0 matters: the master looks every millisecond.',
  }),
  noDelay: row({
    schema: z.boolean(),
    range: 'boolean',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_NODELAY of accepted connections: send small segments at once. See tcp(7).',
  }),
  keepAlive: row({
    schema: z.union([
      z.literal(false),
      z.object({ idle: int(1, 32767), interval: int(1, 32767), count: int(1, 127) }),
    ]),
    range: '`false`, or `{ idle, interval, count }` with seconds 1 to 32767 and count 1 to 127',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of accepted connections.',
  }),
  userTimeout: row({
    schema: int(0, INT_MAX),
    range: "integer, 0 to 2³¹−1 milliseconds; 0 is the kernel's own",
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_USER_TIMEOUT: how long sent data may stay unacknowledged before the connection is given up.',
  }),
  receiveBuffer: row({
    schema: int(1, INT_MAX),
    range: 'integer, 1 to 2³¹−1 bytes',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'SO_RCVBUF of accepted connections. The kernel caps it at net.core.rmem_max and reads back twice the number.',
  }),
  sendBuffer: row({
    schema: int(1, INT_MAX),
    range: 'integer, 1 to 2³¹−1 bytes',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'SO_SNDBUF of accepted connections. The kernel caps it at net.core.wmem_max and reads back twice the number.',
  }),
  congestion: row({
    schema: z.string().regex(/^[a-z0-9_-]{1,15}$/),
    range: 'name of an algorithm in net.ipv4.tcp_available_congestion_control',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_CONGESTION of accepted connections.',
  }),
  notSentLowat: row({
    schema: int(0, INT_MAX),
    range: 'integer, 0 to 2³¹−1 bytes',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_NOTSENT_LOWAT: how much unsent data the kernel takes before the socket is no longer writable.',
  }),
  deferAccept: row({
    schema: int(0, 3600),
    range: 'integer, 0 to 3600 seconds; 0 turns it off',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_DEFER_ACCEPT: a connection is queued when its first data arrives. The kernel rounds to whole retransmissions. Waiting clients then do not count as load.',
  }),
  fastOpen: row({
    schema: int(0, 65535),
    range: 'integer, 0 to 65535 pending requests; 0 turns it off',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'TCP_FASTOPEN: data in the SYN, with that many requests pending. net.ipv4.tcp_fastopen must allow it.',
  }),
  v6Only: row({
    schema: z.boolean(),
    range: 'boolean',
    default: false,
    scope: 'listener',
    live: false,
    gives: everywhere,
    text: 'IPV6_V6ONLY: an IPv6 listener takes no IPv4 clients. Otherwise `::` is dual stack.',
  }),
  freeBind: row({
    schema: z.boolean(),
    range: 'boolean',
    default: undefined,
    scope: 'listener',
    live: false,
    gives: everywhere,
    text: 'IP_FREEBIND: bind to an address that is not (yet) one of this machine.',
  }),
  bindToDevice: row({
    schema: z.string().regex(/^[^/\s]{1,15}$/),
    range: 'name of a network interface',
    default: undefined,
    scope: 'listener',
    live: false,
    gives: everywhere,
    text: 'SO_BINDTODEVICE: only what arrives at that interface.',
  }),
  tos: row({
    schema: int(0, 255),
    range: 'integer, 0 to 255',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'IP_TOS and IPV6_TCLASS of accepted connections. The kernel keeps the two ECN bits for itself.',
  }),
  busyPoll: row({
    schema: int(0, 1_000_000),
    range: 'integer, 0 to 1000000 microseconds',
    default: undefined,
    scope: 'listener',
    live: true,
    gives: everywhere,
    text: 'SO_BUSY_POLL: how long a receive polls the device queue. Raising it needs CAP_NET_ADMIN.',
  }),
};

export type OptionName = keyof typeof OPTIONS;
/** The value of each option. */
export type GroupOptions = { -readonly [Name in OptionName]: z.infer<(typeof OPTIONS)[Name]['schema']> };
/** Options of listeners, which are socket options of the kernel. */
export type ListenerOptionName = {
  [Name in OptionName]: (typeof OPTIONS)[Name]['scope'] extends 'listener' ? Name : never;
}[OptionName];
/** What was asked for; whatever is missing has its default. */
export type AskedOptions = { [Name in OptionName]?: GroupOptions[Name] | undefined };

/** Options of slots that are the member's own fields; `backlog` is besides a matter of the socket. */
export const SLOT_OPTIONS = ['weight', 'enabled', 'cpu', 'maxConnections'] as const;

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

/** The row of an option, in general terms. */
export function optionRow(name: OptionName): OptionRow {
  return OPTIONS[name] as unknown as OptionRow;
}

function show(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) ?? String(value));
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_UNKNOWN` unless `name` is in the table. */
export function assertOptionName(name: string): asserts name is OptionName {
  if (Object.hasOwn(OPTIONS, name)) return;
  throw new SpillwayError('ERR_SPILLWAY_OPTION_UNKNOWN', `there is no option '${name}'`);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` unless `value` is one the option can have. */
export function checkValue<Name extends OptionName>(name: Name, value: unknown): GroupOptions[Name] {
  const { schema, range } = optionRow(name);
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data as GroupOptions[Name];
  throw new SpillwayError(
    'ERR_SPILLWAY_OPTION_RANGE',
    `${name} cannot be ${show(value)}; it takes: ${range}`,
  );
}

/** The options among `given`, checked. Keys that are not options are left to the caller. */
export function checkOptions(given: Readonly<Record<string, unknown>>): AskedOptions {
  const asked: Record<string, unknown> = {};
  for (const name of OPTION_NAMES) {
    if (given[name] !== undefined) asked[name] = checkValue(name, given[name]);
  }
  return asked as AskedOptions;
}

/** Whether a selector gives an option that value. */
export function gives(selector: SelectorName, name: OptionName, value: unknown): boolean {
  const given = optionRow(name).gives[selector];
  return given === 'all' || given.includes(value);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_TIER` unless the selector gives the option that value. */
export function assertGives(selector: SelectorName, name: OptionName, value: unknown): void {
  if (gives(selector, name, value)) return;
  const able = SELECTORS.filter((other) => gives(other, name, value)).map((other) => `'${other}'`);
  throw new SpillwayError(
    'ERR_SPILLWAY_OPTION_TIER',
    `${name} ${show(value)} needs the selector ${able.join(' or ')}; in force is '${selector}'`,
  );
}

/** The value an option has under a selector when nobody asked for one. */
export function defaultFor<Name extends OptionName>(
  selector: SelectorName,
  name: Name,
): GroupOptions[Name] | undefined {
  const option = optionRow(name);
  const given = option.gives[selector];
  const value = given === 'all' || given.includes(option.default) ? option.default : given[0];
  return value as GroupOptions[Name] | undefined;
}
