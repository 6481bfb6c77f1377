/** `spillway start`: runs a program with several workers behind its ports, and keeps them alive. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { SpillwayError } from '../errors.js';
import { tellFailure } from './failure.js';
import { SETTING_NAMES, type Settings, START_OPTIONS } from './start/options.js';
import type { Call, Plan } from './start/plan.js';
import { Signals } from './start/signals.js';

/** What commander gives besides the settings. */
interface Given extends Record<string, unknown> {
  config?: string;
  envName?: string;
  daemon?: boolean;
}

export function startCommand(): Command {
  const command = new Command('start')
    .description('run a program with several workers behind its ports, and keep them alive')
    .argument('[script]', 'Node program, or with --exec any other; or a config file')
    .argument('[args...]', 'arguments of the program, behind --')
    .option('-c, --config <file>', 'config file (docs/config.md); default: spillway.config.* in this folder')
    .option('--env-name <name>', 'add env_NAME of the config file to its env')
    .option('--daemon', 'detach, and return when the service is ready or has failed');
  for (const name of SETTING_NAMES) {
    const option = optionOf(name);
    if (option) command.addOption(option);
  }
  return command
    .addHelpText(
      'after',
      `
Signals: TERM and INT end it gracefully (a second INT at once), HUP reloads, TTIN and TTOU add and remove a worker,
USR2 opens log files anew.
Exit codes: 0 ended gracefully, 2 usage or config file, 3 no worker came up, 130 second INT, 1 anything else.`,
    )
    .action((script: string | undefined, args: string[], given: Given) =>
      start(callOf(script, args, given), given),
    );
}

/** Undefined for what only a config file can say. */
function optionOf(name: (typeof SETTING_NAMES)[number]): Option | undefined {
  const { flag, text, many, kind, default: initial } = START_OPTIONS[name];
  if (flag === undefined) return undefined;
  const option = new Option(flag, `${text} Default: ${initial}`);
  if (!flag.includes('<')) return option;
  return option.argParser((given: string, before: unknown) => {
    const value = name === 'env' ? variable(given) : (kind.fromText?.(given) ?? given);
    const { success, data } = kind.schema.safeParse(value) as { success: boolean; data?: unknown };
    if (!success) throw new InvalidArgumentError(`It takes: ${kind.range}.`);
    if (!many) return data;
    return Array.isArray(data)
      ? [...((before as unknown[]) ?? []), ...data]
      : { ...(before as object), ...(data as object) };
  });
}

function variable(text: string): Record<string, string> {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('It takes: KEY=VALUE.');
  return { [name]: value };
}

function callOf(script: string | undefined, args: string[], given: Given): Call {
  const settings: Record<string, unknown> = args.length > 0 ? { args } : {};
  for (const name of SETTING_NAMES) {
    // A `--no-…` option is there with its default unless it was given.
    if (given[name] !== undefined && !(name === 'autoRestart' && given[name] === true))
      settings[name] = given[name];
  }
  return { script, settings: settings as Settings, config: given.config, envName: given.envName };
}

/** Ends the process: what may still be open (a stalled output, say) shall not keep it. */
async function start(call: Call, { daemon: wanted }: Given): Promise<void> {
  const signals = new Signals();
  const { DaemonReport, startDaemon } = await import('./start/daemon.js');
  const report = DaemonReport.take();
  try {
    const { Plan } = await import('./start/plan.js');
    const plan = await Plan.of(call);
    if (signals.ending) process.exit(0);
    if (wanted && !report) process.exit(tellDaemon(plan, await startDaemon(plan)));
    const { runService } = await import('./start/service.js');
    await runService(plan, signals, report);
    process.exit(0);
  } catch (error) {
    const { exitCodeOf } = await import('./start/service.js');
    const code = exitCodeOf(error);
    report?.failed(error, code, []);
    tellFailure(error);
    process.exit(error instanceof SpillwayError ? code : 1);
  }
}

function tellDaemon(
  plan: Plan,
  outcome: Awaited<ReturnType<typeof import('./start/daemon.js').startDaemon>>,
): number {
  if ('ready' in outcome) {
    const { name, pid, logs, urls } = outcome.ready;
    const where = urls.length === 0 ? '' : `, ${urls.join(', ')}`;
    process.stdout.write(`${name} is ready: process ${pid}${where}\nLogs: ${logs}\n`);
    return 0;
  }
  if ('ended' in outcome) {
    process.stderr.write(`${plan.name} was told to end before it was ready\n`);
    return 0;
  }
  for (const line of outcome.output) process.stderr.write(`${line}\n`);
  tellFailure(outcome.failed);
  return outcome.exitCode;
}
