/**
 * A worker without a master: a process that runs a program behind the preload, with listeners, memory for its hints, a
 * channel, and a desk that answers as the test says. It shows what happens inside a worker's process, alone.
 */
import { type ChildProcess, type SendHandle, type StdioOptions, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { type NativeRescuer, type NativeSocket, native, packageRoot } from '../../lib/native.js';
import { withPreload } from '../../lib/serve/preload-option.js';
import {
  type Answer,
  type DrainReason,
  FIRST_FD,
  type FromWorker,
  type InheritedListener,
  isOurs,
  type Question,
  toWorker,
  type WorkerStart,
} from '../../lib/serve/protocol.js';
import { until } from './until.js';

const LAUNCHER = join(packageRoot, 'build/Release/spillway-launch');
const PRELOAD = join(packageRoot, 'dist/lib/serve/worker/preload.cjs');

/** Of all listeners here, so that a program's own would show. */
export const BACKLOG = 77;

/** Where the worker serves. */
const SLOT = 3;

/** Any other one. */
const OTHER_SLOT = 0;

export interface WorkerPlan {
  /** Text of an ES module; it has `tell()`, which sends what it is given to the test. */
  program?: string;
  /** A file instead. */
  script?: string;
  args?: string[];
  execArgv?: string[];
  env?: NodeJS.ProcessEnv;
  /** Addresses of the ports that are declared; default one on 127.0.0.1, none for []. */
  declared?: (Partial<InheritedListener> & { address: string })[];
  /** What the desk answers instead of opening a port and giving keys; null: it hangs up. */
  answer?: (question: Question, nth: number) => Answer | null | undefined;
}

type Told = Record<string, unknown>;
/** What comes out of a channel: the test says what it expects. */
type Json = ReturnType<typeof JSON.parse>;

const running = new Set<TestWorker>();
let count = 0;

afterEach(async () => {
  await Promise.all([...running].map((worker) => worker.end()));
});

export async function startWorker(plan: WorkerPlan): Promise<TestWorker> {
  const worker = new TestWorker(plan);
  running.add(worker);
  await worker.start();
  return worker;
}

export class TestWorker {
  readonly questions: Question[] = [];
  /** What the preload said. */
  readonly events: FromWorker[] = [];
  /** What the program told. */
  readonly told: Told[] = [];
  readonly listeners: InheritedListener[] = [];
  readonly name = `spillway-test-${process.pid}-${++count}`;
  output = '';
  child!: ChildProcess;
  ended: { code: number | null; signal: string | null } | undefined;
  readonly #plan: WorkerPlan;
  readonly #sockets: NativeSocket[] = [];
  readonly #hints = new (native().Hints)('create');
  readonly #asking = new Set<Socket>();
  #desk!: Server;
  /** Our end of the channel on which the worker is asked to help. */
  #help = -1;
  #rescuer: NativeRescuer | undefined;

  constructor(plan: WorkerPlan) {
    this.#plan = plan;
  }

  get port(): number {
    return this.listeners[0]!.port;
  }

  get hints(): { state: string; since: number } {
    return this.#hints.read();
  }

  async start(): Promise<void> {
    const { program, script, args = [], execArgv = [], env = {} } = this.#plan;
    for (const wish of this.#plan.declared ?? [{ address: '127.0.0.1' }]) this.#open(wish);
    const declared = [...this.listeners];
    this.#desk = createServer({ allowHalfOpen: true }, (socket) => this.#hear(socket));
    await new Promise<void>((resolve) => this.#desk.listen(`\0${this.name}`, resolve));
    const report = FIRST_FD + declared.length;
    const [master, help] = native().openHelpChannel();
    this.#help = master;
    const start: WorkerStart = {
      slot: SLOT,
      master: process.pid,
      kept: false,
      desk: `@${this.name}`,
      hints: report + 1,
      help: report + 2,
      listeners: declared.map((listener, index) => ({ ...listener, fd: FIRST_FD + index })),
    };
    const text = `const tell = (told) => process.send(told);\n${program}`;
    const own = script ? [script] : ['--input-type=module', '--eval', text, '--'];
    this.child = spawn(
      LAUNCHER,
      [
        `--die-with-parent=${process.pid}`,
        `--report-fd=${report}`,
        `--close-from=${report + 4}`,
        '--',
        process.execPath,
        '--require',
        PRELOAD,
        ...execArgv,
        ...own,
        ...args,
      ],
      {
        cwd: packageRoot,
        env: {
          ...process.env,
          PORT: String(declared[0]?.port),
          LISTEN_FDS: String(declared.length),
          SPILLWAY_WORKER: JSON.stringify(start),
          ...env,
          NODE_OPTIONS: withPreload({ ...process.env, ...env }.NODE_OPTIONS, PRELOAD),
        },
        stdio: [
          ...['ignore', 'pipe', 'pipe', ...declared.map(({ fd }) => fd), 'pipe', this.#hints.fd, help, 'ipc'],
        ] as StdioOptions,
      },
    );
    closeSync(help);
    this.child.on('message', (message) => this.told.push(message as Told));
    this.child.on('internalMessage', (message: unknown) => {
      if (isOurs(message)) this.events.push(message as FromWorker);
    });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.setEncoding('utf8').on('data', (piece: string) => {
        this.output += piece;
      });
    this.child.on('exit', (code, signal) => {
      this.ended = { code, signal };
    });
  }

  /** Waits until the program has told something that has this key, and returns the latest. */
  async hears(key: string, count = 1): Promise<Json> {
    await this.#until(`the program tells "${key}"`, () => this.#of(key).length >= count);
    return this.#of(key).at(-1)?.[key];
  }

  /** Waits until the preload has said this so often, and returns the last. */
  async says(event: FromWorker['event'], count = 1): Promise<Json> {
    const found = () => this.events.filter((each) => each.event === event);
    await this.#until(`the worker says "${event}" ${count} times`, () => found().length >= count);
    return found()[count - 1];
  }

  has(event: FromWorker['event']): boolean {
    return this.events.some((each) => each.event === event);
  }

  async exits(): Promise<{ code: number | null; signal: string | null }> {
    return until('the worker ends', () => this.ended);
  }

  drain(reason: DrainReason = 'reload', limit = 20_000): void {
    this.child.send(toWorker({ event: 'drain', reason, limit }));
  }

  ticketKeys(keys: Buffer): void {
    this.child.send(toWorker({ event: 'ticketKeys', keys: keys.toString('base64') }));
  }

  handOver(socket: Socket, connection: number, id: number): void {
    // The bare handle, as the master does: with the socket Node would make one of it in the worker.
    const { _handle } = socket as unknown as { _handle: SendHandle };
    this.child.send(toWorker({ event: 'connection', connection, id }), _handle, () => socket.destroy());
  }

  order(order: string, details: Told = {}): void {
    this.child.send({ order, ...details });
  }

  /** The accept queue's limit, of the listener as it is now. */
  limitOf(id: number): number | undefined {
    return this.#sockets[id - 1]?.acceptQueue()?.limit;
  }

  /** Connections that wait at the listener. */
  waitingAt(id: number): number {
    return this.#sockets[id - 1]?.acceptQueue()?.length ?? 0;
  }

  /** As the master asks it to take so many connections, which wait at another listener of a port. */
  help(listener: number, waiting: number, port = 1): void {
    this.#rescuer ??= new (native().Rescuer)(() => {});
    const sent = this.#rescuer.sent(port);
    this.#rescuer.addPort(port, -1);
    this.#rescuer.setListener(port, OTHER_SLOT, listener);
    this.#rescuer.setWorker(SLOT, process.pid, this.#help);
    this.#rescuer.order(port, OTHER_SLOT, SLOT, waiting);
    this.#rescuer.clearWorker(SLOT);
    this.#rescuer.removePort(port);
    if (this.#rescuer.sent(port) === sent) throw new Error('the order could not be sent');
  }

  /** As when the master ends. */
  closeHelp(): void {
    if (this.#help >= 0) closeSync(this.#help);
    this.#help = -1;
  }

  /** As the master does when it takes the listener out of the group. */
  shutdown(id: number): void {
    this.#sockets[id - 1]?.shutdown();
  }

  closeDesk(): void {
    for (const socket of this.#asking) socket.destroy();
    this.#desk.close();
  }

  async end(): Promise<void> {
    running.delete(this);
    if (!this.ended) {
      this.child.kill('SIGKILL');
      await this.exits();
    }
    this.closeDesk();
    for (const socket of this.#sockets) socket.close();
    this.#hints.close();
    this.#rescuer?.close();
    this.closeHelp();
  }

  #of(key: string): Told[] {
    return this.told.filter((each) => key in each);
  }

  /** A worker that has failed says why. */
  async #until(what: string, condition: () => boolean): Promise<void> {
    await until(`${what}; it ended: ${JSON.stringify(this.ended)}\n${this.output}`, () => {
      if (this.ended && !condition()) throw new Error(`the worker has ended before ${what}\n${this.output}`);
      return condition();
    });
  }

  /** As a group opens its listeners. */
  #open({ address, port = 0, v6Only = false, host }: Partial<InheritedListener> & { address: string }) {
    const family = address.includes(':') ? 6 : 4;
    const { SOL_SOCKET, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY } = native().constants as Record<
      string,
      number
    >;
    const socket = new (native().Socket)('create', family);
    this.#sockets.push(socket);
    socket.setInt(SOL_SOCKET!, SO_REUSEPORT!, 1);
    if (family === 6) socket.setInt(IPPROTO_IPV6!, IPV6_V6ONLY!, Number(v6Only));
    socket.bind(address, port, family);
    socket.listen(BACKLOG);
    const listener: InheritedListener = {
      id: this.#sockets.length,
      fd: socket.fd,
      ...socket.localEndpoint(),
      ...(host === undefined ? {} : { host }),
      v6Only,
    };
    this.listeners.push(listener);
    return listener;
  }

  #hear(socket: Socket): void {
    this.#asking.add(socket);
    let text = '';
    socket.on('error', () => {});
    socket.on('data', (piece) => {
      text += piece;
    });
    socket.on('end', () => {
      const question = JSON.parse(text) as Question;
      this.questions.push(question);
      const answer = this.#plan.answer?.(question, this.questions.length);
      if (answer === null) socket.destroy();
      else this.#answer(socket, answer ?? this.#usual(question));
    });
  }

  #answer(socket: Socket, answer: Answer & { fd?: number }): void {
    const { fd = -1, ...rest } = answer;
    const { fd: own } = (socket as unknown as { _handle: { fd: number } })._handle;
    native().sendWithDescriptor(own, Buffer.from(JSON.stringify(rest)), fd);
    socket.end();
  }

  #usual(question: Question): Answer & { fd?: number } {
    if (question.ask === 'ticketKeys') return { ticketKeys: TICKET_KEYS.toString('base64') };
    try {
      const { fd, ...listener } = this.#open(question);
      return { listener, grant: FIRST_GRANT + listener.id, fd };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      return { error: { code: code as string, message } };
    }
  }
}

/** What the number of a listener that the desk gives has more than its id. */
export const FIRST_GRANT = 100;

/** What the desk gives. */
export const TICKET_KEYS = Buffer.alloc(48, 7);
