/** `spillway init`: asks what a service needs, and writes its config file and its unit for systemd. */
import { existsSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { SpillwayError } from '../errors.js';
import { configText, unitText } from './init/files.js';
import { type Answers, problemWith, QUESTIONS } from './init/questions.js';
import { exit, INTERRUPTED } from './start/exit.js';

const CONFIG = 'spillway.config.mjs';
const CLI = fileURLToPath(new URL('main.js', import.meta.url));

interface Given {
  yes?: boolean;
  force?: boolean;
  [flag: string]: unknown;
}

export function initCommand(): Command {
  const command = new Command('init')
    .description('ask what a service needs, and write a config file and a unit for systemd')
    .option('--yes', 'ask nothing: take the flags, and the defaults for the rest')
    .option('--force', 'write over files that are there');
  for (const { name, text } of QUESTIONS) command.addOption(new Option(`--${name} <answer>`, text));
  return command.action(async (given: Given) => init(given));
}

async function init(given: Given): Promise<void> {
  const folder = process.cwd();
  const config = resolve(folder, CONFIG);
  if (!given.force) refuse([config]);
  const answers = given.yes ? fromFlags(given) : await asked(given);
  if (!answers) {
    process.stderr.write('\nnothing was written\n');
    exit(INTERRUPTED);
  }
  const unit = resolve(folder, `${answers.name}.service`);
  const files = [
    { path: config, text: configText(answers) },
    { path: unit, text: unitText(answers, { config, cli: CLI, folder }) },
  ];
  if (!given.force) refuse([unit]);
  for (const { path, text } of files) writeFileSync(path, text);
  const names = files.map(({ path }) => relative(folder, path));
  process.stdout.write(
    `\nwritten: ${names.join(', ')}\n\n  npx spillway start\n  sudo systemctl enable --now ${unit}\n`,
  );
}

/** What is there already is not written over. */
function refuse(paths: readonly string[]): void {
  for (const path of paths.filter(existsSync)) {
    throw new SpillwayError('ERR_SPILLWAY_CONFIG', `${relative(process.cwd(), path)} is there already`, {
      hint: 'Move it away, or write over it with --force.',
    });
  }
}

const camel = (name: string) => name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());

/** Undefined for a flag that was not given. */
function flagOf(given: Given, name: string): string | undefined {
  const value = given[camel(name)];
  return value === undefined ? undefined : String(value);
}

/** @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` naming all that is wrong. */
function fromFlags(given: Given): Answers {
  const answers: Partial<Answers> = {};
  const problems: string[] = [];
  for (const question of QUESTIONS) {
    const answer = flagOf(given, question.name) ?? question.initial(answers);
    const problem = problemWith(question, answer, answers);
    if (problem !== undefined)
      problems.push(`--${question.name}${answer === '' ? '' : ` ${answer}`}: ${problem}`);
    answers[question.name] = answer;
  }
  if (problems.length > 0) throw new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', problems.join('\n'));
  return answers as Answers;
}

/** Undefined when the questions were broken off, by Ctrl-C or by the end of the terminal. */
async function asked(given: Given): Promise<Answers | undefined> {
  if (!process.stdin.isTTY) {
    throw new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', 'there is no terminal to ask on', {
      hint: 'Give the answers as flags, with --yes; `spillway init --help` lists them.',
    });
  }
  const { input } = await import('@inquirer/prompts');
  const ended = new AbortController();
  for (const event of ['end', 'close', 'error']) process.stdin.once(event, () => ended.abort());
  const answers: Partial<Answers> = {};
  for (const question of QUESTIONS) {
    const { name, text } = question;
    if (name === 'keeper-placement' && answers.monitor === 'no') {
      answers[name] = '';
      continue;
    }
    const asking = {
      message: text,
      default: flagOf(given, name) ?? question.initial(answers),
      validate: (answer: string) => problemWith(question, answer, answers) ?? true,
    };
    try {
      answers[name] = await input(asking, { signal: ended.signal });
    } catch (error) {
      if (['ExitPromptError', 'AbortPromptError'].includes((error as Error).name)) return undefined;
      throw error;
    }
  }
  return answers as Answers;
}
