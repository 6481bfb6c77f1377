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
  type UpgradeResult,
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
  /** What it means when the connection breaks before the answer is there. */
  broken?: string;
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

  /**
   * Every master of this user that runs, by name. A file that cannot be talked to hides no other one.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL` when there are such files alone.
   */
  static async all(folder = runtimeFolder()): Promise<Control[]> {
    const controls = namesIn(folder).map((name) => new Control(name, socketPath(folder, name)));
    const looks = await Promise.allSettled(controls.map((control) => control.isAlive()));
    const alive = controls.filter((_, index) => {
      const look = looks[index];
      return look?.status === 'fulfilled' && look.value;
    });
    const broken = looks.find((look) => look.status === 'rejected');
    if (alive.length === 0 && broken) throw broken.reason;
    return alive;
  }

  /**
   * Whether anybody listens. A killed master leaves its file.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_CONTROL` for a file that cannot be talked to.
   */
  isAlive(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.path);
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (isNobodyThere(error)) resolve(false);
        // Its accept queue is full: somebody listens, and does not accept.
        else if (error.code === 'EAGAIN') resolve(true);
        else
          reject(
            systemError(
              'ERR_SPILLWAY_CONTROL',
              `the control socket of '${this.name}' does not answer`,
              error,
              `Remove ${this.path}, unless you know whose it is.`,
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

  /**
   * Resolves when the master's process has gone, and its socket file with it.
   *
   * @throws {SpillwayError} What the master could not do, or `ERR_SPILLWAY_CONTROL` when it ended without an answer:
   *   nobody knows what has become of its workers then.
   */
  async stop(): Promise<StopResult> {
    const begin = performance.now();
    const { pid } = await this.status();
    const identity = identityOf(pid);
    try {
      await this.#ask<StopResult>('POST', '/stop', {
        broken: `the master '${this.name}' (process ${pid}) has ended without an answer`,
      });
    } catch (error) {
      // Somebody else has stopped it since it told its status.
      if (!isNobodyThere((error as SpillwayError).cause)) throw error;
    }
    await this.#gone(pid, identity);
    return { stopped: true, pid, after: Math.round(performance.now() - begin) };
  }

  /** Another master is to go on; resolves when this one is about to end. */
  upgrade(): Promise<UpgradeResult> {
    return this.#ask('POST', '/upgrade');
  }

  async #gone(pid: number, identity: string | undefined): Promise<void> {
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
    await new Promise<void>((resolve, reject) => {
      const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
      lines.on('line', (line) => take(JSON.parse(line)));
      let reason = new Error('it has closed the connection');
      // Of the response, which it listens to.
      lines.on('error', (error: Error) => {
        reason = error;
      });
      response.on('error', () => {});
      // It follows in every case, also where the connection breaks in the midst of a line.
      response.once('close', () => {
        lines.close();
        if (response.complete || signal?.aborted) resolve();
        else reject(this.#broken(reason, `the master '${this.name}' has ended without ending its output`));
      });
    });
  }

  async #ask<Result>(method: string, path: string, asking: Asking = {}): Promise<Result> {
    const response = await this.#open(method, path, asking);
    const text = await textOf(response).catch((error: Error) => {
      throw this.#broken(error, asking.broken);
    });
    if (response.statusCode !== 200) throw failureIn(text, this.name);
    return JSON.parse(text) as Result;
  }

  #open(method: string, path: string, { body, timeout, broken }: Asking): Promise<IncomingMessage> {
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
      query.on('error', (error) => reject(this.#broken(error, isNobodyThere(error) ? undefined : broken)));
      query.setHeader('content-type', 'application/json');
      query.end(body === undefined ? '' : JSON.stringify(body));
    });
  }

  #broken(
    error: Error,
    what = `the master '${this.name}' does not answer, or has ended meanwhile`,
  ): SpillwayError {
    return systemError(
      'ERR_SPILLWAY_CONTROL',
      what,
      error,
      'The log of the master may say why; `spillway status` says whether it runs.',
    );
  }
}

/** Whether a connection failed because nobody listens there any more. */
function isNobodyThere(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' || code === 'ENOENT';
}

async function notRunning(name: string | undefined, folder: string): Promise<SpillwayError> {
  const others = (await Control.all(folder).catch(() => [])).map((each) => each.name);
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
