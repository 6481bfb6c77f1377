/** The master: opens a socket group, starts one worker per slot, and keeps the slots true to their workers. */
import type { Serializable } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { closeSync } from 'node:fs';
import type { SpillwayError } from '../errors.js';
import { SocketGroup } from '../group/group.js';
import { Handover } from './handover.js';
import { assertBuilt, launch } from './launch.js';
import { type MasterOptions, type Plan, planOf } from './options.js';
import { QueueTaker } from './queue-taker.js';
import { type Worker, WorkerProcess } from './worker.js';

/** Milliseconds that workers have to end after SIGTERM. */
const CLOSE_TIMEOUT = 5000;

/** Milliseconds after SIGKILL; a process that lives then cannot be ended, or hangs in the kernel. */
const KILL_TIMEOUT = 3000;

export interface MasterEvents {
  /** A worker listens: for the first time, or again after it had closed its server. */
  'worker:listening': [worker: Worker];
  /** A worker has gone. Its slot gets no more connections; what it had queued goes to its siblings. */
  'worker:exit': [
    exit: { slot: number; pid: number | undefined; code: number | null; signal: NodeJS.Signals | null },
  ];
  /** A message that the program sent with `process.send()`. */
  'worker:message': [worker: Worker, message: Serializable, handle: unknown];
  /**
   * The queue of a worker that has gone could not be handed over, or the slots could not be made to agree with the
   * workers. Without a listener it becomes a warning of the process.
   */
  error: [error: Error];
}

/**
 * N workers behind one port, each with a listening socket of its own.
 *
 * Workers hold no capability and end with their master, however it ends. A worker that dies is reported by
 * `worker:exit` and not started again.
 *
 * The listeners exist before the workers do, and the kernel queues for them: until the first worker listens every slot
 * takes connections, so that no early client is lost. From then on only slots whose worker listens are given new ones
 * (below `cbpf` the selector cannot pass a slot by; what arrives at a closed server is handed to a sibling there).
 */
export class Master extends EventEmitter<MasterEvents> {
  /** The socket group. It is closed by {@link close}. */
  readonly group: SocketGroup;
  readonly #plan: Plan;
  readonly #workers: WorkerProcess[] = [];
  readonly #handover: Handover;
  readonly #taker: QueueTaker;
  /** What was last asked of the group for each slot; slots without an entry are enabled as they were opened. */
  readonly #enabled = new Map<number, boolean>();
  /** Sockets that are being taken out; the group must not be closed meanwhile. */
  readonly #leaving = new Set<Promise<void>>();
  /** All workers have listened. Before that one that ends fails the start, which closes everything. */
  #started = false;
  #closed: Promise<void> | undefined;

  private constructor(plan: Plan, group: SocketGroup, handover: Handover) {
    super();
    this.#plan = plan;
    this.group = group;
    this.#handover = handover;
    this.#taker = new QueueTaker((fd) => handover.give(fd));
  }

  /**
   * Opens the group, starts the workers and waits until all of them listen. If that fails, workers and sockets are gone
   * again when the promise is rejected.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_SCRIPT_MISSING`, `ERR_SPILLWAY_ADDON` (launcher or preload not built),
   *   `ERR_SPILLWAY_WORKER` (a worker ended, could not be started, or did not listen in time), `ERR_SPILLWAY_PERMISSION`
   *   (workers of another user without CAP_KILL), `ERR_SPILLWAY_OPTION_RANGE`, and what {@link SocketGroup.open} throws.
   */
  static async start(options: MasterOptions): Promise<Master> {
    const plan = planOf(options);
    assertBuilt();
    const handover = new Handover();
    const give =
      plan.program.kind === 'node'
        ? (fd: number) => handover.give(fd)
        : // No program but Node's can be given a connection: the client learns at once that it has to try again.
          (fd: number) => closeSync(fd);
    const master = new Master(plan, await SocketGroup.open({ ...plan.group, onConnection: give }), handover);
    try {
      for (let slot = 0; slot < plan.workers; slot++) master.#spawn(slot);
      await master.#ready();
      return master;
    } catch (error) {
      await master.close().catch((left: Error) => master.#report(left));
      throw error;
    }
  }

  /** All workers, by slot; also those that have exited. */
  get workers(): readonly Worker[] {
    return [...this.#workers];
  }

  /**
   * Ends the workers with SIGTERM, and with SIGKILL those that live `timeout` milliseconds later (default 5000), then
   * closes the group. May be called twice; the first call's timeout counts.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` when a worker cannot be ended, because this process has given up the
   *   right to. The group is closed then as well, but that worker's listener is still open.
   */
  close({ timeout = CLOSE_TIMEOUT }: { timeout?: number } = {}): Promise<void> {
    this.#closed ??= this.#end(timeout);
    return this.#closed;
  }

  #spawn(slot: number): void {
    const { address, family, port } = this.group.address;
    const { host } = this.#plan.group;
    const child = launch(this.#plan, slot, {
      fd: this.group.fd(slot),
      address,
      family,
      port,
      ...(host === undefined ? {} : { host }),
      v6Only: this.group.getOption('v6Only') === true,
    });
    const worker = new WorkerProcess(slot, child, this.#plan.program.kind === 'node');
    this.#workers[slot] = worker;
    // The slots come first, so that a listener of our events sees the group as it is.
    worker.on('state', () => {
      this.#steer();
      if (worker.state === 'listening') this.emit('worker:listening', worker);
    });
    this.#handover.add(worker);
    worker.on('message', (message, handle) => this.emit('worker:message', worker, message, handle));
    worker.on('exit', (code, signal) => {
      this.#lost(worker);
      this.emit('worker:exit', { slot, pid: worker.pid, code, signal });
    });
  }

  /** Fulfilled when all workers listen; rejected as soon as one cannot. */
  #ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const gone = this.#workers.find(({ state }) => state === 'exited');
        const late = this.#workers.find(({ state }) => state === 'starting');
        if (gone) finish(() => reject(gone.whyNotReady()));
        else if (!late) {
          this.#started = true;
          finish(resolve);
        }
      };
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        for (const worker of this.#workers) worker.off('state', look).off('exit', look);
        settle();
      };
      const timer = setTimeout(() => {
        const late = this.#workers.find(({ state }) => state === 'starting');
        if (late) finish(() => reject(late.whyNotReady()));
      }, this.#plan.startTimeout);
      for (const worker of this.#workers) worker.on('state', look).on('exit', look);
      look();
    });
  }

  /** Those that shall be given connections: who listens; while nobody does, who is going to. */
  #takers(): WorkerProcess[] {
    const listening = this.#workers.filter(({ state }) => state === 'listening');
    return listening.length > 0 ? listening : this.#workers.filter(({ state }) => state === 'starting');
  }

  /** Makes the slots agree with the workers, as far as that is possible. */
  #steer(): void {
    try {
      this.#agree();
    } catch (error) {
      this.#report(error as Error);
    }
  }

  #agree(): void {
    const takers = new Set(this.#takers());
    if (this.group.getOption('selector') !== 'none') {
      // Enabling comes first: below `ebpf` one slot must be enabled at any time.
      for (const worker of takers) this.#enable(worker.slot, true);
      for (const worker of this.#workers) if (!takers.has(worker)) this.#enable(worker.slot, false);
    }
    const closed = this.#workers.filter(({ state }) => state === 'closed');
    const canHelp = !this.#closed && this.#workers.some(({ canTake }) => canTake);
    this.#taker.only(new Map(canHelp ? closed.map(({ slot }) => [slot, this.group.fd(slot)]) : []));
  }

  #enable(slot: number, enabled: boolean): void {
    if ((this.#enabled.get(slot) ?? true) === enabled) return;
    try {
      this.group.setOption('enabled', enabled, slot);
      this.#enabled.set(slot, enabled);
    } catch (error) {
      // Below `ebpf` the last enabled slot stays so: its queue waits for a worker that listens again.
      if ((error as SpillwayError).code !== 'ERR_SPILLWAY_OPTION_TIER') throw error;
    }
  }

  #lost(worker: WorkerProcess): void {
    if (!this.#started || this.#closed) return;
    this.#steer();
    // Without anybody who could take it the queue stays where it is.
    if (this.#takers().length === 0) return;
    // Where the selector cannot pass the slot by, a fresh listener in it would go on getting connections.
    const leaves =
      this.group.getOption('selector') === 'none'
        ? this.group.remove(worker.slot)
        : this.group.replace(worker.slot);
    const done = leaves
      .catch((error: Error) => this.#report(error))
      .finally(() => this.#leaving.delete(done));
    this.#leaving.add(done);
  }

  /** What goes wrong with one slot must not end a process that serves on the others. */
  #report(error: Error): void {
    if (this.listenerCount('error') > 0) this.emit('error', error);
    else process.emitWarning(error);
  }

  async #end(timeout: number): Promise<void> {
    try {
      if (!(await this.#endedBy('SIGTERM', timeout))) await this.#endedBy('SIGKILL', KILL_TIMEOUT);
      await Promise.allSettled(this.#leaving);
    } finally {
      this.#taker.close();
      this.#handover.close();
      // From here on nothing can be steered; a worker that cannot be ended may still speak.
      for (const worker of this.#workers) worker.removeAllListeners('state');
      this.group.close();
    }
    const alive = this.#workers.find(({ state }) => state !== 'exited');
    if (alive) throw alive.whyNotEnded();
  }

  /** Whether all workers have ended within that many milliseconds of the signal. */
  async #endedBy(signal: NodeJS.Signals, patience: number): Promise<boolean> {
    const alive = this.#workers.filter(({ state }) => state !== 'exited');
    const exits = alive.map((worker) => new Promise<void>((resolve) => worker.once('exit', () => resolve())));
    for (const worker of alive) worker.kill(signal);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(resolve, patience, false);
    });
    const ended = await Promise.race([Promise.all(exits).then(() => true), late]);
    clearTimeout(timer);
    return ended;
  }
}
