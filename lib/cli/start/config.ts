/** From what a config file says to the settings of its service: names, values, and the habits of other process managers. */
import { dirname, isAbsolute, resolve } from 'node:path';
import { inspect, isDeepStrictEqual } from 'node:util';
import { nameOfProgram } from '../../control/names.js';
import { SpillwayError } from '../../errors.js';
import { splitPlace } from '../../serve/options.js';
import { problemsIn } from './check.js';
import { configError, readConfig } from './config-file.js';
import {
  FAMILIAR,
  IGNORED,
  SETTING_NAMES,
  type SettingName,
  type Settings,
  START_OPTIONS,
  UNSUPPORTED,
} from './options.js';

export interface Config {
  file: string;
  /** Where the service's keys are, for messages: `apps[0].` or nothing. */
  place: string;
  settings: Settings;
  /** Sentences about what was taken in another sense than it was meant. */
  notes: string[];
}

/** A path in it is relative to the folder of the file. */
const PATHS = ['cwd', 'logs', 'outFile', 'errorFile', 'logFile'] as const satisfies SettingName[];

const OWN_NAME = new Map<string, SettingName>(
  SETTING_NAMES.flatMap((name) =>
    [name, ...(START_OPTIONS[name].aliases ?? [])].map((key) => [key, name] as const),
  ),
);

/**
 * Every service of the file.
 *
 * @param environment which `env_NAME` is added to `env`.
 * @throws {SpillwayError} `ERR_SPILLWAY_CONFIG` naming the file and all that is wrong in it, by their keys.
 */
export async function loadConfigs(file: string, environment?: string): Promise<Config[]> {
  return interpretConfigs(file, await readConfig(file), environment);
}

/** The part of {@link loadConfigs} that knows no file. */
export function interpretConfigs(file: string, value: unknown, environment?: string): Config[] {
  const problems: string[] = [];
  const configs = servicesIn(file, value).map(({ service, place }) => {
    const reader = new ConfigReader(file, environment, place);
    const settings = reader.read(service);
    problems.push(...reader.problems);
    return interpreted(file, place, settings, reader.notes);
  });
  problems.push(...conflicts(configs));
  if (problems.length === 0) return configs;
  // What the command line could still put right is said as well: nothing is started anyway.
  for (const { place, settings } of configs)
    problems.push(...problemsIn(settings).map((problem) => `${file}: ${place}${problem}`));
  throw configError(problems.join('\n'));
}

function interpreted(file: string, place: string, settings: Settings, notes: string[]): Config {
  const folder = dirname(resolve(file));
  for (const name of PATHS) {
    const path = settings[name];
    if (path !== undefined && !isAbsolute(path)) settings[name] = resolve(folder, path);
  }
  settings.cwd ??= folder;
  return { file: resolve(file), place, settings, notes };
}

/** What no two services of a file may have. */
function conflicts(configs: readonly Config[]): string[] {
  const problems: string[] = [];
  const names = new Map<string, Config>();
  const ports = new Map<number, { host: string | undefined; config: Config }[]>();
  for (const config of configs) {
    const { file, place, settings } = config;
    const name = nameOf(settings);
    const other = names.get(name);
    if (name !== '' && other)
      problems.push(`${file}: ${place}name: '${name}' is ${other.place.slice(0, -1)} already`);
    else names.set(name, config);
    const { host, port, listen = [] } = settings;
    const places = [...(port === undefined ? [] : [{ host, port }]), ...listen.map(placeOf)];
    for (const each of places) {
      const used = ports.get(each.port) ?? [];
      const same = used.find(
        (place) => place.host === undefined || each.host === undefined || place.host === each.host,
      );
      if (each.port !== 0 && same && same.config !== config) {
        problems.push(
          `${file}: ${place}port: ${each.port} is used by ${same.config.place.slice(0, -1)} as well`,
        );
      }
      ports.set(each.port, [...used, { host: each.host, config }]);
    }
  }
  return problems;
}

function placeOf(given: NonNullable<Settings['listen']>[number]): { host: string | undefined; port: number } {
  const place = typeof given === 'object' ? given : splitPlace(String(given));
  return { host: place?.host, port: place?.port ?? 0 };
}

/** What a service is called, as far as that is known: empty for one without a script. */
export function nameOf({ name, script }: Settings): string {
  return name ?? (script === undefined ? '' : nameOfProgram(script));
}

/** @throws {SpillwayError} `ERR_SPILLWAY_CONFIG` */
function servicesIn(file: string, value: unknown): { service: Record<string, unknown>; place: string }[] {
  const wrong = (place: string, what: string) =>
    configError(`${file}: ${place === '' ? '' : `${place}: `}${what}`);
  if (!isObject(value)) throw wrong('', `a config file holds an object, not ${show(value)}`);
  const key = ['services', 'apps'].find((each) => each in value);
  if (key === undefined) return [{ service: value, place: '' }];
  const { [key]: given, ...others } = value;
  const [beside] = Object.keys(others);
  if (beside !== undefined && beside !== 'deploy') {
    throw wrong(beside, `beside \`${key}\` there is nothing else; move it into the service`);
  }
  const list: unknown[] = Array.isArray(given) ? given : [given];
  if (list.length === 0) throw wrong(key, 'holds no service');
  return list.map((service, index) => {
    const place = Array.isArray(given) ? `${key}[${index}]` : key;
    if (!isObject(service)) throw wrong(place, `a service is an object, not ${show(service)}`);
    return { service, place: `${place}.` };
  });
}

class ConfigReader {
  readonly notes: string[] = [];
  readonly problems: string[] = [];
  readonly #file: string;
  readonly #environment: string | undefined;
  readonly #prefix: string;
  /** Under which name each setting was given. */
  readonly #given = new Map<SettingName, string>();
  readonly #settings: Record<string, unknown> = {};

  constructor(file: string, environment: string | undefined, place: string) {
    this.#file = file;
    this.#environment = environment;
    this.#prefix = place;
  }

  /** @returns what could be read; the rest is among the problems. */
  read(service: Record<string, unknown>): Settings {
    const collect = (act: () => void) => {
      try {
        act();
      } catch (error) {
        if (!(error instanceof SpillwayError)) throw error;
        this.problems.push(error.message);
      }
    };
    for (const [key, each] of Object.entries(service)) collect(() => this.#key(key, each, service));
    collect(() => this.#addEnvironment(service));
    return this.#settings as Settings;
  }

  #key(key: string, value: unknown, service: Record<string, unknown>): void {
    // As in JavaScript: a key without a value asks for nothing.
    if (value === undefined) return;
    const name = OWN_NAME.get(key);
    if (name !== undefined) {
      this.#set(name, key, value);
    } else if (key === 'interpreter' || key === 'exec_interpreter') {
      this.#interpreter(key, value);
    } else if (key === 'exec_mode') {
      this.#execMode(key, value, service);
    } else if (key === 'uid' || key === 'gid') {
      this.#identity(key, value, service);
    } else if (key.startsWith('env_')) {
      this.#checked('env', key, value);
    } else if (Object.hasOwn(UNSUPPORTED, key)) {
      if (value !== false && value !== null) {
        throw this.#wrong(key, `is not supported: ${UNSUPPORTED[key]}`);
      }
    } else if (!IGNORED.includes(key)) {
      throw this.#wrong(key, `there is no such key${didYouMean(key)}`);
    }
  }

  #set(name: SettingName, key: string, value: unknown): void {
    const other = this.#given.get(name);
    if (other !== undefined)
      throw this.#wrong(key, `is another name of ${this.#prefix}${other}, which is given as well`);
    this.#given.set(name, key);
    this.#settings[name] = this.#checked(name, key, value);
  }

  #checked(name: SettingName, key: string, value: unknown): unknown {
    const { schema, range } = START_OPTIONS[name].kind;
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    // Inside of a value, such as env.PORT; a list of alternatives has no path of its own.
    const inside = result.error.issues[0]?.path ?? [];
    const path = inside.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
    let wrong = value;
    for (const part of inside) wrong = (wrong as Record<PropertyKey, unknown> | undefined)?.[part];
    throw this.#wrong(key + path, `cannot be ${show(wrong)}; it takes: ${range}`);
  }

  #interpreter(key: string, value: unknown): void {
    if (value === 'node') return;
    if (value !== 'none') {
      throw this.#wrong(
        key,
        `cannot be ${show(value)}; write script: ${show(value)}, exec: true, and the program as the first of args (a loader for Node: nodeArgs: ['--import', …])`,
      );
    }
    this.#set('exec', key, true);
  }

  #execMode(key: string, value: unknown, { instances, workers }: Record<string, unknown>): void {
    if (value === 'cluster' || value === 'cluster_mode') return;
    if (value !== 'fork' && value !== 'fork_mode') {
      throw this.#wrong(
        key,
        `cannot be ${show(value)}; it takes: \`cluster\`, or \`fork\` with one instance`,
      );
    }
    const count = instances ?? workers ?? 1;
    if (String(count) !== '1') {
      throw this.#wrong(
        key,
        `cannot be ${show(value)} with ${show(count)} instances; remove it, and they share the port`,
      );
    }
    if (instances === undefined && workers === undefined) this.#settings.instances = 1;
    this.notes.push(`${this.#prefix}${key} '${String(value)}' is one worker like any other`);
  }

  /** `uid` and `gid` are the two halves of `user`. */
  #identity(key: string, value: unknown, { uid, gid }: Record<string, unknown>): void {
    const isOne = (half: unknown) =>
      half === undefined ||
      (typeof half === 'string' && half !== '' && !half.includes(':')) ||
      Number.isInteger(half);
    if (!isOne(value)) throw this.#wrong(key, `cannot be ${show(value)}; it takes: name or number`);
    if (uid === undefined) throw this.#wrong(key, 'needs uid, or user');
    // Both keys come here; the first one has set the whole.
    if (this.#given.get('user') === 'uid' || this.#given.get('user') === 'gid') return;
    this.#set('user', key, gid === undefined ? String(uid) : `${String(uid)}:${String(gid)}`);
  }

  #addEnvironment(service: Record<string, unknown>): void {
    if (this.#environment === undefined) return;
    const key = `env_${this.#environment}`;
    if (service[key] === undefined) throw this.#wrong(key, 'is not there, and --env-name asks for it');
    const more = this.#checked('env', key, service[key]) as Record<string, string | undefined>;
    this.#settings.env = { ...(this.#settings.env as object | undefined), ...more };
  }

  #wrong(key: string, what: string): Error {
    const place = this.#prefix + key;
    return configError(`${this.#file}: ${place === '' ? '' : `${place.replace(/\.$/, '')}: `}${what}`);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
}

const KNOWN_KEYS = [...OWN_NAME.keys(), ...Object.keys(FAMILIAR)];

/** The known key that differs in letter case, `_` and `-` alone, or in one or two letters. */
function didYouMean(key: string): string {
  const bare = (text: string) => text.replace(/[_-]/g, '').toLowerCase();
  const near =
    KNOWN_KEYS.find((known) => bare(known) === bare(key)) ??
    KNOWN_KEYS.find((known) => distance(known, key) <= 2);
  return near === undefined ? '' : ` (did you mean ${near}?)`;
}

/** Levenshtein's. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const replace = (row[j - 1] as number) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row.at(-1) as number;
}

/** The keys whose values differ. */
export function differences(before: Settings, after: Settings): SettingName[] {
  return SETTING_NAMES.filter((name) => !isDeepStrictEqual(before[name], after[name]));
}
