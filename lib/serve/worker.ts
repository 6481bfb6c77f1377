/** One worker process, from its launch to its exit, as the master sees it. */
import type { ChildProcess, Serializable } from 'node:child_process';
import { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { SpillwayError } from '../errors.js';
import { type FromWorker, isOurs, toWorker } from './protocol.js';

/**
 * `starting`: not listening yet; `listening`: takes connections (a program other than Node's is believed to from the
 * moment it runs); `closed`: alive, but its server has been closed; `exited`: gone.
 */
export type WorkerState = 'starting' | 'listening' | 'closed' | 'exited';

/** What users of a master see of a worker. */
export interface Worker {
  readonly slot: number;
  /** Undefined only if the process could not be started. */
  readonly pid: number | undefined;
  readonly state: WorkerState;
  /** The ends of the worker's standard streams that were asked for as 'pipe'. */
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** Sends a message to a Node program, which gets it by `process.on('message')`. False if it could not be sent. */
  send(message: Serializable): boolean;
  /** Sends a signal; false if it could not be sent: the worker has exited, or the master may not (kill(2)). */
  kill(signal?: NodeJS.Signals): boolean;
}

interface Events {
  /** The state has changed, except to `exited`. */
  state: [];
  /** The process is gone and its launcher's report has been read; its last messages may still be on the way. */
  exit: [code: number | null, signal: NodeJS.Signals | null];
  message: [message: Serializable, handle: unknown];
  /** What the worker did with connection `id`. */
  answer: [id: number, accepted: boolean];
  /** No message and no answer will come any more. May be emitted twice. */
  disconnect: [];
}

export class WorkerProcess extends EventEmitter<Events> implements Worker {
  readonly slot: number;
  readonly #child: ChildProcess;
  readonly #isNode: boolean;
  #state: WorkerState = 'starting';
  /** Ports other than the slot's that the program listened on: the usual reason for never being ready. */
  readonly #elsewhere = new Set<number>();
  #report = '';
  #reportEnded = false;
  #killError: Error | undefined;
  #end: { code: number | null; signal: NodeJS.Signals | null } | undefined;

  /** @param isNode whether the program has the preload and speaks through the IPC channel. */
  constructor(slot: number, child: ChildProcess, isNode: boolean) {
    super();
    this.slot = slot;
    this.#child = child;
    this.#isNode = isNode;
    child.on('exit', (code, signal) => this.#exited(code, signal));
    child.on('error', (error) => this.#failed(error));
    child.on('message', (message, handle) => this.emit('message', message, handle));
    (child as EventEmitter).on(
      'internalMessage',
      (message) => isOurs(message) && this.#hear(message as FromWorker),
    );
    child.on('disconnect', () => this.emit('disconnect'));
    // Without descriptors for it there is no pipe; 'error' follows then.
    const report = child.stdio?.[4] as Readable | undefined;
    report?.setEncoding('utf8');
    report?.on('data', (text: string) => {
      this.#report += text;
    });
    report?.on('close', () => this.#launched());
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get state(): WorkerState {
    return this.#state;
  }

  get stdin(): Writable | null {
    return this.#child.stdin;
  }

  get stdout(): Readable | null {
    return this.#child.stdout;
  }

  get stderr(): Readable | null {
    return this.#child.stderr;
  }

  /** Whether a connection can be handed to it. */
  get canTake(): boolean {
    return this.#state === 'listening' && this.#child.connected;
  }

  send(message: Serializable): boolean {
    if (!this.#child.connected) return false;
    // A worker that dies meanwhile is reported by its exit.
    return this.#child.send(message, () => {});
  }

  /** Sends the TCP handle of a connection, which stays the caller's as well; an `answer` or `disconnect` follows. */
  hand(id: number, handle: unknown): void {
    this.#child.send(toWorker({ event: 'connection', id }), handle as never, () => {});
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): boolean {
    return this.#child.kill(signal);
  }

  /** Why the worker is not ready, for an error message: "worker 0 (process 123) …". */
  whyNotReady(): SpillwayError {
    const name = `worker ${this.slot} (process ${this.pid ?? 'not started'})`;
    const ports = [...this.#elsewhere].map((port) => (port === 0 ? 'any free port (0)' : `port ${port}`));
    const elsewhere = ports.length === 0 ? '' : `; it asked for ${ports.join(', ')} instead`;
    const hint =
      ports.length === 0
        ? 'The output of the program may say why.'
        : 'Let the program listen on the port in the environment variable PORT.';
    if (this.#report !== '') return new SpillwayError('ERR_SPILLWAY_WORKER', `${name}: ${this.#report}`);
    if (!this.#end)
      return new SpillwayError('ERR_SPILLWAY_WORKER', `${name} does not listen${elsewhere}`, { hint });
    const { code, signal } = this.#end;
    const how = signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
    return new SpillwayError('ERR_SPILLWAY_WORKER', `${name} ${how} before it listened${elsewhere}`, {
      hint,
    });
  }

  /** Why it lives after SIGKILL, as far as that is known. */
  whyNotEnded(): SpillwayError {
    const reason = this.#killError ? `cannot be ended: ${this.#killError.message}` : 'did not end on SIGKILL';
    return new SpillwayError('ERR_SPILLWAY_WORKER', `worker ${this.slot} (process ${this.pid}) ${reason}`, {
      cause: this.#killError,
      hint: 'End it by hand; it holds the port. A master needs CAP_KILL to end workers of another user.',
    });
  }

  #hear(message: FromWorker): void {
    switch (message.event) {
      case 'listening':
      case 'closed':
        this.#become(message.event);
        break;
      case 'elsewhere':
        this.#elsewhere.add(message.port);
        break;
      case 'accepted':
      case 'refused':
        this.emit('answer', message.id, message.event === 'accepted');
        break;
    }
  }

  #become(state: WorkerState): void {
    // The last messages of a worker may be read after its exit.
    if (this.#state === 'exited' || this.#state === state) return;
    this.#state = state;
    this.emit('state');
  }

  /** The launcher has become the program, or has failed and said why. */
  #launched(): void {
    this.#reportEnded = true;
    if (this.#report === '' && !this.#isNode && !this.#end) this.#become('listening');
    this.#finish();
  }

  /** A process that cannot be started, which has no 'exit', or a signal that cannot be sent; messages have callbacks. */
  #failed(error: Error): void {
    if (this.pid !== undefined) {
      this.#killError = error;
      return;
    }
    this.#report = `cannot be started: ${error.message}`;
    this.#reportEnded = true;
    this.#exited(null, null);
  }

  #exited(code: number | null, signal: NodeJS.Signals | null): void {
    this.#end = { code, signal };
    this.#finish();
  }

  #finish(): void {
    if (!this.#end || !this.#reportEnded || this.#state === 'exited') return;
    this.#state = 'exited';
    this.emit('exit', this.#end.code, this.#end.signal);
    // Node tells nothing of a channel that ends before a handle has been acknowledged. What the worker wrote is in the
    // channel by now, and has been read after one whole turn of the event loop; this one may be over halfway.
    setImmediate(() => setImmediate(() => this.emit('disconnect')));
  }
}
