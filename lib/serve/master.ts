/** The master: opens the ports of a service, keeps its slots staffed, and ends. What users see of it. */
import { EventEmitter } from 'node:events';
import { SpillwayError } from '../errors.js';
import type { SocketGroup } from '../group/group.js';
import { Agreement } from './agreement.js';
import { Answers } from './answers.js';
import type { Change } from './demand.js';
import { DemandWatch } from './demand-watch.js';
import { type Answering, Desk } from './desk.js';
import { Ending } from './ending.js';
import type { MasterEvents } from './events.js';
import { Handover } from './handover.js';
import { HintsRows } from './hints-rows.js';
import { type Keeping, type Legacy, NOTHING_KEPT, StateKeeper, takeState } from './keeping.js';
import { assertBuilt } from './launch.js';
import { closedMeanwhile, Operations } from './operations.js';
import {
  changedPlan,
  hintsRowsOf,
  LONGEST,
  type MasterOptions,
  type Plan,
  planOf,
  type WorkerChange,
} from './options.js';
import { OverflowWatch } from './overflow.js';
import { Placing } from './placing.js';
import { usageOf } from './process-usage.js';
import { toWorker } from './protocol.js';
import { replaceInTurn, replaceTogether, restartAll } from './replacing.js';
import { Rescue } from './rescue.js';
import { scaleTo } from './scaling.js';
import { type PortsSnapshot, ServicePorts } from './service-ports.js';
import type { Slot } from './slot.js';
import { Slots } from './slots.js';
import { Staffing, type StaffSnapshot } from './staffing.js';
import { type MasterState, type MasterStatus, portStatus, slotRows } from './status.js';
import { TicketKeys } from './ticket-keys.js';
import { Watching } from './watching.js';
import type { Patience, Worker } from './worker-process.js';

export type { MasterEvents } from './events.js';
export type { MasterStatus } from './status.js';

/**
 * Opens a service and keeps its workers alive.
 *
 * @returns at once; {@link Master.ready} tells when all workers are ready.
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`, `ERR_SPILLWAY_PERMISSION` (workers of another user without CAP_KILL),
 *   `ERR_SPILLWAY_SCRIPT_MISSING`, `ERR_SPILLWAY_ADDON` (launcher or preload not built)
 */
export function serve(options: MasterOptions): Master {
  return serveKept(options, undefined);
}

/** @internal {@link serve}, for a master that another one follows when it ends otherwise than by {@link Master.close}. */
export function serveKept(options: MasterOptions, kept: Kept | undefined): Master {
  const plan = planOf(options);
  assertBuilt();
  return new Master(plan, kept);
}

/** Where what outlives the master is kept, and what the one before it has left. */
export interface Kept {
  keeping: Keeping;
  legacy: Legacy;
}

/** What has to be known of a master to go on with it. Plain data. */
interface MasterSnapshot {
  wanted: number;
  ports: PortsSnapshot;
  staff: StaffSnapshot;
  desk: string;
  ticketKeys: string;
  hintsRows: number;
  /** How many masters have tried to go on with it, and could not. */
  attempts?: number;
}

/** Masters that may fail to go on with what one has left before another begins anew. */
const MOST_ATTEMPTS = 3;

/**
 * N workers behind the ports of a service, each with listening sockets of its own.
 *
 * Workers hold no capability and end with their master, however it ends. One that ends by itself is started again.
 */
export class Master extends EventEmitter<MasterEvents> {
  #plan: Plan;
  readonly #startedAt = performance.now();
  readonly #slots = new Slots();
  readonly #operations = new Operations();
  readonly #handover = new Handover();
  readonly #rescue: Rescue;
  readonly #hints: HintsRows;
  readonly #ports: ServicePorts;
  readonly #keys: TicketKeys;
  readonly #answers: Answers;
  readonly #agreement: Agreement;
  readonly #staffing: Staffing;
  readonly #ending: Ending;
  readonly #overflow: OverflowWatch;
  #desk: Desk | undefined;
  #watching: Watching | undefined;
  readonly #kept: Kept | undefined;
  readonly #states: StateKeeper | undefined;
  /** Of the master before this one. */
  readonly #left: MasterSnapshot | undefined;
  readonly #hintsRows: number;
  /** Everything of the master before is in its place: what is saved from now on is whole. */
  #isWhole = false;
  #leavesAll = false;
  #isSaveDue = false;
  #demand: DemandWatch | undefined;
  #placing: Placing | undefined;
  #state: MasterState = 'starting';
  #closing: Promise<void> | undefined;
  /** Desk and declared ports; the end waits for it, so that nothing is opened after it. */
  readonly #opening: Promise<void>;
  readonly #ready: Promise<void>;
  readonly #closed: Promise<void>;
  #settleClosed!: { resolve: () => void; reject: (error: Error) => void };
  readonly #awaited = { ready: false, closed: false };

  /** @internal Use {@link serve} or {@link Master.start}. */
  constructor(plan: Plan, kept?: Kept) {
    super();
    this.#plan = plan;
    this.#kept = kept;
    const left = kept && takeState<MasterSnapshot>(kept.legacy);
    this.#left = left?.state;
    this.#states = kept && new StateKeeper(kept.keeping, left?.number ?? 0);
    const keeping = kept?.keeping;
    this.#hintsRows = this.#left?.hintsRows ?? hintsRowsOf(plan);
    this.#hints = new HintsRows(this.#hintsRows, this.#hintsLeft());
    if (this.#hints.map !== undefined) keeping?.keep('hints', this.#hints.map);
    this.#rescue = new Rescue((port, notice) => {
      // Nobody is above this who could be told.
      try {
        if (notice === 'expired') this.#ports.get(port)?.expire();
        else this.#demand?.wanted();
      } catch (error) {
        this.#report(error as Error);
      }
    });
    const planNow = () => this.#plan;
    const report = (error: Error) => this.#report(error);
    const [slots, operations] = [this.#slots, this.#operations];
    const [handover, hints, rescue] = [this.#handover, this.#hints, this.#rescue];
    const ports = new ServicePorts(
      planNow,
      { handover, hints, rescue, keeping: keeping ?? NOTHING_KEPT },
      (port) => this.emit('port', port.group),
      report,
    );
    this.#ports = ports;
    const tellKeys = (keys: string) => {
      for (const worker of slots.workers) worker.tell(toWorker({ event: 'ticketKeys', keys }));
      this.#save();
    };
    this.#keys = new TicketKeys(plan.ticketKeyRotation, tellKeys, this.#left?.ticketKeys);
    this.#answers = new Answers({ plan: planNow, slots, operations, report }, ports, this.#keys);
    const agreed = () => this.#saveSoon();
    this.#agreement = new Agreement({ slots, ports, handover, rescue, operations, agreed, report });
    this.#staffing = new Staffing({
      plan: planNow,
      slots,
      ports,
      hints,
      handover,
      answers: this.#answers,
      agreement: this.#agreement,
      operations,
      desk: () => this.#desk?.name ?? '',
      placing: () => this.#placing,
      keeping,
      changed: () => this.#save(),
      events: this,
      failed: (error) => this.#giveUpIfAllFailed(error),
      report,
    });
    this.#ending = new Ending({ slots, ports, report });
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
    operations.follow(this.#ready);
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

  /** Whether it has gone on with what another master had begun. */
  get isSuccessor(): boolean {
    return this.#left !== undefined;
  }

  /** How many workers there are to be. */
  get wanted(): number {
    return this.#slots.wanted.length;
  }

  get state(): MasterState {
    return this.#state;
  }

  /** Living processes by slot, successors and those that finish what they have included. */
  get workers(): readonly Worker[] {
    return this.#slots.workers;
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
    return this.#operations.inTurn(async () => {
      const before = this.#plan;
      const after = changedPlan(before, change);
      this.emit('reload', { phase: 'begin' });
      this.#state = 'reloading';
      this.#plan = after;
      try {
        if (together) await replaceTogether(this.#slots.wanted, this.#operations);
        else await replaceInTurn(this.#slots.wanted, this.#operations);
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
    return this.#operations.inTurn(() => restartAll(this.#slots.wanted, (error) => this.#report(error)));
  }

  /**
   * More workers, or fewer: the last slots then take nothing new, finish what they have, and their queues go to the others.
   * Fulfilled when the new ones are ready, or the last ones out of the way.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`; `ERR_SPILLWAY_WORKER` when a new one is not ready: it stays as it was.
   */
  scale(workers: number): Promise<void> {
    return this.#operations.inTurn(async () => {
      const { demand } = this.#plan;
      if (demand) {
        throw new SpillwayError(
          'ERR_SPILLWAY_OPTION_FIXED',
          `the number of workers follows the load, between ${demand.min} and ${demand.max}`,
          { hint: 'Start the master with a fixed number of workers to set it by hand.' },
        );
      }
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
      await this.#scaleTo(workers);
      this.#plan = { ...this.#plan, workers, options: { ...this.#plan.options, workers } };
    });
  }

  /** In turn, and with a number that is possible. @param why by themselves. */
  async #scaleTo(workers: number, why?: string): Promise<void> {
    const from = this.#slots.wanted.length;
    await scaleTo(workers, {
      slots: this.#slots,
      ports: this.#ports,
      answers: this.#answers,
      add: (number) => this.#staffing.add(number),
      report: (error) => this.#report(error),
    });
    if (workers !== from) this.emit('scale', { from, to: workers, ...(why === undefined ? {} : { why }) });
  }

  /** What the load asks for. It is told before it is done: a worker takes its time. */
  #followDemand({ workers, why }: Change): Promise<void> {
    const changed = this.#operations.inTurn(async () => {
      const from = this.#slots.wanted.length;
      if (workers === from) return;
      this.emit('demand', { from, to: workers, why });
      await this.#scaleTo(workers, why);
    });
    changed.catch((error: SpillwayError) => {
      if (error.code !== 'ERR_SPILLWAY_CLOSED') this.#report(error);
    });
    return changed;
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
    else if (timeout !== undefined) this.#ending.quicken({ drain, kill });
    if (timeout === 0) for (const slot of this.#slots.all) slot.hurry();
    return this.#closing as Promise<void>;
  }

  /** Fulfilled when nothing is under way that was asked for: no reload, no scale. */
  atRest(): Promise<void> {
    return this.#operations.inTurn(async () => {});
  }

  /** What there is to know at this moment. */
  async status(): Promise<MasterStatus> {
    const usage = await usageOf(this.#slots.workers.map(({ pid }) => pid));
    const ports = [...this.#ports].filter(({ isOpen }) => isOpen);
    return {
      pid: process.pid,
      state: this.#state,
      uptime: performance.now() - this.#startedAt,
      wanted: this.#slots.wanted.length,
      workers: this.#slots.all.flatMap((slot) => slotRows(slot, this.#slots.isRetired(slot), usage, ports)),
      ports: ports.map((port) => portStatus(port, this.#rescue.sent(port.id))),
    };
  }

  async #open(): Promise<void> {
    const left = this.#left;
    const isWorker = (pid: number) => this.#slots.workers.some((worker) => worker.pid === pid);
    const answer: Answering = (question, pid) => this.#answers.answer(question, pid);
    const desk = left && this.#kept?.legacy.take('desk');
    this.#desk =
      left && desk !== undefined
        ? await Desk.adopt(left.desk, desk, isWorker, answer)
        : await Desk.open(isWorker, answer);
    this.#kept?.keeping.keep('desk', this.#desk.fd);
    this.#operations.assertOpen();
    if (left) await this.#goOnOrGiveUp(left);
    else await this.#ports.openDeclared(this.#plan.workers);
    this.#kept?.legacy.giveUp(this.#kept.keeping);
    this.#isWhole = true;
    this.#save();
  }

  /** What several masters could not go on with is given up: the next one begins anew. Until then the workers serve on. */
  async #goOnOrGiveUp(left: MasterSnapshot): Promise<void> {
    const { keeping, legacy } = this.#kept as Kept;
    const attempts = (left.attempts ?? 0) + 1;
    this.#states?.keep({ ...left, attempts } satisfies MasterSnapshot);
    try {
      await this.#goOn(left);
    } catch (error) {
      this.#leavesAll = attempts < MOST_ATTEMPTS;
      if (!this.#leavesAll) for (const name of legacy.names) keeping.drop(name);
      throw error;
    }
  }

  /** It could not go on with what was left, and has touched nothing of it: another one shall try. This process has to end. */
  get leavesAll(): boolean {
    return this.#leavesAll;
  }

  /** Workers first: whoever has gone has given back what it had. */
  async #goOn({ wanted, staff, ports }: MasterSnapshot): Promise<void> {
    const { demand, options } = this.#plan;
    const workers = demand ? Math.min(Math.max(wanted, demand.min), demand.max) : wanted;
    this.#plan = { ...this.#plan, workers, options: demand ? options : { ...options, workers } };
    this.#slots.proven = true;
    this.#addSlots();
    const found = this.#staffing.adopt(staff, (this.#kept as Kept).legacy);
    await this.#ports.adopt(ports, (this.#kept as Kept).legacy, (pid) => found.get(pid));
    // What the master before was about to take away.
    for (const port of this.#ports) {
      for (const slot of port.group.slots.filter((number) => number >= workers)) {
        port.retire(slot);
        await port.remove(slot);
      }
    }
    this.#agreement.look();
  }

  #addSlots(): void {
    for (let number = this.#slots.wanted.length; number < this.#plan.workers; number++)
      this.#staffing.add(number);
  }

  #hintsLeft(): { map: number; taken: ReadonlySet<number> } | undefined {
    const map = this.#left && this.#kept?.legacy.take('hints');
    if (map === undefined) return undefined;
    const rows = this.#left?.staff.workers.map(({ hintsRow }) => hintsRow) ?? [];
    return { map, taken: new Set(rows.filter((row) => row !== null)) };
  }

  /** What the next master is to know is kept as of now. */
  #save(): void {
    if (!this.#states || !this.#desk || !this.#isWhole || this.#operations.isEnding) return;
    const state: MasterSnapshot = {
      wanted: this.#slots.staying || this.#plan.workers,
      ports: this.#ports.snapshot(),
      staff: this.#staffing.snapshot(),
      desk: this.#desk.name,
      ticketKeys: this.#keys.current,
      hintsRows: this.#hintsRows,
    };
    try {
      this.#states.keep(state);
    } catch (error) {
      this.#report(error as Error);
    }
  }

  /** After the many changes of one turn of the event loop. */
  #saveSoon(): void {
    if (!this.#kept || this.#isSaveDue) return;
    this.#isSaveDue = true;
    setImmediate(() => {
      this.#isSaveDue = false;
      this.#save();
    });
  }

  async #begin(): Promise<void> {
    try {
      await this.#opening;
      this.#operations.assertOpen();
      const { placement } = this.#plan;
      if (placement) {
        this.#placing = new Placing({
          placement,
          slots: this.#slots,
          ports: this.#ports,
          moved: (cpus) => this.emit('moved', cpus),
          report: (error) => this.#report(error),
        });
      }
      this.#addSlots();
      this.#watching = new Watching(this.#plan, {
        slots: this.#slots,
        ports: this.#ports,
        agreement: this.#agreement,
        operations: this.#operations,
        events: this,
        report: (error) => this.#report(error),
      });
      const missing = this.#slots.wanted.filter(({ current }) => current === undefined);
      await Promise.all(missing.map((slot) => this.#firstStart(slot)));
      this.#operations.assertOpen();
    } catch (error) {
      if (this.#leavesAll) throw error;
      const cause = this.#operations.isEnding ? closedMeanwhile() : error;
      // What cannot be ended is told beside the reason of the failure.
      await (this.#closing ?? this.#close({ drain: 0, kill: this.#plan.killTimeout })).catch((left: Error) =>
        this.#report(left),
      );
      throw cause;
    }
    this.#state = 'running';
    const { demand: rules } = this.#plan;
    if (rules) {
      const change = (wanted: Change) => this.#followDemand(wanted);
      this.#demand = new DemandWatch({
        rules,
        slots: this.#slots,
        ports: this.#ports,
        change,
        report: (error) => this.#report(error),
      });
    }
    this.emit('ready');
  }

  /** A worker that fails before any has been ready fails the start; later it is tried again. */
  async #firstStart(slot: Slot): Promise<void> {
    try {
      await slot.start();
    } catch (error) {
      if (!this.#slots.proven || this.#operations.isEnding) throw error;
      const settled = new Promise<void>((resolve) => {
        slot.once('ready', () => resolve());
        slot.once('failed', () => resolve());
      });
      slot.notStarted(error as SpillwayError);
      await Promise.race([settled, this.#operations.end]);
    }
  }

  #giveUpIfAllFailed(error: SpillwayError): void {
    const isOver = this.#slots.wanted.every(({ failed, isStaffed }) => failed && !isStaffed);
    if (this.#operations.isEnding || !isOver) return;
    const reason = new SpillwayError('ERR_SPILLWAY_NO_WORKER', `no worker is left: ${error.message}`, {
      cause: error,
    });
    this.#close({ drain: 0, kill: this.#plan.killTimeout }, reason).catch((left: Error) =>
      this.#report(left),
    );
  }

  /** @param reason why it ends by itself. */
  #close(patience: Patience, reason?: SpillwayError): Promise<void> {
    this.#state = 'stopping';
    this.#operations.beginEnd();
    const ended = this.#end(patience);
    this.#closing = ended;
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

  async #end(patience: Patience): Promise<void> {
    const begun = performance.now();
    this.#watching?.stopReplacing();
    this.#demand?.close();
    this.#placing?.close();
    await this.#opening.catch(() => {});
    try {
      await this.#ending.run(patience, begun, async () => {
        await this.#agreement.settled();
        this.#closePorts();
      });
    } finally {
      this.#watching?.close();
      this.#keys.close();
      this.#answers.close();
      this.#handover.close();
      // From here on nothing can be steered; a worker that cannot be ended may still speak.
      for (const worker of this.#slots.workers) worker.removeAllListeners('state');
      this.#desk?.close();
      this.#closePorts();
      this.#rescue.close();
      this.#hints.close();
    }
  }

  /** With whoever looks at their counters. */
  #closePorts(): void {
    this.#overflow.close();
    this.#ports.close();
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
