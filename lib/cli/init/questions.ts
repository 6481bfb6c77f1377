/**
 * What `spillway init` asks, how each answer is checked when it is given, and what it is called as a flag. Pure, but for
 * looking at the machine.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname, resolve } from 'node:path';
import { isName, NAME_RANGE } from '../../control/names.js';
import { isPlace } from '../../serve/placement.js';
import { START_OPTIONS } from '../start/options.js';

/** In the order in which they are asked. */
export const QUESTION_NAMES = [
  'script',
  'name',
  'host',
  'ports',
  'instances',
  'max-connections',
  'overflow',
  'placement',
  'monitor',
  'keeper-placement',
  'logs',
  'node',
  'node-args',
  'initial-heap',
  'max-heap',
  'env',
  'user',
] as const;
export type QuestionName = (typeof QUESTION_NAMES)[number];

/** All answers, as they were written; an empty one asks for the default. */
export type Answers = Record<QuestionName, string>;

export interface Question {
  /** For the flag of the same name: `--max-heap`. */
  name: QuestionName;
  text: string;
  /** What is offered, from the answers of before. */
  initial: (before: Partial<Answers>) => string;
  /** What is wrong with an answer, as a sentence; undefined: nothing. Empty answers are not checked unless `isNeeded`. */
  check: (answer: string, before: Partial<Answers>) => string | undefined;
  isNeeded?: boolean;
}

const nothing = () => '';
const asOption =
  (name: keyof typeof START_OPTIONS) =>
  (answer: string): string | undefined => {
    const { kind } = START_OPTIONS[name];
    const value = kind.fromText?.(answer) ?? answer;
    return kind.schema.safeParse(value).success ? undefined : `it takes: ${kind.range}`;
  };

function checkScript(answer: string): string | undefined {
  const found = statSync(resolve(answer), { throwIfNoEntry: false });
  if (!found) return `there is no file ${resolve(answer)}`;
  return found.isFile() ? undefined : `${resolve(answer)} is no file`;
}

function checkExecutable(answer: string): string | undefined {
  try {
    accessSync(answer, constants.X_OK);
    return undefined;
  } catch {
    return `${answer} is no program that can be run`;
  }
}

function checkFolder(answer: string): string | undefined {
  const path = resolve(answer);
  const found = statSync(path, { throwIfNoEntry: false });
  if (found) return found.isDirectory() ? undefined : `${path} is no folder`;
  return existsSync(dirname(path)) ? undefined : `the folder ${dirname(path)} is not there`;
}

/** An interface by name stands for its first address. */
export function addressOf(answer: string): string | undefined {
  const interfaces = networkInterfaces();
  if (answer === '') return '';
  const named = interfaces[answer];
  if (named) return named[0]?.address;
  return answer;
}

function checkHost(answer: string): string | undefined {
  if (/^[\w.:%-]+$/.test(answer) && addressOf(answer) !== undefined) return undefined;
  const names = Object.keys(networkInterfaces()).join(', ');
  return `it takes: an address, a host name, or an interface (${names})`;
}

function checkPorts(answer: string): string | undefined {
  const ports = answer.split(',').map((each) => each.trim());
  const wrong = ports.find((port) => !/^\d{1,5}$/.test(port) || Number(port) > 65_535);
  if (wrong !== undefined) return `'${wrong}' is no port`;
  return new Set(ports).size === ports.length ? undefined : 'one of them is there twice';
}

function checkHeap(answer: string): string | undefined {
  return /^\d+$/.test(answer) && Number(answer) >= 8 ? undefined : 'it takes: megabytes, from 8 on';
}

function checkVariables(answer: string): string | undefined {
  const wrong = answer.split(/\s+/).find((each) => !/^[A-Za-z_]\w*=/.test(each));
  return wrong === undefined ? undefined : `'${wrong}' is not KEY=VALUE`;
}

/** What the program of a package is usually called. */
const PROGRAMS = ['server', 'app', 'index', 'dist/index'].flatMap((name) =>
  ['js', 'mjs', 'cjs'].map((extension) => `${name}.${extension}`),
);

const ASKED: Record<QuestionName, Omit<Question, 'name'>> = {
  script: {
    text: 'Which program shall be run?',
    initial: () => PROGRAMS.find(existsSync) ?? '',
    check: checkScript,
    isNeeded: true,
  },
  name: {
    text: 'What is the service called?',
    initial: ({ script = '' }) => /([^/]+?)(\.[cm]?[jt]s)?$/.exec(script)?.[1] ?? '',
    check: (answer) => (isName(answer) ? undefined : `it takes: ${NAME_RANGE}`),
    isNeeded: true,
  },
  host: {
    text: 'On which address or network interface? (none: all)',
    initial: nothing,
    check: checkHost,
  },
  ports: {
    text: 'On which ports? (several: with commas)',
    initial: () => '8080',
    check: checkPorts,
    isNeeded: true,
  },
  instances: {
    text: 'How many workers? (a number, max, or a range such as 2-8)',
    initial: () => 'max',
    check: asOption('instances'),
    isNeeded: true,
  },
  'max-connections': {
    text: 'How many connections may a worker have? (none: no limit)',
    initial: nothing,
    check: asOption('maxConnections'),
  },
  overflow: {
    text: 'Who finds no room: drop, reset or wait?',
    initial: () => 'drop',
    check: asOption('overflow'),
    isNeeded: true,
  },
  placement: {
    text: 'On which processors do the workers run? (auto, or such as 0,1,2-3; none: anywhere)',
    initial: nothing,
    check: asOption('placement'),
  },
  monitor: {
    text: 'Shall the master be kept alive, so that its end is noticed by nobody? (yes, no)',
    initial: () => 'yes',
    check: (answer) => (['yes', 'no'].includes(answer) ? undefined : 'it takes: yes or no'),
    isNeeded: true,
  },
  'keeper-placement': {
    text: 'On which processors does the keeper run? (none: anywhere)',
    initial: nothing,
    check: (answer, { monitor }) => {
      if (monitor === 'no') return 'there is no keeper';
      return isPlace(answer) ? undefined : 'it takes: processors such as 0 or 2-3, or node1';
    },
  },
  logs: {
    text: 'In which folder are the logs written? (none: the output goes to the journal)',
    initial: nothing,
    check: checkFolder,
  },
  node: {
    text: 'With which Node?',
    initial: () => process.execPath,
    check: checkExecutable,
    isNeeded: true,
  },
  'node-args': {
    text: 'With which options of Node?',
    initial: nothing,
    check: asOption('nodeArgs'),
  },
  'initial-heap': {
    text: 'How large is the heap of a worker at first, in megabytes? (none: as Node has it)',
    initial: nothing,
    check: checkHeap,
  },
  'max-heap': {
    text: 'And at most?',
    initial: nothing,
    check: (answer, { 'initial-heap': initial }) =>
      checkHeap(answer) ??
      (initial && Number(answer) < Number(initial) ? `it is at least the first one, ${initial}` : undefined),
  },
  env: {
    text: 'With which variables? (KEY=VALUE, with spaces between them)',
    initial: nothing,
    check: checkVariables,
  },
  user: {
    text: 'As which user does systemd run it? (none: one of its own)',
    initial: nothing,
    check: (answer) => (/^[\w.-]+(:[\w.-]+)?$/.test(answer) ? undefined : 'it takes: a user, or user:group'),
  },
};

export const QUESTIONS: readonly Question[] = QUESTION_NAMES.map((name) => ({ name, ...ASKED[name] }));

/** What is wrong with an answer; undefined: nothing. */
export function problemWith(
  question: Question,
  answer: string,
  before: Partial<Answers>,
): string | undefined {
  if (answer === '') return question.isNeeded ? 'it has no default' : undefined;
  return question.check(answer, before);
}
