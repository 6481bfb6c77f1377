/** What `spillway start` is to start: command line, config file and environment, put together. */
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { assertName, isName, NAME_RANGE, nameOfProgram } from '../../control/names.js';
import { SpillwayError } from '../../errors.js';
import type { MasterOptions, WorkerChange } from '../../serve/options.js';
import { problemsIn } from './check.js';
import { type Config, differences, loadConfigs } from './config.js';
import { findConfig, isConfigFile } from './config-file.js';
import { GROUP_SETTINGS, RELOADABLE, type SettingName, type Settings } from './options.js';
import { identityOf } from './user.js';
import { type Instances, instances } from './values.js';

/** What was given on the command line. */
export interface Call {
  script: string | undefined;
  /** `args` only if there are any; paths as they were written. */
  settings: Settings;
  config: string | undefined;
  /** Which `env_NAME` of the config file counts. */
  envName: string | undefined;
  /** Which service of the config file is meant, where it has several. */
  service?: string | undefined;
}

/** Where the workers' output goes instead of to the master's own. */
export type LogPlaces = Pick<Settings, 'logs' | 'outFile' | 'errorFile' | 'logFile'>;

export class Plan {
  readonly name: string;
  readonly settings: Settings;
  readonly notes: readonly string[];
  /** Absolute. */
  readonly configFile: string | undefined;
  readonly #call: Call;

  private constructor(
    call: Call,
    name: string,
    settings: Settings,
    config: Pick<Plan, 'configFile' | 'notes'>,
  ) {
    this.#call = call;
    this.name = name;
    this.settings = settings;
    this.configFile = config.configFile;
    this.notes = config.notes;
  }

  /**
   * @throws {SpillwayError} `ERR_SPILLWAY_CONFIG`, `ERR_SPILLWAY_OPTION_RANGE`
   */
  static async of(call: Call): Promise<Plan> {
    const plans = await Plan.all(call);
    const [first] = plans;
    const named = call.service === undefined ? undefined : plans.find(({ name }) => name === call.service);
    if (named) return named;
    if (first && plans.length === 1 && call.service === undefined) return first;
    const names = plans.map(({ name }) => name).join(', ');
    throw wrong(
      call.service === undefined
        ? `the config file has several services: ${names}`
        : `the config file has no service '${call.service}'; it has: ${names}`,
      'Name one with --service.',
    );
  }

  /**
   * All services of a call: one, unless the config file has several. What the command line says besides is for all of them.
   *
   * @throws {SpillwayError} as {@link of}
   */
  static async all(call: Call): Promise<Plan[]> {
    const asConfig = call.config === undefined && call.script !== undefined && isConfigFile(call.script);
    const given = asConfig ? { ...call, script: undefined, config: call.script } : call;
    const file = given.config ?? (given.script === undefined ? findConfig(process.cwd()) : undefined);
    if (file === undefined && given.script === undefined) throw nothingToStart(undefined);
    if (file === undefined && given.envName !== undefined) {
      throw wrong('--env-name is for a config file, and there is none');
    }
    const settled = file === undefined ? given : { ...given, config: resolve(file) };
    const configs = file === undefined ? [undefined] : await loadConfigs(file, given.envName);
    if (configs.length > 1) assertFitsSeveral(settled);
    const problems: string[] = [];
    const plans = configs.flatMap((config) => {
      const settings = merged(settled, config);
      const place = config?.place ?? '';
      const { script } = settings;
      if (script === undefined && place === '') throw nothingToStart(config?.file);
      const name = settings.name ?? nameOfProgram(script ?? '');
      if (place === '') assertName(name);
      const found = [
        ...(script === undefined ? ['script is missing'] : []),
        ...(isName(name) ? [] : [`name cannot be '${name}'; it takes: ${NAME_RANGE}`]),
        ...problemsIn(settings),
      ];
      problems.push(...found.map((problem) => (place === '' ? problem : `${place}${problem}`)));
      const own = configs.length > 1 ? { ...settled, service: name } : settled;
      return new Plan(own, name, settings, { configFile: config?.file, notes: config?.notes ?? [] });
    });
    if (problems.length > 0) throw wrong(problems.join('\n'));
    return plans;
  }

  /** Which of several services of its config file it is; undefined where there is only one. */
  get service(): string | undefined {
    return this.#call.service;
  }

  /** The same call with the config file as it is now. */
  again(): Promise<Plan> {
    return Plan.of(this.#call);
  }

  /** The settings in force once a reload has taken over what it can. */
  takingOver(next: Plan): Plan {
    const settings: Settings = { ...this.settings };
    for (const name of this.#takenOver(next)) assign(settings, name, next.settings[name]);
    return new Plan(next.#call, this.name, settings, next);
  }

  /** Keys of which `next` says something else, and that only a new master would take over. */
  needRestart(next: Plan): string[] {
    const takenOver = this.#takenOver(next);
    return differences(this.settings, next.settings).filter((name) => !takenOver.includes(name));
  }

  /** What says how a program is called means something else for a script than for a command, which it cannot become. */
  #takenOver(next: Plan): readonly SettingName[] {
    if (this.settings.exec === next.settings.exec) return RELOADABLE;
    return RELOADABLE.filter((name) => name !== 'script' && name !== 'args' && name !== 'nodeArgs');
  }

  /** The script or command and what the workers get of it. */
  get program(): string {
    const { script = '', args = [] } = this.settings;
    return [script, ...args].join(' ');
  }

  /** All that a reload may change; what is not asked for is there as undefined, and takes the place of what was. */
  get change(): WorkerChange {
    const { exec, script, args = [], nodeArgs, cwd, env } = this.settings;
    const change = {
      script: exec ? undefined : script,
      command: exec ? script : undefined,
      args,
      env: { ...this.#identity?.env, ...env },
      execArgv: nodeArgs,
      cwd,
    };
    return change as WorkerChange;
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` for a user that is not known. */
  get master(): MasterOptions {
    const { settings } = this;
    const identity = this.#identity;
    const options: Record<string, unknown> = {
      ...this.change,
      workers: settings.instances,
      stdio: 'pipe',
      ...(identity ? { uid: identity.uid, gid: identity.gid, groups: identity.groups } : {}),
      ...places(settings),
    };
    for (const name of [...SAME_NAME, ...GROUP_SETTINGS]) options[name] = settings[name];
    return Object.fromEntries(
      Object.entries(options).filter(([, value]) => value !== undefined),
    ) as unknown as MasterOptions;
  }

  get #identity(): ReturnType<typeof identityOf> | undefined {
    return this.settings.user === undefined ? undefined : identityOf(this.settings.user);
  }
}

/** Settings that the master has under the same name. */
const SAME_NAME = [
  'waitReady',
  'startTimeout',
  'drainTimeout',
  'killTimeout',
  'autoRestart',
  'minUptime',
  'restartDelay',
  'maxRestartDelay',
  'maxRestarts',
  'maxMemory',
  'stuckAfter',
  'hangTimeout',
  'ticketKeyRotation',
  'idleTimeout',
  'placement',
] as const satisfies (SettingName & keyof MasterOptions)[];

/** What is opened beforehand; the master takes one place by itself, or a list. */
function places({ host, port, listen }: Settings): Pick<MasterOptions, 'host' | 'port' | 'listen'> {
  const first = port === undefined ? undefined : { port, ...(host === undefined ? {} : { host }) };
  if (listen !== undefined && listen.length > 0) return { listen: first ? [first, ...listen] : listen };
  if (first === undefined && host !== undefined) throw wrong('host needs port');
  return first ?? {};
}

/** The command line counts more than the file, variable by variable for `env`. */
function merged({ script, settings: given }: Call, config: Config | undefined): Settings {
  const fromFile = config?.settings ?? {};
  const settings: Settings = { ...fromFile, ...given };
  // A path in the file is relative to the working directory the file gives, one on the command line to the caller's.
  if (script !== undefined) settings.script = located(script, process.cwd(), settings.exec);
  else if (fromFile.script !== undefined) {
    settings.script = located(fromFile.script, fromFile.cwd ?? process.cwd(), settings.exec);
  }
  for (const name of ['cwd', 'logs'] as const) {
    if (given[name] !== undefined) settings[name] = resolve(given[name]);
  }
  settings.cwd ??= process.cwd();
  if (!settings.exec) delete settings.exec;
  settings.instances ??= instancesByEnvironment();
  if (fromFile.env !== undefined || given.env !== undefined) settings.env = { ...fromFile.env, ...given.env };
  return settings;
}

/** A bare name of an executable is looked for in PATH. */
function located(script: string, folder: string, exec: boolean | undefined): string {
  return exec && !script.includes('/') ? script : resolve(folder, script);
}

function instancesByEnvironment(): Instances {
  const { WEB_CONCURRENCY: text } = process.env;
  const result = instances.schema.safeParse(text ? text : 'max');
  if (result.success) return result.data;
  throw wrong(`the variable WEB_CONCURRENCY cannot be '${text}'; it takes: ${instances.range}`);
}

function nothingToStart(config: string | undefined): SpillwayError {
  if (config !== undefined) {
    return new SpillwayError('ERR_SPILLWAY_CONFIG', `${config}: script is missing`);
  }
  const here = existsSync('package.json') ? ' (package.json is not one)' : '';
  return wrong(
    `there is nothing to start: no SCRIPT, no --config, and no spillway.config.* in ${basename(process.cwd()) || '/'}${here}`,
    'Say what to start: `spillway start app.js`.',
  );
}

function wrong(message: string, hint = '`spillway start --help` lists the options.'): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', message, { hint });
}

/** What is one service's alone cannot be said for several at once. */
function assertFitsSeveral({ script, settings }: Call): void {
  const single = (['name', 'port', 'host', 'listen', 'args'] as const).filter(
    (name) => settings[name] !== undefined,
  );
  const [first] = script === undefined ? single : ['script', ...single];
  if (first !== undefined)
    throw wrong(`${first} is for one service, and the config file has several`, 'Name one with --service.');
}

function assign<Name extends SettingName>(
  settings: Settings,
  name: Name,
  value: Settings[Name] | undefined,
): void {
  if (value === undefined) delete settings[name];
  else settings[name] = value;
}
