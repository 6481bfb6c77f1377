/** How a running master is found and talked to. */
import { readFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { ERRORS, type ErrorCode, SpillwayError, systemError } from '../errors.js';
import { namesIn, runtimeFolder, socketPath } from './names.js';
import {
  type Failure,
  type LinesDropped,
  type OutputLine,
  type ReloadResult,
  type RestartResult,
  type ScaleResult,
  type ScaleTo,
  type ServiceStatus,
  type StopResult,
  VERSION,
} from './protocol.js';

/** Milliseconds for what a master answers at once; a stopped process never does. */
const SHORT = 10_000;

/** Milliseconds between two looks whether a process has gone. */
const LOOK_EVERY = 5;

/** Milliseconds that a master has to end after it has said that everything is done. */
const LAST_STEPS = 10_000;

interface Asking {
  body?: object;
  /** Milliseconds until the answer begins; undefined: as long as it takes. */
  timeout?: number;
}

/** The control socket of one master, seen from outside. */
export class Control {
  readonly name: string;
  readonly path: string;

  private constructor(name: string, path: string) {
    this.name = name;
    this.path = path;
  }

  /**
   * The master of that name; without a name the only one that runs.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NOT_RUNNING`, `ERR_SPILLWAY_NAME_NEEDED` (several run), `ERR_SPILLWAY_CONTROL`
   */
  static async find(name: string | undefined, folder = runtimeFolder()): Promise<Control> {
    if (name !== undefined) {
      const control = new Control(name, socketPath(folder, name));
      if (namesIn(folder).includes(name) && (await control.isAlive())) return control;
      throw await notRunning(name, folder);
    }
    const [first, ...others] = await Control.all(folder);
    if (!first) throw await notRunning(undefined, folder);
    if (others.length === 0) return first;
    const names = [first, ...others].map((each) => each.name);
    throw new SpillwayError('ERR_SPILLWAY_NAME_NEEDED', `several masters run: ${names.join(', ')}`);
  }

  /** Every master of this user that runs, by name. */
  static async all(folder = runtimeFolder()): Promise<Control[]> {
    const controls = namesIn(folder).map((name) => new Control(name, socketPath(folder, name)));
    const alive = await Promise.all(controls.map((control) => control.isAlive()));
    return controls.filter((_, index) => alive[index]);
  }

  /** Whether anybody listens. A killed master leaves its file. */
  isAlive(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.path);
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
        else
          reject(
            systemError(
              'ERR_SPILLWAY_CONTROL',
              `the control socket of '${this.name}' does not answer`,
              error,
            ),
          );
      });
    });
  }

  status(): Promise<ServiceStatus> {
    return this.#ask('GET', '/status', { timeout: SHORT });
  }

  reload(options: { together: boolean }): Promise<ReloadResult> {
    return this.#ask('POST', '/reload', { body: options });
  }

  restart(): Promise<RestartResult> {
    return this.#ask('POST', '/restart');
  }

  scale(to: ScaleTo): Promise<ScaleResult> {
    return this.#ask('POST', '/scale', { body: to });
  }

  /** Resolves when the master's process has gone, and its socket file with it. */
  async stop(): Promise<StopResult> {
    const { pid } = await this.status();
    const identity = identityOf(pid);
    let result: StopResult | undefined;
    try {
      result = await this.#ask<StopResult>('POST', '/stop');
    } catch (error) {
      // Somebody else has stopped it meanwhile, or killed it.
      if (identityOf(pid) === identity && (await this.isAlive())) throw error;
    }
    const end = performance.now() + LAST_STEPS;
    while (identity !== undefined && identityOf(pid) === identity) {
      if (performance.now() > end) {
        throw new SpillwayError(
          'ERR_SPILLWAY_CONTROL',
          `process ${pid} has stopped serving, but does not end`,
          {
            hint: `Look at it, and end it by \`kill -9 ${pid}\`: its workers have gone.`,
          },
        );
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
    }
    return result ?? { stopped: true, pid, after: 0 };
  }

  /** Calls for every line; resolves when there are no more. `signal` ends it. */
  async logs(
    query: { lines: number; slot: number | undefined; follow: boolean },
    take: (line: OutputLine | LinesDropped) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const search = new URLSearchParams({ lines: String(query.lines) });
    if (query.slot !== undefined) search.set('worker', String(query.slot));
    if (query.follow) search.set('follow', '1');
    const response = await this.#open('GET', `/logs?${search}`, { timeout: SHORT });
    signal?.addEventListener('abort', () => response.destroy());
    if (response.statusCode !== 200) throw failureIn(await textOf(response), this.name);
    const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
    response.on('error', () => lines.close());
    for await (const line of lines) take(JSON.parse(line));
  }

  async #ask<Result>(method: string, path: string, asking: Asking = {}): Promise<Result> {
    const response = await this.#open(method, path, asking);
    const text = await textOf(response).catch((error: Error) => {
      throw this.#broken(error);
    });
    if (response.statusCode !== 200) throw failureIn(text, this.name);
    return JSON.parse(text) as Result;
  }

  #open(method: string, path: string, { body, timeout }: Asking): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.path, method, path: VERSION + path, agent: false };
      const query: ClientRequest = request(options, (response) => {
        query.setTimeout(0);
        resolve(response);
      });
      if (timeout !== undefined) {
        query.setTimeout(timeout, () =>
          query.destroy(new Error(`no answer for ${timeout / 1000} seconds (is the process stopped?)`)),
        );
      }
      query.on('error', (error) => reject(this.#broken(error)));
      query.setHeader('content-type', 'application/json');
      query.end(body === undefined ? '' : JSON.stringify(body));
    });
  }

  #broken(error: Error): SpillwayError {
    return systemError(
      'ERR_SPILLWAY_CONTROL',
      `the master '${this.name}' does not answer, or has ended meanwhile`,
      error,
    );
  }
}

async function notRunning(name: string | undefined, folder: string): Promise<SpillwayError> {
  const others = (await Control.all(folder)).map((each) => each.name);
  const what = name === undefined ? 'no master runs' : `no master named '${name}' runs`;
  return new SpillwayError('ERR_SPILLWAY_NOT_RUNNING', what, {
    hint:
      others.length > 0
        ? `Running: ${others.join(', ')}.`
        : `Start one with \`spillway start SCRIPT\`. Looked for control sockets in ${folder}: those of another user, or of another XDG_RUNTIME_DIR, are elsewhere.`,
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const part of response) text += part;
  return text;
}

/** The error that the master had, as if it had happened here. */
function failureIn(text: string, name: string): SpillwayError {
  try {
    const { error } = JSON.parse(text) as Failure;
    const known = Object.hasOwn(ERRORS, error.code);
    return new SpillwayError(known ? (error.code as ErrorCode) : 'ERR_SPILLWAY_CONTROL', error.message, {
      hint: error.hint,
    });
  } catch {
    return new SpillwayError('ERR_SPILLWAY_CONTROL', `the master '${name}' gave no answer that makes sense`);
  }
}

/** What tells a process from a later one of the same number (its start, proc_pid_stat(5)); undefined once it has ended. */
function identityOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : rest[18];
  } catch {
    return undefined;
  }
}
