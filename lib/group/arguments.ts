/** What `open()`, `of()` and `add()` of a socket group take, and how it is checked. */
import { z } from 'zod';
import { SpillwayError } from '../errors.js';
import type { EbpfOptions } from './ebpf-tier.js';
import { MAX_SLOTS } from './layout.js';
import { type AskedOptions, assertOptionName, checkOptions, OPTIONS } from './options.js';
import type { Keeping, Rescues } from './tier.js';

/** What `open()` and `of()` take besides the options of the table. */
export interface CommonOptions extends AskedOptions {
  /** Slots the group can grow to, from the number of sockets to 1024. Default: 64, or the number of sockets. */
  capacity?: number;
  /** How the kernel program reads a listener: `cast` (Linux 6.2), `probe` (before), `auto` (default). */
  readBy?: EbpfOptions['readBy'];
  /** Keep the sockets in a SOCKMAP instead of a REUSEPORT_SOCKARRAY. Needs CAP_NET_ADMIN. Default: false. */
  sockmap?: boolean;
  /**
   * Below the `ebpf` selector, takes the descriptor of a connection that waited in the queue of a leaving socket.
   * The descriptor is the callee's, unless it throws: then it is closed here. Without it such a socket cannot leave while `migrate` is on.
   */
  onConnection?: (fd: number, fromSlot: number) => void;
  /** @internal Whether `explain()` is wanted. */
  explain?: boolean;
  /** @internal What only a master has: its workers' hints, and who carries out rescues. */
  service?: ServiceLinks;
}

/** What a group that serves workers of a master is linked with. */
export interface ServiceLinks {
  /** Descriptor of the map of hints (native/bpf/layout.h), the caller's and open as long as the group. */
  hints?: number | undefined;
  rescues?: Rescues | undefined;
  /** Whether workers can be told to take from a waiting list. */
  takesWaiting?: boolean | undefined;
  /** Where the group's descriptors are kept for the next master. */
  keeping?: Keeping | undefined;
}

export interface OpenOptions extends CommonOptions {
  /** Host name or numeric address; default: all addresses, IPv6 and IPv4. */
  host?: string;
  /** 0 to 65535; 0, the default, takes any free port, the same for all sockets. */
  port?: number;
  /** How many sockets to open, 1 to 1024; they fill the slots from 0 on. */
  sockets: number;
}

/** What `add()` takes. */
export interface AddOptions {
  /** An existing listener, of which the group takes a duplicate; without it the group opens one. */
  fd?: number | undefined;
  /** An empty slot, from 0 to the capacity minus one; default: the first empty one. */
  slot?: number | undefined;
  /** Of this slot alone; default: the group's. With false it is not chosen before `setOption('enabled', true, slot)`. */
  enabled?: boolean | undefined;
  /** Of this slot alone; default: the group's. */
  weight?: number | undefined;
  /** Of this slot alone; default: the group's. */
  cpu?: number | undefined;
  /** Of this slot alone; default: the group's. */
  maxConnections?: number | undefined;
}

const OPENING = z.object({
  sockets: z.int().min(1).max(MAX_SLOTS),
  capacity: z.int().min(1).max(MAX_SLOTS).optional(),
  readBy: z.enum(['auto', 'cast', 'probe']).optional(),
  sockmap: z.boolean().optional(),
  onConnection: z
    .custom<(fd: number, slot: number) => void>((value) => typeof value === 'function')
    .optional(),
  explain: z.boolean().optional(),
  service: z.custom<ServiceLinks>((value) => typeof value === 'object').optional(),
  host: z.string().optional(),
  port: z.int().min(0).max(65535).optional(),
});

const OPENING_RANGES: Record<string, string> = {
  sockets: `integer, 1 to ${MAX_SLOTS}`,
  capacity: `integer, 1 to ${MAX_SLOTS}`,
  readBy: "'auto', 'cast', 'probe'",
  sockmap: 'boolean',
  onConnection: 'function',
  explain: 'boolean',
  service: 'object',
  host: 'host name or address',
  port: 'integer, 0 to 65535',
};

const ADDING = z.object({
  // Whether it is a descriptor at all is found out where it is used.
  fd: z.number().optional(),
  slot: z.int().min(0).optional(),
  enabled: OPTIONS.enabled.schema.optional(),
  weight: OPTIONS.weight.schema.optional(),
  cpu: OPTIONS.cpu.schema.optional(),
  maxConnections: OPTIONS.maxConnections.schema.optional(),
});

const ADDING_RANGES: Record<string, string> = {
  fd: 'descriptor',
  slot: 'integer from 0',
  enabled: OPTIONS.enabled.range,
  weight: OPTIONS.weight.range,
  cpu: OPTIONS.cpu.range,
  maxConnections: OPTIONS.maxConnections.range,
};

/** What was given at the opening, checked. */
export interface Opening extends z.infer<typeof OPENING> {
  /** The options of the table among it. */
  asked: AskedOptions;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_UNKNOWN`, `ERR_SPILLWAY_OPTION_RANGE` */
export function checkOpening(given: Readonly<Record<string, unknown>>): Opening {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(OPENING_RANGES, name)) assertOptionName(name);
  }
  return { ...checkFields(OPENING, OPENING_RANGES, given), asked: checkOptions(given) };
}

/** The same for a group of `count` existing sockets, whose address and binding are what they are. */
export function checkAdoption(given: Readonly<Record<string, unknown>>, count: number): Opening {
  for (const name of ['host', 'port', 'sockets']) if (name in given) assertOptionName(name);
  const opening = checkOpening({ ...given, sockets: Math.min(Math.max(count, 1), MAX_SLOTS) });
  if (count > MAX_SLOTS) {
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `a group has at most ${MAX_SLOTS} sockets, not ${count}`,
    );
  }
  for (const name of ['v6Only', 'freeBind', 'bindToDevice'] as const) {
    if (opening.asked[name] !== undefined) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_FIXED',
        `${name} cannot be set on sockets that are already bound`,
      );
    }
  }
  return opening;
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_UNKNOWN`, `ERR_SPILLWAY_OPTION_RANGE` */
export function checkAdding(given: AddOptions): AddOptions {
  if (typeof given !== 'object' || given === null) {
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `add() takes an object such as { fd, slot }, not ${JSON.stringify(given)}`,
    );
  }
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(ADDING_RANGES, name)) continue;
    throw new SpillwayError('ERR_SPILLWAY_OPTION_UNKNOWN', `add() takes no '${name}'`);
  }
  return checkFields(ADDING, ADDING_RANGES, { ...given });
}

/** @param ranges by field, in words for the error message. */
function checkFields<Schema extends z.ZodObject>(
  schema: Schema,
  ranges: Readonly<Record<string, string>>,
  given: Readonly<Record<string, unknown>>,
): z.infer<Schema> {
  const checked = schema.safeParse(given);
  if (checked.success) return checked.data;
  const name = String(checked.error.issues[0]?.path[0]);
  throw new SpillwayError(
    'ERR_SPILLWAY_OPTION_RANGE',
    `${name} cannot be ${JSON.stringify(given[name])}; it takes: ${ranges[name]}`,
  );
}
