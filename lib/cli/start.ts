/** `spillway start`: runs a program with several workers behind its ports, and keeps them alive. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { SpillwayError } from '../errors.js';
import { exitCodeOf, tellFailure } from './failure.js';
import { exit } from './start/exit.js';
import { SETTING_NAMES, type Settings, START_OPTIONS } from './start/options.js';
import type { Call, Plan } from './start/plan.js';
import { Signals } from './start/signals.js';
import type { Upgraded } from './start/upgrade.js';
import { counted } from './text.js';

/** What commander gives besides the settings. */
interface Given extends Record<string, unknown> {
  config?: string;
  envName?: string;
  service?: string;
  daemon?: boolean;
  json?: boolean;
}

/** Options that are not known here are most likely meant for the program. */
class StartCommand extends Command {
  override error(message: string, options?: { code?: string; exitCode?: number }): never {
    const more =
      options?.code === 'commander.unknownOption' ? '\nArguments of the program go behind `--`.' : '';
    return super.error(message + more, options);
  }
}

export function startCommand(): Command {
  const command = new StartCommand('start')
    .description('run a program with several workers behind its ports, and keep them alive')
    .argument('[script]', 'Node program, or with --exec any other; or a config file')
    .argument('[args...]', 'arguments of the program, behind --')
    .option('-c, --config <file>', 'config file (docs/config.md); default: spillway.config.* in this folder')
    .option('--service <name>', 'start this one of the services of the config file, and no other')
    .option('--env-name <name>', 'add env_NAME of the config file to its env')
    .option('--daemon', 'detach, and return when the service is ready or has failed')
    .option('--json', 'with --daemon: print one JSON object (docs/cli.md)');
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
    .action((script: string | undefined, args: string[], given: Given, self: Command) => {
      if (given.json && !given.daemon) self.error('error: --json is for --daemon; see --log-format');
      return start(callOf(script, args, given), given);
    });
}

/** Undefined for what only a config file can say. */
function optionOf(name: (typeof SETTING_NAMES)[number]): Option | undefined {
  const { flag, flagText, text, many, kind, default: initial } = START_OPTIONS[name];
  if (flag === undefined) return undefined;
  if (!flag.includes('<')) return new Option(flag, flagText ?? text);
  const option = new Option(flag, `${text} Default: ${initial}`);
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
  const { config, envName, service } = given;
  return { script, settings: settings as Settings, config, envName, service };
}

/** Ends the process: what may still be open (a stalled output, say) shall not keep it. */
async function start(call: Call, { daemon: wanted, json }: Given): Promise<void> {
  const signals = new Signals();
  const { endWithStarter, runServices } = await import('./start/services.js');
  endWithStarter();
  const { DAEMON_VARIABLE, DaemonReport, startDaemon } = await import('./start/daemon.js');
  const { becomeKeeper, isKept } = await import('./start/keeper.js');
  const isDaemon = process.env[DAEMON_VARIABLE] !== undefined;
  let report: ReturnType<typeof DaemonReport.take>;
  let plan: Plan | undefined;
  try {
    const { Plan } = await import('./start/plan.js');
    const plans = call.service === undefined ? await Plan.all(call) : [await Plan.of(call)];
    if (signals.ending) exit(0);
    // Of several services each child sees to its own.
    if (!isDaemon && !isKept() && (wanted || plans.length === 1)) {
      const { upgradeRunning } = await import('./start/upgrade.js');
      for (const each of [...plans]) {
        const upgraded = each.settings.monitor ? await upgradeRunning(each.name) : undefined;
        if (!upgraded) continue;
        await tellUpgraded(upgraded, json === true);
        plans.splice(plans.indexOf(each), 1);
      }
      if (plans.length === 0) exit(0);
    }
    if (plans.length > 1 && !wanted) {
      exit(await runServices(plans, process.argv.slice(1)));
    }
    if (wanted && !isDaemon) {
      let code = 0;
      // One after another: whoever fails is told of, and keeps no other from starting.
      for (const each of plans) code ||= await tellDaemon(each, await startDaemon(each), json === true);
      exit(code);
    }
    [plan] = plans;
    if (!plan) return;
    if (plan.settings.monitor && !isKept()) becomeKeeper(plan.name, plan.settings.keeperPlacement);
    report = DaemonReport.take();
    const { runService } = await import('./start/service.js');
    await runService(plan, signals, report);
    exit(0);
  } catch (error) {
    const code = exitCodeOf(error);
    (report ?? DaemonReport.take())?.failed(error, code, []);
    if (error instanceof SpillwayError && plan?.settings.logFormat === 'json') tellAsJson(plan.name, error);
    else tellFailure(error, json === true && !report);
    exit(code);
  }
}

/** As pino writes its most severe level: whoever reads the log as JSON gets nothing else. */
function tellAsJson(name: string, { code, message, hint }: SpillwayError): void {
  const line = { level: 60, time: Date.now(), name, pid: process.pid, code, hint, msg: message };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}

/** Resolves when everything has been written. */
async function tellUpgraded(upgraded: Upgraded, json: boolean): Promise<void> {
  const { name, pid, replaced, version, from, workers } = upgraded;
  const versions = version === from ? '' : `, ${from} → ${version}`;
  const text = `${name}: process ${pid} goes on for process ${replaced}${versions}; ${counted(workers, 'worker')} served on`;
  const line = json ? JSON.stringify(upgraded, null, 2) : text;
  await new Promise<unknown>((done) => process.stdout.write(`${line}\n`, done));
}

/** Resolves when everything has been written. */
async function tellDaemon(
  plan: Plan,
  outcome: Awaited<ReturnType<typeof import('./start/daemon.js').startDaemon>>,
  json: boolean,
): Promise<number> {
  if ('ready' in outcome) {
    const { name, pid, logs, urls } = outcome.ready;
    const where = urls.length === 0 ? '' : `, ${urls.join(', ')}`;
    const text = `${name} is ready: process ${pid}${where}\nLogs: ${logs}`;
    const object = () => JSON.stringify({ name, pid, urls, logs }, null, 2);
    await new Promise<unknown>((done) => process.stdout.write(`${json ? object() : text}\n`, done));
    return 0;
  }
  if ('ended' in outcome) {
    process.stderr.write(`${plan.name} was told to end before it was ready\n`);
    return 0;
  }
  for (const line of outcome.output) process.stderr.write(`${line}\n`);
  tellFailure(outcome.failed, json);
  return outcome.exitCode;
}
