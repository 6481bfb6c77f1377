/** A config file as it is written: which one, and what its text or program says. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { SpillwayError } from '../../errors.js';
import type { Reading } from './config-reader.js';
import { faultIn } from './json-place.js';

const EXTENSIONS = ['js', 'mjs', 'cjs', 'json', 'ts', 'mts', 'cts'];

/** `spillway.config.js`, and names such as `shop.config.mjs` and `ecosystem.config.cjs` that mean the same elsewhere. */
const CONFIG_NAME = new RegExp(`(^|\\.)config\\.(${EXTENSIONS.join('|')})$`);

/** Milliseconds for a config file that is a program. */
const READ_TIMEOUT = 10_000;

const READER = fileURLToPath(new URL('config-reader.js', import.meta.url));

/** Whether a SCRIPT is really the config file of one. */
export function isConfigFile(path: string): boolean {
  return CONFIG_NAME.test(basename(path)) || extname(path) === '.json';
}

/** The one in that folder, if any. */
export function findConfig(folder: string): string | undefined {
  return EXTENSIONS.map((extension) => join(folder, `spillway.config.${extension}`)).find(existsSync);
}

export function configError(message: string, hint?: string, cause?: unknown): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_CONFIG', message, {
    ...(hint === undefined ? {} : { hint }),
    cause,
  });
}

/**
 * What the file holds, unchecked.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_CONFIG` with the place where it is wrong.
 */
export async function readConfig(path: string): Promise<unknown> {
  const file = resolve(path);
  let text: string;
  try {
    // A program is read as well, so that one that is missing or not ours to read is told of in the same words.
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw configError(
      `the config file ${path} cannot be read: ${(cause as Error).message}`,
      'Check the path, and who may read it.',
      cause,
    );
  }
  return extname(file) === '.json' ? parse(path, text) : evaluate(path, file);
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    const { line, column } = faultIn(text.replace(/^\uFEFF/, ''));
    throw configError(
      `${path}:${line}:${column}: not JSON: ${(cause as Error).message}`,
      'JSON has no comments, no trailing commas and double quotes only; name the file .mjs to write JavaScript.',
      cause,
    );
  }
}

async function evaluate(path: string, file: string): Promise<unknown> {
  const { reading, complaint } = await runReader(path, file);
  if ('value' in reading) return reading.value;
  if ('fault' in reading) {
    const { path: key, what } = reading.fault;
    throw configError(`${path}: ${key === '' ? 'the default export ' : `${key}: `}${what}`);
  }
  const { text, code } = reading.error;
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[cm]?ts$/.test(file)) {
    throw configError(
      `${path} is TypeScript, which this Node (${process.version}) cannot import`,
      "Write it as .mjs or .json, or let Node load TypeScript: NODE_OPTIONS='--import tsx'.",
    );
  }
  throw configError(
    `${placeIn(text, file) ?? placeIn(complaint, file) ?? path}: ${reasonIn(text)}`,
    'The config file is run as a program; repair it there.',
  );
}

/** `complaint` is what the program and Node have printed. */
function runReader(path: string, file: string): Promise<{ reading: Reading; complaint: string }> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [READER, file], {
      // What the file prints is not ours: it must not get between the lines of `--json`.
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      timeout: READ_TIMEOUT,
      killSignal: 'SIGKILL',
    });
    let [result, complaint] = ['', ''];
    child.stdio[3]?.on('data', (part: Buffer) => {
      result += part;
    });
    child.stderr?.on('data', (part: Buffer) => {
      complaint += part;
    });
    child.on('error', fail);
    child.on('close', (code, signal) => {
      if (result !== '') return done({ reading: JSON.parse(result) as Reading, complaint });
      const how =
        signal === 'SIGKILL'
          ? `did not end within ${READ_TIMEOUT / 1000} seconds`
          : `ended with ${signal ?? `code ${code}`} instead of giving a value`;
      fail(configError(`${path} ${how}${complaint === '' ? '' : `\n${complaint.trimEnd()}`}`));
    });
  });
}

/** `file:line` or `file:line:column` as Node's error text has it; of the file itself if it is named, else of another. */
function placeIn(text: string, file: string): string | undefined {
  const places = [...text.matchAll(/(?:^|[\s(]|file:\/\/)(\/[^\s():]+):(\d+)(?::(\d+))?/gm)];
  const [, name, line, column] =
    places.find(([, each]) => each === file) ??
    places.find(([, each]) => !each?.includes('/node_modules/')) ??
    [];
  return name === undefined ? undefined : `${name}:${line}${column === undefined ? '' : `:${column}`}`;
}

/** The line that says what is wrong, without the stack. */
function reasonIn(text: string): string {
  const lines = stripVTControlCharacters(text).split('\n');
  return lines.find((line) => /^\w*(Error|Exception)\b.*:/.test(line)) ?? (lines[0] as string);
}
