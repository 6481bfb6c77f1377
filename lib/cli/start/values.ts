/** How values are written, on the command line and in a config file. */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { MAX_SLOTS } from '../../group/layout.js';
import { isPlace, type Placement } from '../../serve/placement.js';

/** One way of writing values: what a config file may say, and how a text of the command line becomes that. */
export interface Kind<Value = unknown> {
  /** From what the config file says to the value in use. */
  schema: z.ZodType<Value>;
  /** In words, for error messages and the documentation. */
  range: string;
  /** What a text of the command line stands for; default: itself. */
  fromText?: (text: string) => unknown;
}

/** A timer of Node's takes no more. */
export const LONGEST = 2 ** 31 - 1;

const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const BYTES: Readonly<Record<string, number>> = { B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** '1.5s' by the units in the table; a number without a unit counts in the smallest. Undefined if it is neither. */
function withUnit(
  text: string | number,
  units: Readonly<Record<string, number>>,
  normal: (unit: string) => string,
): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(String(text).trim());
  if (!match) return undefined;
  const unit = normal(match[2] ?? '');
  if (unit !== '' && !Object.hasOwn(units, unit)) return undefined;
  return Math.round(Number(match[1]) * (unit === '' ? 1 : (units[unit] as number)));
}

/** Milliseconds. */
export function parseDuration(text: string | number): number | undefined {
  return withUnit(text, MILLISECONDS, (unit) => unit.toLowerCase());
}

/** Bytes; K, M, G and T count by 1024, with or without B or iB behind them. */
export function parseSize(text: string | number): number | undefined {
  return withUnit(text, BYTES, (unit) => unit.toUpperCase().replace(/^([KMGT])I?B$/, '$1'));
}

/**
 * How many workers. `max` and 0 are the CPUs that this process may use, −1 is one less than those; never less than one.
 */
export function parseInstances(given: string | number, cpus = availableParallelism()): number | undefined {
  const text = String(given).trim().toLowerCase();
  if (text === 'max') return Math.min(cpus, MAX_SLOTS);
  if (!/^-?\d+$/.test(text)) return undefined;
  const number = Number(text);
  if (number > MAX_SLOTS) return undefined;
  return number > 0 ? number : Math.min(Math.max(1, cpus + number), MAX_SLOTS);
}

/** One number, or two with `-` between them, of which the first is not larger. */
export function parseInstanceRange(
  given: string | number | { min: string | number; max: string | number },
  cpus = availableParallelism(),
): Instances | undefined {
  const ends = typeof given === 'string' ? /^\s*(\w+)\s*-\s*(\w+)\s*$/.exec(given) : null;
  const range = ends ? { min: ends[1] ?? '', max: ends[2] ?? '' } : given;
  if (typeof range !== 'object') return parseInstances(range, cpus);
  const [min, max] = [parseInstances(range.min, cpus), parseInstances(range.max, cpus)];
  return min !== undefined && max !== undefined && min <= max ? { min, max } : undefined;
}

/**
 * Splits a text into words as a shell would: at spaces outside of quotes; a backslash takes the next character as it is.
 * Nothing is expanded. Undefined if a quote is not closed.
 */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string;
    if (quote !== '' && char === quote) quote = '';
    else if (char === '\\' && quote !== "'" && at + 1 < text.length) word = (word ?? '') + text[++at];
    else if (quote === '' && (char === '"' || char === "'")) {
      quote = char;
      word ??= '';
    } else if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + char;
  }
  if (quote !== '') return undefined;
  if (word !== undefined) words.push(word);
  return words;
}

/** A schema that is a function: undefined stands for a value out of range. */
function parsed<Input extends z.ZodType, Value>(
  input: Input,
  parse: (value: z.infer<Input>) => Value | undefined,
): z.ZodType<Value> {
  return input.transform((value, context) => {
    const result = parse(value);
    if (result !== undefined) return result;
    context.addIssue({ code: 'custom', message: 'out of range' });
    return z.NEVER;
  }) as unknown as z.ZodType<Value>;
}

const string = z.string().regex(/^[^\0]+$/);
const stringOrNumber = z.union([z.string(), z.number()]);

/** A text of the command line that may stand for a number. */
const numeric = (text: string): unknown => (/^-?\d+$/.test(text.trim()) ? Number(text) : text);

export const text = (range: string): Kind<string> => ({ schema: string, range });

export const boolean: Kind<boolean> = { schema: z.boolean(), range: 'boolean' };

export const integer = (least: number, most: number, unit = ''): Kind<number> => ({
  schema: z.int().min(least).max(most),
  range: `integer, ${least} to ${most}${unit === '' ? '' : ` ${unit}`}`,
  fromText: numeric,
});

export const oneOf = <Word extends string>(...words: Word[]): Kind<Word> => ({
  schema: z.enum(words) as unknown as z.ZodType<Word>,
  range: words.map((word) => `\`${word}\``).join(', '),
});

export const duration = (least: number): Kind<number> => ({
  schema: parsed(stringOrNumber, (value) => {
    const time = parseDuration(value);
    return time !== undefined && time >= least && time <= LONGEST ? time : undefined;
  }),
  range: `milliseconds, or a number with ms, s, m, h or d; at least ${least}`,
});

export const size: Kind<number> = {
  schema: parsed(stringOrNumber, (value) => {
    const bytes = parseSize(value);
    return bytes !== undefined && bytes >= 1 && bytes <= Number.MAX_SAFE_INTEGER ? bytes : undefined;
  }),
  range: 'bytes, or a number with K, M or G',
};

export const placement: Kind<Placement> = {
  schema: parsed(z.union([z.string(), z.number(), z.array(z.union([z.string(), z.number()]))]), (value) => {
    if (value === 'auto') return value;
    const places = Array.isArray(value) ? value.map(String) : String(value).split(',');
    return places.length > 0 && places.every(isPlace) ? places : undefined;
  }),
  range: '`auto`, or a list of places: processors such as `0`, `2-3`, `0+2`, or `node1`',
};

export type Instances = number | { min: number; max: number };

const bound = z.union([z.string(), z.number()]);

export const instances: Kind<Instances> = {
  schema: parsed(z.union([stringOrNumber, z.strictObject({ min: bound, max: bound })]), (value) =>
    parseInstanceRange(value),
  ),
  range: `1 to ${MAX_SLOTS}; \`max\` or 0: the CPUs this process may use; -1: one less; \`2-8\`: as many as the load asks for`,
};

/** Words, as a list or as a shell would split them. */
export const words: Kind<string[]> = {
  schema: parsed(z.union([z.string(), z.array(z.union([z.string(), z.number()]))]), (value) => {
    const list = typeof value === 'string' ? splitWords(value) : value.map(String);
    return list?.some((word) => word.includes('\0')) ? undefined : list;
  }),
  range: 'list of strings, or one string that is split at spaces outside of quotes',
};

/** `null` takes a variable away. */
export const environment: Kind<Record<string, string | undefined>> = {
  schema: parsed(
    z.record(z.string().regex(/^[^=\0]+$/), z.union([z.string(), z.number(), z.boolean(), z.null()])),
    (value) => {
      const entries = Object.entries(value).map(([name, each]) => [
        name,
        each === null ? undefined : String(each),
      ]);
      return Object.fromEntries(entries) as Record<string, string | undefined>;
    },
  ),
  range: 'object of strings, numbers and booleans; `null` takes a variable away',
};

/** `8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`. */
function isAddress(address: string | number): boolean {
  const port = /^(?:(?:\[[^\]]+\]|[^:[\]]*):)?(\d{1,5})$/.exec(String(address))?.[1];
  return port !== undefined && Number(port) <= 65_535;
}

export const addresses: Kind<(number | string)[]> = {
  schema: parsed(z.union([stringOrNumber, z.array(stringOrNumber)]), (value) => {
    const list = Array.isArray(value) ? value : [value];
    return list.every(isAddress) ? list.map((each) => numeric(String(each)) as number | string) : undefined;
  }),
  range: 'port, `host:port` or `[address]:port`, or a list of them',
};
