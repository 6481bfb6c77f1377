/** One worker process, from its launch to its exit, as the master sees it. */
import type { ChildProcess, Serializable } from 'node:child_process';
import { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { SpillwayError } from '../errors.js';
import { type AdoptedEnds, AdoptedProcess, startTimeOf } from './adopted-process.js';
import { channelFdOf, guardChannel } from './channel-guard.js';
import type { HintsPage } from './hints-rows.js';
import { reportAt } from './launch.js';
import { type DrainReason, type FromWorker, isOurs, type ToWorker, toWorker } from './protocol.js';

/**
 * `starting`: not ready yet; `running`: takes connections; `closed`: alive, but its program has closed its servers;
 * `draining`: finishes what it has, and ends; `exited`: gone.
 */
export type WorkerState = 'starting' | 'running' | 'closed' | 'draining' | 'exited';

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
  /** The state has changed, or what it listens on, except by its exit. */
  state: [];
  /** It has become ready, for the first and only time. */
  ready: [];
  /** It listens on the port of that id. */
  listening: [id: number];
  /** It has no listener of that port any more, or not the one of that grant (protocol.ts). */
  closed: [id: number, grant: number | undefined];
  /** It says that it listens on what is no port of the service. Told once. */
  nowhere: [];
  /** The process is gone and its launcher's report has been read; its last messages may still be on the way. */
  exit: [code: number | null, signal: NodeJS.Signals | null];
  message: [message: Serializable, handle: unknown];
  /** What the worker did with a connection that was handed over. */
  answer: [connection: number, accepted: boolean];
  /** No message and no answer will come any more. May be emitted twice. */
  disconnect: [];
}

/** What makes a worker ready. */
export interface Readiness {
  /** The program has the preload and speaks through the IPC channel. */
  isNode: boolean;
  /** Its program says so. */
  waits: boolean;
  /** Otherwise: it listens on all of these ports, or on any if there is none. */
  ports: readonly number[];
  /** How many listeners it was given at its start. */
  listeners: number;
  /** Whether that is the id of a port of the service: a program may write what it likes into its channel. */
  isPort: (id: number) => boolean;
}

/** What has to be known of a worker to go on with it. Plain data; times are those of Date.now(). */
export interface WorkerSnapshot {
  pid: number;
  /** See {@link startTimeOf}: the id alone may be another process's by now. */
  startTime: string;
  state: WorkerState;
  startedAt: number;
  readyAt: number | null;
  listening: { id: number; grant?: number }[];
  readiness: Omit<Readiness, 'isPort'>;
}

/** What a master shares with a worker that has the preload. */
export interface WorkerLinks {
  readonly hints: HintsPage;
  /** The master's end of the channel on which the worker is asked to help others (native/help.h). */
  readonly help: number;
  /** May be called twice. */
  close(): void;
}

/** How long an end may take, in milliseconds: until SIGTERM, and from there to SIGKILL. */
export interface Patience {
  drain: number;
  kill: number;
}

/** Ports asked for behind the master's back that are remembered, for an error message. */
const MOST_ELSEWHERE = 8;

/** Milliseconds after SIGKILL; a process that lives then cannot be ended, or hangs in the kernel. */
const AFTER_SIGKILL = 3000;

/**
 * Milliseconds that one who is starting has to answer when it is asked to drain. It may have begun to listen, and to accept,
 * at a listener that it shares with the worker before it, without its master having heard of it.
 */
const ANSWER = 1000;

/** Milliseconds of a drain's time that are kept for its last message. */
const LATE = 500;

export class WorkerProcess extends EventEmitter<Events> implements Worker {
  readonly slot: number;
  /** What the master shares with it; undefined for programs without the preload. It is closed with the exit. */
  readonly links: WorkerLinks | undefined;
  /** When it was started, and became ready, by performance.now(). */
  readonly startedAt: number;
  readyAt: number | undefined;
  /** Set by whoever watches over it: it is alive and does not react. */
  stuck = false;
  readonly #child: ChildProcess | AdoptedProcess;
  readonly #readiness: Readiness;
  /** The ports it listens on, by id, and the grant by which it has each that was not inherited. */
  readonly #listening = new Map<number, number | undefined>();
  #tellsNowhere = false;
  #state: WorkerState = 'starting';
  /** Ports that the program listened on behind the master's back: the usual reason for never being ready. */
  readonly #elsewhere = new Set<number>();
  #report = '';
  #isAdopted = false;
  #startTime: string | undefined;
  #reportEnded = false;
  #killError: Error | undefined;
  #end: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  #ending: Promise<void> | undefined;
  readonly #drainTime = new Deadline();
  readonly #killTime = new Deadline();
  #drained: (() => void) | undefined;
  /** Why it has been killed, in half a sentence. */
  #killedFor: string | undefined;

  /** @param left of a worker that another master has started, and what it had been by then. */
  constructor(
    slot: number,
    child: ChildProcess | AdoptedProcess,
    readiness: Readiness,
    links?: WorkerLinks,
    left?: WorkerSnapshot,
  ) {
    super();
    // One listener per slot's keeper, port and waiting promise.
    this.setMaxListeners(0);
    this.slot = slot;
    this.links = links;
    this.#child = child;
    this.#readiness = readiness;
    this.startedAt = left ? agoOf(left.startedAt) : performance.now();
    (child as EventEmitter).on('exit', (code, signal) => this.#exited(code, signal));
    (child as EventEmitter).on('error', (error) => this.#failed(error));
    if (!(child instanceof AdoptedProcess))
      guardChannel(child, () =>
        this.hurryAway('was killed: it wrote what is no message into its IPC channel'),
      );
    (child as EventEmitter).on('message', (message, handle) => {
      // Its peer may reset a connection that nobody here has begun to use.
      if (handle instanceof EventEmitter) handle.on('error', () => {});
      if (readiness.waits && message === 'ready') this.#becomeReady();
      this.emit('message', message, handle);
    });
    (child as EventEmitter).on(
      'internalMessage',
      (message) => isOurs(message) && this.#hear(message as FromWorker),
    );
    (child as EventEmitter).on('disconnect', () => this.emit('disconnect'));
    if (left) {
      this.#goOn(left);
      return;
    }
    // Without descriptors for it there is no pipe; 'error' follows then.
    const report = child.stdio?.[reportAt(readiness.listeners)] as Readable | undefined;
    report?.setEncoding('utf8');
    report?.on('data', (text: string) => {
      this.#report += text;
    });
    report?.on('close', () => this.#launched());
  }

  /** What was known of it goes on being so, until it says otherwise. */
  #goOn({ state, readyAt, listening }: WorkerSnapshot): void {
    this.#reportEnded = true;
    this.#isAdopted = true;
    this.#state = state === 'exited' ? 'starting' : state;
    if (readyAt !== null) this.readyAt = agoOf(readyAt);
    for (const { id, grant } of listening) this.#listening.set(id, grant);
  }

  /** For another master to go on with; undefined for one that has gone, or could not be started. */
  snapshot(): WorkerSnapshot | undefined {
    const { pid } = this;
    if (pid === undefined || this.#state === 'exited') return undefined;
    this.#startTime ??= startTimeOf(pid);
    const { isNode, waits, ports, listeners } = this.#readiness;
    return {
      pid,
      startTime: this.#startTime ?? '',
      state: this.#state,
      startedAt: Date.now() - (performance.now() - this.startedAt),
      readyAt: this.readyAt === undefined ? null : Date.now() - (performance.now() - this.readyAt),
      listening: [...this.#listening].map(([id, grant]) => ({
        id,
        ...(grant === undefined ? {} : { grant }),
      })),
      readiness: { isNode, waits, ports: [...ports], listeners },
    };
  }

  /** Descriptors of what this master has of it, besides the links; undefined for what there is not. */
  get ends(): AdoptedEnds {
    const ofStream = (stream: unknown) => {
      const fd = (stream as { _handle?: { fd?: number } } | null)?._handle?.fd;
      return fd !== undefined && fd >= 0 ? fd : undefined;
    };
    const child = this.#child;
    const ipc = child instanceof AdoptedProcess ? child.channelFd : channelFdOf(child);
    return { ipc, stdout: ofStream(child.stdout), stderr: ofStream(child.stderr) };
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

  get isReady(): boolean {
    return this.readyAt !== undefined;
  }

  /** Whether it takes what arrives at its listener of that port; a program other than Node's is believed to. */
  serves(port: number): boolean {
    if (this.#state === 'draining' || this.#state === 'exited') return false;
    return this.#readiness.isNode ? this.#listening.has(port) : this.isReady;
  }

  /** How the process ended. */
  get ending(): { code: number | null; signal: NodeJS.Signals | null } {
    return this.#end ?? { code: null, signal: null };
  }

  /** Fulfilled when it accepts from no listener any more: it has closed them all, or is gone. */
  quiet(): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        const mayAccept = this.#readiness.isNode ? this.#listening.size > 0 || !this.isReady : true;
        if (this.#state !== 'exited' && mayAccept) return;
        this.off('closed', look).off('exit', look);
        resolve();
      };
      this.on('closed', look).on('exit', look);
      look();
    });
  }

  /** Whether a connection to that port can be handed to it. */
  canTake(port: number): boolean {
    return this.#readiness.isNode && !this.stuck && this.#child.connected && this.serves(port);
  }

  send(message: Serializable): boolean {
    if (!this.#child.connected) return false;
    // A worker that dies meanwhile is reported by its exit.
    return (this.#child as ChildProcess).send(message, () => {});
  }

  /** A message to the worker itself, not to its program. False when it cannot be spoken to. */
  tell(message: ToWorker): boolean {
    return this.#readiness.isNode && this.send(message as unknown as Serializable);
  }

  /** Sends the TCP handle of a connection, which stays the caller's as well; an `answer` or `disconnect` follows. */
  hand(connection: number, port: number, handle: unknown): void {
    const order = toWorker({ event: 'connection', connection, id: port });
    (this.#child as ChildProcess).send(order, handle as never, () => {});
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): boolean {
    return this.#child.kill(signal);
  }

  /**
   * Ends it: a Node program is asked to drain first, then comes SIGTERM, then SIGKILL. Other programs drain on
   * SIGTERM. Called again it may only become quicker, and a stop.
   *
   * @returns fulfilled when the process is gone.
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` when it cannot be ended.
   */
  end(reason: DrainReason, patience: Patience): Promise<void> {
    if (this.#ending) this.#quicken(reason, patience);
    else this.#ending = this.#drainAndEnd(reason, patience);
    return this.#ending;
  }

  /** Kills it, whether or not it has been told to end. `why` is half a sentence for those who ask how it ended. */
  hurryAway(why?: string): void {
    this.#killedFor ??= why;
    this.#drainTime.shorten(0);
    this.#killTime.shorten(0);
    if (this.#end === undefined) this.kill('SIGKILL');
  }

  /** Why the worker is not ready, for an error message: "worker 0 (process 123) …". */
  whyNotReady(): SpillwayError {
    const name = `worker ${this.slot} (process ${this.pid ?? 'not started'})`;
    const ports = [...this.#elsewhere].map((port) => (port === 0 ? 'any free port (0)' : `port ${port}`));
    const elsewhere = ports.length === 0 ? '' : `; it asked for ${ports.join(', ')} instead`;
    const what = this.#readiness.waits ? 'said that it is ready' : 'listened';
    const hint =
      ports.length === 0
        ? 'The output of the program may say why.'
        : 'Let the program listen on the port in the environment variable PORT.';
    if (this.#report !== '') return new SpillwayError('ERR_SPILLWAY_WORKER', `${name}: ${this.#report}`);
    if (!this.#end) {
      const missing = this.#readiness.waits ? 'has not said that it is ready' : 'does not listen';
      return new SpillwayError('ERR_SPILLWAY_WORKER', `${name} ${missing}${elsewhere}`, { hint });
    }
    return new SpillwayError(
      'ERR_SPILLWAY_WORKER',
      `${name} ${this.howEnded()} before it ${what}${elsewhere}`,
      {
        hint,
      },
    );
  }

  /** Half a sentence: how its process came to its end. */
  howEnded(): string {
    if (!this.#end) return 'has not ended';
    const { code, signal } = this.#end;
    // Whoever was its parent was told how.
    if (code === null && signal === null) return this.#killedFor ?? 'has ended';
    if (signal === 'SIGKILL' && this.#killedFor !== undefined) return this.#killedFor;
    return signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
  }

  /** Why it lives after SIGKILL, as far as that is known. */
  #whyNotEnded(): SpillwayError {
    const reason = this.#killError ? `cannot be ended: ${this.#killError.message}` : 'did not end on SIGKILL';
    return new SpillwayError('ERR_SPILLWAY_WORKER', `worker ${this.slot} (process ${this.pid}) ${reason}`, {
      cause: this.#killError,
      hint: 'End it by hand; it holds the port. A master needs CAP_KILL to end workers of another user.',
    });
  }

  /** It asked for a port that was not declared: a reason why it never listens on those that were. */
  noteElsewhere(port: unknown): void {
    if (this.#elsewhere.size < MOST_ELSEWHERE && isPortNumber(port)) this.#elsewhere.add(port);
  }

  /** Whatever the process has written may be in it. */
  #hear(message: FromWorker): void {
    switch (message.event) {
      case 'listening':
        if (!this.#readiness.isPort(message.id)) {
          this.#listensNowhere();
          return;
        }
        this.#listening.set(message.id, message.grant);
        this.#listens(message.id);
        break;
      case 'closed':
        this.#closes(message.id, message.grant);
        this.emit('closed', message.id, message.grant);
        break;
      case 'elsewhere':
        this.noteElsewhere(message.port);
        break;
      case 'ready':
        if (this.#readiness.waits) this.#becomeReady();
        break;
      case 'accepted':
      case 'refused':
        this.emit('answer', message.connection, message.event === 'accepted');
        break;
      case 'drained':
        this.#drained?.();
        break;
      case 'state':
        this.#tellsAll(message);
        break;
    }
  }

  #listens(id: number): void {
    if (this.#state === 'closed') this.#become('running');
    else this.#changed();
    this.emit('listening', id);
    const { waits, ports } = this.#readiness;
    if (!waits && ports.every((port) => this.#listening.has(port))) this.#becomeReady();
  }

  /** What it had said to the master before may have been lost with that. */
  #tellsAll({ listening, ready, drained }: Extract<FromWorker, { event: 'state' }>): void {
    if (!this.#isAdopted || !Array.isArray(listening)) return;
    for (const [id, grant] of this.#listening) {
      if (listening.some((each) => each.id === id && each.grant === grant)) continue;
      this.#closes(id, grant);
      this.emit('closed', id, grant);
    }
    for (const { id, grant } of listening) {
      if (!this.#readiness.isPort(id) || this.#listening.has(id)) continue;
      this.#listening.set(id, grant);
      this.#listens(id);
    }
    if (ready === true && this.#readiness.waits) this.#becomeReady();
    if (drained === true) this.#drained?.();
  }

  #listensNowhere(): void {
    if (this.#state === 'exited' || this.#tellsNowhere) return;
    this.#tellsNowhere = true;
    this.emit('nowhere');
  }

  #closes(id: number, grant: number | undefined): void {
    // What no server had listened on is given back by another grant than the one that a server has.
    if (!this.#listening.has(id) || this.#listening.get(id) !== grant) return;
    this.#listening.delete(id);
    if (this.#listening.size === 0 && this.#state === 'running') this.#become('closed');
    else this.#changed();
  }

  #becomeReady(): void {
    if (this.readyAt !== undefined || this.#state !== 'starting') return;
    this.readyAt = performance.now();
    this.#become('running');
    this.emit('ready');
  }

  #become(state: WorkerState): void {
    // The last messages of a worker may be read after its exit.
    if (this.#state === 'exited' || this.#state === state) return;
    this.#state = state;
    this.emit('state');
  }

  #changed(): void {
    if (this.#state !== 'exited') this.emit('state');
  }

  /** The launcher has become the program, or has failed and said why. */
  #launched(): void {
    this.#reportEnded = true;
    if (this.#report === '' && !this.#readiness.isNode && !this.#end) this.#becomeReady();
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
    this.#endGroup();
    this.#finish();
  }

  /** What the program started and left behind in its process group goes with it, as with a service of systemd. */
  #endGroup(): void {
    if (this.pid === undefined) return;
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // Nobody was left, which is the usual case.
    }
  }

  #finish(): void {
    if (!this.#end || !this.#reportEnded || this.#state === 'exited') return;
    this.#state = 'exited';
    this.stuck = false;
    this.links?.close();
    this.emit('exit', this.#end.code, this.#end.signal);
    // Node tells nothing of a channel that ends before a handle has been acknowledged. What the worker wrote is in the
    // channel by now, and has been read after one whole turn of the event loop; this one may be over halfway.
    setImmediate(() => setImmediate(() => this.emit('disconnect')));
  }

  async #drainAndEnd(reason: DrainReason, patience: Patience): Promise<void> {
    if (this.#state === 'exited') return;
    const exit = new Promise<void>((resolve) => this.once('exit', () => resolve()));
    const drains = this.#readiness.isNode && patience.drain > 0;
    const drainsItself = this.isReady && !drains && patience.drain > 0;
    const heard = drains && this.#askToDrain(reason, patience.drain);
    this.#become('draining');
    if (heard) {
      const drained = new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
      this.#drainTime.shorten(patience.drain);
      const over = Promise.race([drained, exit, this.#drainTime.over]);
      if (!this.#mayHaveConnections) {
        const answer = new Deadline();
        answer.shorten(ANSWER);
        await Promise.race([over, answer.over]);
        answer.clear();
      }
      if (this.#mayHaveConnections) await over;
    }
    if (this.#end === undefined) this.kill('SIGTERM');
    // Whoever cannot be told, or is no Node program, drains on this signal.
    const alone = drainsItself || (drains && !heard);
    this.#killTime.shorten(alone ? Math.max(patience.drain, patience.kill) : patience.kill);
    await Promise.race([exit, this.#killTime.over]);
    if (this.#end === undefined) this.kill('SIGKILL');
    const last = new Deadline();
    last.shorten(AFTER_SIGKILL);
    await Promise.race([exit, last.over]);
    for (const time of [this.#drainTime, this.#killTime, last]) time.clear();
    if (this.#end === undefined) throw this.#whyNotEnded();
    await exit;
  }

  get #mayHaveConnections(): boolean {
    return this.isReady || this.#listening.size > 0;
  }

  /** False when it cannot be spoken to. */
  #askToDrain(reason: DrainReason, time: number): boolean {
    // So that its last message comes in time.
    const limit = time - Math.min(LATE, time / 4);
    return this.tell(toWorker({ event: 'drain', reason, limit }));
  }

  /** It has been told to end already, perhaps with more patience or for another reason. */
  #quicken(reason: DrainReason, { drain, kill }: Patience): void {
    if (this.#state !== 'draining') return;
    if (drain > 0) this.#askToDrain(reason, drain);
    this.#drainTime.shorten(drain);
    this.#killTime.shorten(drain + kill);
  }
}

/** A time of Date.now() as one of performance.now(). */
function agoOf(time: number): number {
  return performance.now() - (Date.now() - time);
}

function isPortNumber(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535;
}

/** A time that may only become shorter. */
class Deadline {
  readonly over: Promise<void>;
  #resolve!: () => void;
  #at = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor() {
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** At the latest in so many milliseconds. */
  shorten(milliseconds: number): void {
    const at = performance.now() + milliseconds;
    if (at >= this.#at) return;
    this.#at = at;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#resolve, milliseconds);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}
