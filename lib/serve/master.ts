/** The master: opens the ports of a service, keeps its slots staffed, and makes the ports agree with the workers. */
import type { Serializable } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { SpillwayError, systemError } from '../errors.js';
import type { SocketGroup } from '../group/group.js';
import { native } from '../native.js';
import { Answers } from './answers.js';
import { closeHandle } from './channel-guard.js';
import { Desk } from './desk.js';
import { Handover } from './handover.js';
import { Health } from './health.js';
import { assertBuilt, launch } from './launch.js';
import { MemoryWatch } from './memory.js';
import { changedPlan, LONGEST, type MasterOptions, type Plan, planOf, type WorkerChange } from './options.js';
import { OverflowWatch } from './overflow.js';
import type { Port } from './port.js';
import { usageOf } from './process-usage.js';
import { type DrainReason, toWorker } from './protocol.js';
import { ServicePorts } from './service-ports.js';
import { Slot } from './slot.js';
import { type MasterState, type MasterStatus, portStatus, slotStatus, workerStatus } from './status.js';
import { TicketKeys } from './ticket-keys.js';
import { type Patience, type Worker, WorkerProcess } from './worker-process.js';

export type { MasterStatus } from './status.js';

/** Milliseconds between looks at queues that are to become empty before the workers end. */
const QUEUE_LOOK = 5;

/** Milliseconds that handshakes under way are waited for: a first repetition of what was lost takes one second. */
const HANDSHAKE_LIMIT = 1500;

export interface MasterEvents {
  /** Every worker is ready or has failed for good. */
  ready: [];
  /** Workers and ports are gone. */
  close: [];
  /** A process has been started; its stdout and stderr can be read from here on. */
  'worker:start': [worker: Worker];
  /** A worker listens on one more port, also again after it had closed its server. */
  'worker:listening': [worker: Worker];
  /** A worker is ready, so many milliseconds after its start. */
  'worker:ready': [worker: Worker, after: number];
  /** A worker takes no new connections, and finishes those it has. */
  'worker:drain': [worker: Worker, reason: DrainReason];
  /** A worker does not react, and is passed by; or it does again. */
  'worker:stuck': [worker: Worker, stuck: boolean, why: string];
  /** A worker has gone. What it had queued goes to its siblings. `expected`: it had been told to. */
  'worker:exit': [
    exit: {
      slot: number;
      pid: number | undefined;
      code: number | null;
      signal: NodeJS.Signals | null;
      expected: boolean;
      reason: string;
    },
  ];
  /** Another worker follows in the slot, after `delay` milliseconds. `failures` in a row, of which `most` may be. */
  'worker:restart': [
    restart: { slot: number; delay: number; failures: number; most: number; reason: string },
  ];
  /** No other worker follows in the slot. */
  'worker:failed': [failed: { slot: number; reason: string }];
  /** A message that the program sent with `process.send()`. */
  'worker:message': [worker: Worker, message: Serializable, handle: unknown];
  /** A port can take connections: one that was declared, or that the program has asked for. */
  port: [group: SocketGroup];
  reload: [reload: { phase: 'begin' | 'done' | 'failed'; error?: SpillwayError }];
  scale: [scale: { from: number; to: number }];
  /** Connection requests that nobody had room for, since the last event; looked at once a second, under `ebpf`. */
  overflow: [overflow: { group: SocketGroup; dropped: number; reset: number }];
  /**
   * Something could not be done that nobody waits for. Without a listener it becomes a warning of the process, but for
   * what makes the start fail or ends the master, which is an unhandled rejection unless `ready` or `closed` is awaited.
   */
  error: [error: Error];
}

/**
 * Opens a service and keeps its workers alive.
 *
 * @returns at once; {@link Master.ready} tells when all workers are ready.
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`, `ERR_SPILLWAY_PERMISSION` (workers of another user without CAP_KILL),
 *   `ERR_SPILLWAY_SCRIPT_MISSING`, `ERR_SPILLWAY_ADDON` (launcher or preload not built)
 */
export function serve(options: MasterOptions): Master {
  const plan = planOf(options);
  assertBuilt();
  return new Master(plan);
}

/**
 * N workers behind the ports of a service, each with listening sockets of its own.
 *
 * Workers hold no capability and end with their master, however it ends. One that ends by itself is started again.
 */
export class Master extends EventEmitter<MasterEvents> {
  #plan: Plan;
  readonly #startedAt = performance.now();
  readonly #slots: Slot[] = [];
  /** Slots that have been scaled away and whose workers finish what they have. */
  readonly #retired = new Set<Slot>();
  readonly #handover = new Handover();
  readonly #ports: ServicePorts;
  readonly #keys: TicketKeys;
  readonly #answers: Answers;
  readonly #overflow: OverflowWatch;
  #desk: Desk | undefined;
  #health: Health | undefined;
  #memory: MemoryWatch | undefined;
  /** Sockets that are being taken out; the groups must not be closed meanwhile. */
  readonly #leaving = new Set<Promise<void>>();
  /** It is going to be looked at whether slots and workers agree. */
  #agreeing = false;
  /** Who waits for something that will not come once the end has begun. */
  readonly #wakeAtEnd = new Set<() => void>();
  /** A worker has been ready: the program can run. */
  #proven = false;
  #state: MasterState = 'starting';
  /** The last of the operations that come one after another. */
  #operations: Promise<unknown>;
  #closing: Promise<void> | undefined;
  /** How long the end may still take, since it was hurried on. */
  #quickest: Patience = { drain: Number.POSITIVE_INFINITY, kill: Number.POSITIVE_INFINITY };
  /** Desk and declared ports; the end waits for it, so that nothing is opened after it. */
  readonly #opening: Promise<void>;
  readonly #ready: Promise<void>;
  readonly #closed: Promise<void>;
  #settleClosed!: { resolve: () => void; reject: (error: Error) => void };
  readonly #awaited = { ready: false, closed: false };

  /** @internal Use {@link serve} or {@link Master.start}. */
  constructor(plan: Plan) {
    super();
    this.#plan = plan;
    this.#ports = new ServicePorts(
      () => this.#plan,
      this.#handover,
      (port) => this.emit('port', port.group),
      (error) => this.#report(error),
    );
    this.#keys = new TicketKeys(plan.ticketKeyRotation, (keys) => {
      for (const worker of this.#processes) worker.tell(toWorker({ event: 'ticketKeys', keys }));
    });
    this.#answers = new Answers(
      {
        plan: () => this.#plan,
        slots: () => this.#slots,
        workers: () => this.#processes,
        assertOpen: () => this.#assertOpen(),
        isEnding: () => this.#closing !== undefined,
        report: (error) => this.#report(error),
      },
      this.#ports,
      this.#keys,
    );
    this.#overflow = new OverflowWatch(
      () => this.groups,
      (group, dropped, reset) => this.emit('overflow', { group, dropped, reset }),
    );
    this.#closed = new Promise((resolve, reject) => {
      this.#settleClosed = { resolve, reject };
    });
    this.#closed.catch((error: Error) => this.#complain(error, this.#awaited.closed));
    this.#opening = this.#open();
    this.#ready = this.#begin();
    this.#ready.catch((error: Error) => this.#complain(error, this.#awaited.ready));
    this.#operations = this.#ready.catch(() => {});
  }

  /**
   * {@link serve}, fulfilled when all workers are ready. If that fails, workers and sockets are gone again when the promise
   * is rejected.
   *
   * @throws {SpillwayError} what {@link serve} throws, `ERR_SPILLWAY_WORKER` (a worker ended, could not be started, or was not
   *   ready in time) and what {@link SocketGroup.open} throws.
   */
  static async start(options: MasterOptions): Promise<Master> {
    const master = serve(options);
    await master.ready;
    return master;
  }

  /** Fulfilled when every worker is ready or has failed for good; rejected, with nothing left, when the start failed. */
  get ready(): Promise<void> {
    this.#awaited.ready = true;
    return this.#ready;
  }

  /** Fulfilled after {@link close}; rejected with `ERR_SPILLWAY_NO_WORKER` when no worker is left and none follows. */
  get closed(): Promise<void> {
    this.#awaited.closed = true;
    return this.#closed;
  }

  get state(): MasterState {
    return this.#state;
  }

  /** Living processes by slot, successors and those that finish what they have included. */
  get workers(): readonly Worker[] {
    return this.#processes;
  }

  /** The socket groups of all ports, the declared ones first. */
  get groups(): readonly SocketGroup[] {
    return [...this.#ports].map(({ group }) => group);
  }

  /**
   * The first port's socket group. It is closed by {@link close}.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NO_PORT` when there is none yet.
   */
  get group(): SocketGroup {
    const [first] = this.groups;
    if (first) return first;
    throw new SpillwayError('ERR_SPILLWAY_NO_PORT', 'the program has not listened on any port yet');
  }

  /**
   * New workers take over the same sockets; the old ones finish what they have. One slot after another, or `together`: all
   * new ones are ready before the first old one is told.
   *
   * @param options.change replaces what the workers were started with.
   * @throws {SpillwayError} `ERR_SPILLWAY_RELOAD` when a new worker is not ready: those of before go on in its slot and in all
   *   that were to follow (`together`: in all). `ERR_SPILLWAY_OPTION_RANGE` and the like for a change that makes no sense.
   */
  reload({
    together = false,
    change = {},
  }: {
    together?: boolean;
    change?: WorkerChange;
  } = {}): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#plan;
      const after = changedPlan(before, change);
      this.emit('reload', { phase: 'begin' });
      this.#state = 'reloading';
      this.#plan = after;
      try {
        if (together) await this.#replaceTogether();
        else await this.#replaceInTurn();
        this.emit('reload', { phase: 'done' });
      } catch (error) {
        this.#plan = before;
        this.emit('reload', { phase: 'failed', error: error as SpillwayError });
        throw error;
      } finally {
        if (this.#state === 'reloading') this.#state = 'running';
      }
    });
  }

  /**
   * All workers end, with what they have finished, and new ones start; who connects meanwhile waits in the queues.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_RELOAD` when a worker is not ready; it is tried again like one that has crashed.
   */
  restart(): Promise<void> {
    return this.#inTurn(async () => {
      const failures: SpillwayError[] = [];
      await Promise.all(
        this.#slots.map(async (slot) => {
          await slot.empty('stop').catch((error: Error) => this.#report(error));
          slot.forgive();
          await slot.start().catch((error: SpillwayError) => {
            failures.push(error);
            slot.notStarted(error);
          });
        }),
      );
      if (failures[0]) throw reloadFailure(failures[0], `${failures.length} of ${this.#slots.length} failed`);
    });
  }

  /**
   * More workers, or fewer: the last slots then take nothing new, finish what they have, and their queues go to the others.
   * Fulfilled when the new ones are ready, or the last ones out of the way.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`; `ERR_SPILLWAY_WORKER` when a new one is not ready: it stays as it was.
   */
  scale(workers: number): Promise<void> {
    return this.#inTurn(async () => {
      planOf({ ...this.#plan.options, workers });
      const most = Math.min(...this.groups.map(({ capacity }) => capacity));
      if (workers > most) {
        throw new SpillwayError(
          'ERR_SPILLWAY_OPTION_RANGE',
          `${workers} workers are more than the ${most} slots there can be`,
          {
            hint: 'Start the master with a larger `capacity`.',
          },
        );
      }
      const from = this.#slots.length;
      if (workers > from) await this.#grow(workers);
      else await this.#keepFirst(workers);
      this.#plan = { ...this.#plan, workers, options: { ...this.#plan.options, workers } };
      if (workers !== from) this.emit('scale', { from, to: workers });
    });
  }

  /**
   * Ends gracefully: nobody new is let in (below `ebpf` requests are dropped until the port is closed), what is queued is
   * accepted, workers finish what they have. Called again it may only become quicker; with `timeout: 0`, then or at once, all are killed.
   *
   * @param options.timeout milliseconds for all of it, 0 to 2147483647; default `drainTimeout` + `killTimeout`.
   * @throws {SpillwayError} `ERR_SPILLWAY_WORKER` when a worker cannot be ended, because this process has given up the
   *   right to. The groups are closed then as well, but that worker's listeners are still open.
   */
  close({ timeout }: { timeout?: number } = {}): Promise<void> {
    const isTime = timeout === undefined || (timeout >= 0 && timeout <= LONGEST);
    if (!isTime) {
      const message = `timeout cannot be ${timeout}; it takes: number, 0 to ${LONGEST} milliseconds`;
      return Promise.reject(new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', message));
    }
    // Whoever gets this promise is told of what goes wrong.
    this.#awaited.closed = true;
    const { drainTimeout, killTimeout } = this.#plan;
    const kill = timeout === undefined ? killTimeout : Math.min(killTimeout, timeout / 2);
    const drain = timeout === undefined ? drainTimeout : timeout - kill;
    if (!this.#closing) this.#close({ drain, kill });
    else if (timeout !== undefined) this.#quicken({ drain, kill });
    if (timeout === 0) for (const slot of this.#allSlots) slot.hurry();
    return this.#closing as Promise<void>;
  }

  /** What there is to know at this moment. */
  async status(): Promise<MasterStatus> {
    const usage = await usageOf(this.#processes.map(({ pid }) => pid));
    const rows = this.#allSlots.flatMap((slot) => {
      const living = slot.workers.filter(({ state }) => state !== 'exited');
      return living.length === 0 && !this.#retired.has(slot)
        ? [slotStatus(slot)]
        : living.map((worker) => workerStatus(worker, slot, usage.get(worker.pid ?? 0)));
    });
    return {
      pid: process.pid,
      state: this.#state,
      uptime: performance.now() - this.#startedAt,
      wanted: this.#slots.length,
      workers: rows,
      ports: [...this.#ports].filter(({ isOpen }) => isOpen).map(portStatus),
    };
  }

  /** Those that have been scaled away included, as long as somebody is there. */
  get #allSlots(): Slot[] {
    return [...this.#slots, ...this.#retired];
  }

  get #processes(): WorkerProcess[] {
    return this.#allSlots.flatMap(({ workers }) => workers);
  }

  async #open(): Promise<void> {
    this.#desk = await Desk.open(
      (pid) => this.#processes.some((worker) => worker.pid === pid),
      (question, pid) => this.#answers.answer(question, pid),
    );
    this.#assertOpen();
    await this.#ports.openDeclared(this.#plan.workers);
  }

  async #begin(): Promise<void> {
    try {
      await this.#opening;
      this.#assertOpen();
      for (let number = 0; number < this.#plan.workers; number++) this.#addSlot(number);
      this.#watch();
      await Promise.all(this.#slots.map((slot) => this.#firstStart(slot)));
      this.#assertOpen();
    } catch (error) {
      const cause = this.#closing ? closedMeanwhile() : error;
      // What cannot be ended is told beside the reason of the failure.
      await (this.#closing ?? this.#close({ drain: 0, kill: this.#plan.killTimeout })).catch((left: Error) =>
        this.#report(left),
      );
      throw cause;
    }
    this.#state = 'running';
    this.emit('ready');
  }

  /** A worker that fails before any has been ready fails the start; later it is tried again. */
  async #firstStart(slot: Slot): Promise<void> {
    try {
      await slot.start();
    } catch (error) {
      if (!this.#proven || this.#closing) throw error;
      const settled = new Promise<void>((resolve) => {
        slot.once('ready', () => resolve());
        slot.once('failed', () => resolve());
        this.#wakeAtEnd.add(resolve);
      });
      slot.notStarted(error as SpillwayError);
      await settled;
    }
  }

  #watch(): void {
    const { stuckAfter, hangTimeout, maxMemory } = this.#plan;
    this.#health = new Health({
      stuckAfter,
      // A debugger may hold a worker as long as it likes.
      hangTimeout: isDebugged(this.#plan) ? 0 : hangTimeout,
      workers: () => this.#processes.filter(({ isReady }) => isReady),
      hasQueue: (worker) => [...this.#ports].some((port) => port.queuedAt(worker.slot) > 0),
      changed: (worker, stuck, why) => {
        this.#agree();
        this.emit('worker:stuck', worker, stuck, why);
      },
      hung: (worker, why) => {
        worker.hurryAway(`was killed: ${why}`);
      },
    });
    if (maxMemory === undefined) return;
    this.#memory = new MemoryWatch({
      most: maxMemory,
      timing: this.#plan,
      workers: () => this.#slots.flatMap(({ current }) => (current?.isReady ? [current] : [])),
      replace: (worker, memory) => this.#replaceLarge(worker, memory, maxMemory),
    });
  }

  /** Whether the worker has been replaced. */
  async #replaceLarge(worker: WorkerProcess, memory: number, most: number): Promise<boolean> {
    try {
      return await this.#inTurn(async () => {
        const slot = this.#slots[worker.slot];
        if (slot?.current !== worker) return false;
        await this.#replace(slot, 'replace');
        slot.restarts++;
        slot.lastReason = `was replaced: ${memory} bytes of memory, ${most} allowed`;
        return true;
      });
    } catch (error) {
      if ((error as SpillwayError).code !== 'ERR_SPILLWAY_CLOSED') this.#report(error as Error);
      return false;
    }
  }

  #addSlot(number: number): Slot {
    const slot = new Slot(
      number,
      (each) => this.#spawn(each),
      () => ({ timing: this.#plan, autoRestart: this.#plan.autoRestart }),
    );
    this.#slots[number] = slot;
    slot.on('start', (worker) => this.emit('worker:start', worker));
    slot.on('ready', (worker) => {
      this.#proven = true;
      this.#agree();
      this.#answers.look();
      this.emit('worker:ready', worker, (worker.readyAt ?? 0) - worker.startedAt);
    });
    slot.on('drain', (worker, reason) => {
      this.#agree();
      this.emit('worker:drain', worker, reason);
    });
    slot.on('exit', (worker, expected, reason) => {
      this.#lost(slot, worker);
      this.#answers.look();
      const { code, signal } = worker.ending;
      this.emit('worker:exit', { slot: number, pid: worker.pid, code, signal, expected, reason });
    });
    slot.on('restart', ({ delay, failures, reason }) => {
      const most = this.#plan.maxRestarts;
      this.emit('worker:restart', { slot: number, delay, failures, most, reason });
    });
    slot.on('failed', (error) => {
      this.emit('worker:failed', { slot: number, reason: error.message });
      this.#giveUpIfAllFailed(error);
      this.#vacate(slot);
      this.#answers.look();
    });
    slot.on('immortal', (error) => this.#report(error));
    return slot;
  }

  async #spawn(number: number): Promise<WorkerProcess> {
    const plan = this.#plan;
    for (const port of this.#ports) await port.fill(number);
    this.#assertOpen();
    const isNode = plan.program.kind === 'node';
    const { declared } = this.#ports;
    const listeners = declared.map((port) => port.listener(number));
    let hints: ReturnType<typeof createHints> | undefined;
    try {
      hints = isNode ? createHints() : undefined;
      const child = launch(plan, number, {
        listeners,
        ...(hints ? { hints } : {}),
        desk: this.#desk?.name ?? '',
        port: declared[0]?.group.address.port,
      });
      const readiness = {
        isNode,
        waits: plan.waitReady,
        ports: declared.map(({ id }) => id),
        listeners: listeners.length,
        isPort: (id: number) => this.#ports.get(id) !== undefined,
      };
      const worker = new WorkerProcess(number, child, readiness, hints);
      this.#hear(worker);
      return worker;
    } catch (error) {
      hints?.close();
      throw error;
    }
  }

  #hear(worker: WorkerProcess): void {
    this.#handover.add(worker);
    // The slots come first, so that a listener of our events sees the groups as they are.
    worker.on('state', () => this.#agree());
    worker.on('listening', () => this.emit('worker:listening', worker));
    this.#answers.hear(worker);
    worker.on('message', (message, handle) => {
      // Whoever listens owns the handle.
      if (!this.emit('worker:message', worker, message, handle)) closeHandle(handle);
    });
  }

  /** Makes the slots of all ports agree with the workers, as far as that is possible. */
  #agree(): void {
    // Nobody is to be given anything new any more; the many changes of an end are looked at once.
    if (!this.#closing) this.#agreeNow();
    else if (!this.#agreeing) {
      this.#agreeing = true;
      setImmediate(() => this.#agreeNow());
    }
  }

  #agreeNow(): void {
    this.#agreeing = false;
    const staff = new Map(this.#slots.map((slot) => [slot.number, slot.workers]));
    for (const port of this.#ports) {
      try {
        port.agree(staff);
      } catch (error) {
        this.#report(error as Error);
      }
    }
    this.#handover.retry();
  }

  #lost(slot: Slot, worker: WorkerProcess): void {
    if (this.#retired.has(slot) && slot.workers.length === 0) this.#retired.delete(slot);
    this.#agree();
    if (worker.state === 'exited') this.#vacate(slot);
  }

  /** Nobody is at the slot: its queues go to the siblings, as far as that is possible. */
  #vacate(slot: Slot): void {
    // Whoever else is at the slot has the same listener, and takes what is queued there.
    const isVacant = this.#slots[slot.number] === slot && slot.workers.length === 0;
    if (!isVacant || !this.#proven || this.#closing) return;
    const forGood = slot.failed !== undefined && !slot.isStaffed;
    for (const port of this.#ports) {
      const left = port
        .vacate(slot.number, { forGood })
        .then(() => this.#agree())
        .catch((error: Error) => this.#report(error))
        .finally(() => this.#leaving.delete(left));
      this.#leaving.add(left);
    }
  }

  #giveUpIfAllFailed(error: SpillwayError): void {
    if (this.#closing || !this.#slots.every(({ failed, isStaffed }) => failed && !isStaffed)) return;
    const reason = new SpillwayError('ERR_SPILLWAY_NO_WORKER', `no worker is left: ${error.message}`, {
      cause: error,
    });
    this.#close({ drain: 0, kill: this.#plan.killTimeout }, reason).catch((left: Error) =>
      this.#report(left),
    );
  }

  async #replaceInTurn(): Promise<void> {
    const slots = [...this.#slots];
    for (const [done, slot] of slots.entries()) {
      try {
        await this.#replace(slot, 'reload');
      } catch (error) {
        const rest = done === 0 ? 'all workers are those of before' : `${done} of ${slots.length} are new`;
        throw reloadFailure(error as SpillwayError, rest);
      }
    }
  }

  async #replace(slot: Slot, reason: DrainReason): Promise<void> {
    if (reason === 'reload') slot.forgive();
    try {
      await slot.prepare();
    } catch (error) {
      // The one before may have gone meanwhile.
      if (!this.#closing && !slot.isStaffed) slot.notStarted(error as SpillwayError);
      throw error;
    }
    slot.promote(reason);
  }

  async #replaceTogether(): Promise<void> {
    const slots = [...this.#slots];
    for (const slot of slots) slot.forgive();
    const results = await Promise.allSettled(slots.map((slot) => slot.prepare()));
    // One that was ready may have gone while the others were starting.
    const lost = slots.find((slot) => !slot.isPrepared);
    if (!lost) {
      for (const slot of slots) slot.promote('reload');
      return;
    }
    const failed = results.find((result) => result.status === 'rejected');
    const reason: SpillwayError =
      failed?.reason ??
      new SpillwayError('ERR_SPILLWAY_WORKER', `the new worker of slot ${lost.number} has gone again`);
    await Promise.allSettled(slots.map((slot) => slot.withdraw()));
    for (const slot of slots) if (!this.#closing && !slot.isStaffed) slot.notStarted(reason);
    throw reloadFailure(reason, 'all workers are those of before');
  }

  async #grow(workers: number): Promise<void> {
    const from = this.#slots.length;
    for (let number = from; number < workers; number++) this.#addSlot(number);
    const added = this.#slots.slice(from);
    const results = await Promise.allSettled(added.map((slot) => slot.start()));
    const failed = results.find((result) => result.status === 'rejected');
    if (!failed) return;
    await this.#shrink(from);
    throw failed.reason;
  }

  /** Slots that have been given up get another chance before those that serve in their place are taken away. */
  async #keepFirst(workers: number): Promise<void> {
    const kept = this.#slots.slice(0, workers);
    for (const slot of kept.filter(({ isStaffed }) => !isStaffed)) {
      slot.forgive();
      await slot.start();
    }
    await this.#shrink(workers);
  }

  async #shrink(workers: number): Promise<void> {
    const leaving = this.#slots.slice(workers);
    for (const { number } of leaving) for (const port of this.#ports) port.retire(number);
    for (const slot of leaving) this.#retired.add(slot);
    const gone = leaving.map((slot) => {
      const ended = slot.retire('scale').then(
        () => void this.#retired.delete(slot),
        // It stays among the workers: it is there.
        (error: Error) => this.#report(error),
      );
      const quiet = Promise.all(slot.workers.map((worker) => worker.quiet()));
      return Promise.race([ended, quiet]);
    });
    await Promise.all(gone);
    this.#slots.length = workers;
    this.#answers.look();
    for (const { number } of leaving) {
      for (const port of this.#ports) await port.remove(number).catch((error: Error) => this.#report(error));
    }
  }

  /** One operation after another; none once the end has begun. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#closing) return Promise.reject(closedMeanwhile());
    const result = this.#operations.then(() => {
      this.#assertOpen();
      return work();
    });
    this.#operations = result.catch(() => {});
    return result;
  }

  #assertOpen(): void {
    if (this.#closing) throw closedMeanwhile();
  }

  /** @param reason why it ends by itself. */
  #close(patience: Patience, reason?: SpillwayError): Promise<void> {
    this.#state = 'stopping';
    const ended = this.#end(patience);
    this.#closing = ended;
    for (const wake of this.#wakeAtEnd) wake();
    ended
      .finally(() => {
        this.#state = 'stopped';
        this.emit('close');
      })
      .then(
        () => (reason ? this.#settleClosed.reject(reason) : this.#settleClosed.resolve()),
        (error: Error) => this.#settleClosed.reject(reason ?? error),
      );
    return ended;
  }

  async #end({ drain, kill }: Patience): Promise<void> {
    const begun = performance.now();
    this.#memory?.close();
    await this.#opening.catch(() => {});
    const slots = this.#allSlots;
    let ends: PromiseSettledResult<void>[] = [];
    try {
      if (drain > 0 && this.#proven) await this.#emptyQueues(drain);
      const left = Math.max(0, Math.min(drain, this.#quickest.drain) - (performance.now() - begun));
      const retiring = Promise.allSettled(
        slots.map((slot) => slot.retire('stop', { drain: left, kill: Math.min(kill, this.#quickest.kill) })),
      );
      // Whoever tries to connect from then on shall learn that nobody is there, and not wait for the last response.
      const quiet = Promise.all(slots.flatMap(({ workers }) => workers.map((worker) => worker.quiet())));
      await Promise.race([retiring, quiet]);
      await Promise.allSettled(this.#leaving);
      this.#closePorts();
      ends = await retiring;
    } finally {
      this.#health?.close();
      this.#keys.close();
      this.#answers.close();
      this.#handover.close();
      // From here on nothing can be steered; a worker that cannot be ended may still speak.
      for (const slot of slots) for (const worker of slot.workers) worker.removeAllListeners('state');
      this.#desk?.close();
      this.#closePorts();
    }
    const failed = ends.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** With whoever looks at their counters. */
  #closePorts(): void {
    this.#overflow.close();
    this.#ports.close();
  }

  /** The end has begun with more patience. */
  #quicken(patience: Patience): void {
    this.#quickest = patience;
    // Those that have not been told yet will be, with this patience.
    for (const worker of this.#processes) {
      if (worker.state === 'draining') worker.end('stop', patience).catch(() => {});
    }
  }

  /** Nobody new is let in, and who waits is accepted, as long as there is somebody who accepts. */
  async #emptyQueues(limit: number): Promise<void> {
    const begun = performance.now();
    const ports = [...this.#ports];
    const refused = await Promise.all(
      ports.map((port) =>
        port.refuseNew().catch((error: Error) => {
          this.#report(error);
          return false;
        }),
      ),
    );
    // Most of the time may go into what waits. Where somebody new is let in all the same there is no end to it.
    const share = refused.every(Boolean) ? limit * 0.75 : Math.min(1000, limit / 4);
    const isServed = (port: Port) =>
      this.#slots.some(({ current }) => current?.serves(port.id) && !current.stuck);
    const waits = (port: Port, time: number) =>
      isServed(port) && (port.queued > 0 || (time < HANDSHAKE_LIMIT && port.handshakes > 0));
    for (;;) {
      const time = performance.now() - begun;
      const over = time > Math.min(share, this.#quickest.drain);
      if (over || !ports.some((port) => waits(port, time))) return;
      await new Promise((resolve) => setTimeout(resolve, QUEUE_LOOK));
    }
  }

  /** What goes wrong with one slot must not end a process that serves on the others. */
  #report(error: Error): void {
    if (this.listenerCount('error') > 0) this.emit('error', error);
    else process.emitWarning(error);
  }

  /** A failure that somebody awaits is told there; one that nobody would see ends the process, as Node's way is. */
  #complain(error: Error, awaited: boolean): void {
    // Whoever closes a master that is starting knows.
    if ((error as SpillwayError).code === 'ERR_SPILLWAY_CLOSED') return;
    if (this.listenerCount('error') > 0) this.emit('error', error);
    else if (!awaited) throw error;
  }
}

function isDebugged({ program, env }: Plan): boolean {
  return [...program.execArgv, ...(env.NODE_OPTIONS ?? '').split(' ')].some((each) =>
    each.startsWith('--inspect'),
  );
}

function createHints() {
  try {
    return new (native().Hints)('create');
  } catch (error) {
    throw systemError('ERR_SPILLWAY_LIMIT', 'no memory can be shared with a worker', error);
  }
}

function closedMeanwhile(): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_CLOSED', 'the master is ending');
}

function reloadFailure(error: SpillwayError, state: string): SpillwayError {
  if (error.code === 'ERR_SPILLWAY_CLOSED') return error;
  return new SpillwayError('ERR_SPILLWAY_RELOAD', `${error.message}; ${state}`, {
    cause: error,
    hint: error.hint,
  });
}
