/** The load as the demo sees it: a child process that is told when to send, and says what it saw. */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type LoadCounts, type LoadOrder, type LoadReport, noCounts } from './load-protocol.js';

const PROGRAM = fileURLToPath(new URL('./load-program.js', import.meta.url));

interface Events {
  /** Nothing is being sent, and nothing is under way any more. */
  idle: [];
}

/** Owns the load program, which is started at the first use and ends with this process at the latest. */
export class Load extends EventEmitter<Events> {
  readonly #target: { host: string; port: number };
  #child: ChildProcess | undefined;
  #report: LoadReport = { order: 0, counts: noCounts(), underWay: 0 };
  #orders = 0;
  #sending = false;

  constructor(target: { host: string; port: number }) {
    super();
    this.#target = target;
  }

  get counts(): LoadCounts {
    return this.#report.counts;
  }

  /** Requests without an answer so far. */
  get underWay(): number {
    return this.#report.underWay;
  }

  get sending(): boolean {
    return this.#sending;
  }

  /** @param rate requests per second. */
  start(rate: number): void {
    this.#sending = true;
    this.#order({ ...this.#target, rate });
  }

  stop(): void {
    if (!this.#sending) return;
    this.#sending = false;
    this.#order(null);
  }

  /** Stops, and waits for what is under way; that is at most the load program's own timeout. */
  async drain(): Promise<void> {
    this.stop();
    if (this.#child && !this.#isIdle()) await once(this, 'idle');
  }

  close(): void {
    this.#sending = false;
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }

  #order(send: LoadOrder['send']): void {
    this.#child ??= this.#fork();
    this.#child.send({ number: ++this.#orders, send } satisfies LoadOrder, () => {});
  }

  #fork(): ChildProcess {
    const child = fork(PROGRAM, [], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: [] });
    child.on('message', (report: LoadReport) => {
      this.#report = report;
      if (this.#isIdle()) this.emit('idle');
    });
    child.on('exit', () => {
      if (this.#child === child) this.#child = undefined;
      this.#sending = false;
      this.#report = { ...this.#report, underWay: 0 };
      this.emit('idle');
    });
    return child;
  }

  /** A report that does not know of the last order yet says nothing about what is still to come. */
  #isIdle(): boolean {
    return !this.#sending && this.#report.order === this.#orders && this.#report.underWay === 0;
  }
}
