/** Starts workers for the slots of a master, hears what becomes of them, and tells of it. */
import type { EventEmitter } from 'node:events';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import type { SpillwayError } from '../errors.js';
import { type AdoptedEnds, AdoptedProcess, startTimeOf } from './adopted-process.js';
import type { Agreement } from './agreement.js';
import type { Answers } from './answers.js';
import { closeHandle } from './channel-guard.js';
import type { MasterEvents } from './events.js';
import type { Handover } from './handover.js';
import type { HintsRows } from './hints-rows.js';
import { type Keeping, keptUnder, type Legacy, NOTHING_KEPT } from './keeping.js';
import { launch } from './launch.js';
import { type Lifeline, linksOf, openLifeline, openLinks } from './links.js';
import type { Operations } from './operations.js';
import type { Plan } from './options.js';
import type { Placing } from './placing.js';
import { toWorker } from './protocol.js';
import type { ServicePorts } from './service-ports.js';
import { Slot, type SlotSnapshot } from './slot.js';
import type { Slots } from './slots.js';
import { type WorkerLinks, WorkerProcess, type WorkerSnapshot } from './worker-process.js';

export interface StaffingParts {
  plan: () => Plan;
  slots: Slots;
  ports: ServicePorts;
  hints: HintsRows;
  handover: Handover;
  answers: Answers;
  agreement: Agreement;
  operations: Operations;
  /** Undefined: workers run where the master does. */
  placing: () => Placing | undefined;
  /** Name of the abstract socket of the desk, once it is open. */
  desk: () => string;
  events: EventEmitter<MasterEvents>;
  /** Where what the next master needs is kept; undefined: workers end with this one. */
  keeping: Keeping | undefined;
  /** What is to be kept has changed, and must be before anything else happens. */
  changed: () => void;
  /** No other worker follows in a slot. */
  failed: (error: SpillwayError) => void;
  report: (error: Error) => void;
}

/** What has to be known of all workers to go on with them. Plain data. */
export interface StaffSnapshot {
  workers: (WorkerSnapshot & {
    key: number;
    slot: number;
    role: 'current' | 'next' | 'leaving';
    hintsRow: number | null;
  })[];
  slots: SlotSnapshot[];
  lastKey: number;
}

function placeOf(key: number): string {
  return `worker.${key}`;
}

/**
 * A master may have been killed after a successor's listener had come into the slot, and before it was noted that the
 * successor serves: who serves is who has the slot's listeners.
 */
function rolesByListeners(workers: StaffSnapshot['workers'], legacy: Legacy): StaffSnapshot['workers'] {
  return workers.map((worker) => {
    const { slot, role } = worker;
    const next = workers.find((other) => other.slot === slot && other.role === 'next');
    const current = workers.find((other) => other.slot === slot && other.role === 'current');
    if (role === 'leaving' || !next || !current) return worker;
    const listeners = legacy.inodesAt(`.slot.${slot}`);
    const hasThem = (pid: number) => {
      const own = socketsOf(pid);
      return listeners.some((inode) => own.has(inode));
    };
    if (hasThem(current.pid) || !hasThem(next.pid)) return worker;
    return { ...worker, role: role === 'next' ? 'current' : 'leaving' };
  });
}

/** Inodes of the sockets that a process has open; none where that cannot be seen. */
function socketsOf(pid: number): Set<number> {
  const inodes = new Set<number>();
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(Number(inode));
    }
  } catch {
    // It has gone, or is somebody else's.
  }
  return inodes;
}

/** Nothing of one that has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Whatever there was of a worker. */
function dropAll(kept: Keeping): void {
  for (const name of ['life', 'ipc', 'stdout', 'stderr', 'link', 'hints']) kept.drop(name);
}

export class Staffing {
  readonly #parts: StaffingParts;
  /** Under which number what is kept of a worker is kept. */
  readonly #keys = new Map<WorkerProcess, number>();
  #lastKey = 0;

  constructor(parts: StaffingParts) {
    this.#parts = parts;
  }

  /** The slot of that number, where nobody works yet. */
  add(number: number): void {
    this.#parts.slots.put(this.#open(number));
  }

  #open(number: number): Slot {
    const { plan, answers, agreement, slots, events, failed, report } = this.#parts;
    const slot = new Slot(
      number,
      (each) => this.#spawn(each),
      () => ({ timing: plan(), autoRestart: plan().autoRestart }),
      this.#parts.changed,
    );
    slot.on('start', (worker) => events.emit('worker:start', worker));
    slot.on('ready', (worker) => {
      slots.proven = true;
      agreement.look();
      answers.look();
      events.emit('worker:ready', worker, (worker.readyAt ?? 0) - worker.startedAt);
    });
    slot.on('drain', (worker, reason) => {
      agreement.look();
      events.emit('worker:drain', worker, reason);
    });
    slot.on('exit', (worker, expected, reason) => {
      this.#lost(slot, worker);
      answers.look();
      const { code, signal } = worker.ending;
      events.emit('worker:exit', { slot: number, pid: worker.pid, code, signal, expected, reason });
    });
    slot.on('restart', ({ delay, failures, reason }) => {
      const most = plan().maxRestarts;
      events.emit('worker:restart', { slot: number, delay, failures, most, reason });
    });
    slot.on('failed', (error) => {
      events.emit('worker:failed', { slot: number, reason: error.message });
      failed(error);
      agreement.vacate(slot);
      answers.look();
    });
    slot.on('immortal', report);
    return slot;
  }

  async #spawn(number: number): Promise<WorkerProcess> {
    const { slots, ports, hints, operations, desk, placing, keeping } = this.#parts;
    const plan = this.#parts.plan();
    for (const port of ports) await port.fill(number);
    operations.assertOpen();
    const isNode = plan.program.kind === 'node';
    const { declared } = ports;
    placing()?.tell(number);
    const follows = slots.wanted[number]?.current !== undefined;
    const listeners = declared.map((port) => (follows ? port.successor(number) : port.listener(number)));
    const links = isNode ? openLinks(hints) : undefined;
    const key = ++this.#lastKey;
    const kept = keptUnder(placeOf(key), keeping ?? NOTHING_KEPT);
    let lifeline: Lifeline | undefined;
    try {
      lifeline = keeping && openLifeline(kept);
      const child = launch(plan, number, {
        listeners,
        ...(links ? { node: links } : {}),
        desk: desk(),
        port: declared[0]?.group.address.port,
        cpus: placing()?.at(number),
        lifeline: lifeline?.fd,
      });
      const readiness = {
        isNode,
        waits: plan.waitReady,
        ports: declared.map(({ id }) => id),
        listeners: listeners.length,
        isPort: (id: number) => ports.get(id) !== undefined,
      };
      const worker = new WorkerProcess(number, child, readiness, links?.kept);
      for (const port of declared) port.follows(number, worker);
      if (lifeline) this.#keep(key, worker, kept, lifeline.held);
      this.#hear(worker);
      return worker;
    } catch (error) {
      links?.kept.close();
      kept.drop('life');
      if (lifeline) closeSync(lifeline.held);
      throw error;
    } finally {
      links?.given();
      lifeline?.given();
    }
  }

  /** For the next master: without it nobody would know of the worker, which ends then with its lifeline. */
  #keep(key: number, worker: WorkerProcess, kept: Keeping, life: number): void {
    this.#keys.set(worker, key);
    const { ipc, stdout, stderr } = worker.ends;
    const ends = { ipc, stdout, stderr, link: worker.links?.help, hints: worker.links?.hints.fd };
    for (const [name, fd] of Object.entries(ends)) if (fd !== undefined) kept.keep(name, fd);
    this.#dropAfter(worker, kept, life);
  }

  #dropAfter(worker: WorkerProcess, kept: Keeping, life: number | undefined): void {
    worker.on('exit', () => {
      dropAll(kept);
      if (life !== undefined) closeSync(life);
      this.#keys.delete(worker);
    });
  }

  snapshot(): StaffSnapshot {
    const workers = this.#parts.slots.all.flatMap((slot) =>
      slot.workers.flatMap((worker) => {
        const key = this.#keys.get(worker);
        const left = worker.snapshot();
        const role = slot.roleOf(worker);
        if (key === undefined || !left || !role) return [];
        const { hints } = worker.links ?? {};
        return [{ key, slot: slot.number, role, hintsRow: hints?.inKernel ? hints.row : null, ...left }];
      }),
    );
    return { workers, slots: this.#parts.slots.all.map((slot) => slot.snapshot()), lastKey: this.#lastKey };
  }

  /**
   * Goes on with the workers of a master that has ended, as far as they are there. Slots are there already.
   *
   * @returns those that are, by process.
   */
  adopt({ workers, slots: rows, lastKey }: StaffSnapshot, legacy: Legacy): Map<number, WorkerProcess> {
    const { slots, keeping = NOTHING_KEPT } = this.#parts;
    this.#lastKey = lastKey;
    const found = new Map<number, WorkerProcess>();
    for (const row of rows) slots.wanted[row.number]?.goOn(row);
    for (const { key, slot: number, role, hintsRow, ...left } of rolesByListeners(workers, legacy)) {
      const ends = legacy.takeUnder(placeOf(key));
      const kept = keptUnder(placeOf(key), keeping);
      const isThere = startTimeOf(left.pid) === left.startTime;
      const worker = isThere ? this.#adoptOne(number, left, hintsRow, ends) : undefined;
      const life = worker ? ends.get('life') : undefined;
      for (const fd of ends.values()) if (fd !== life) closeSync(fd);
      if (!worker) {
        dropAll(kept);
        continue;
      }
      found.set(left.pid, worker);
      this.#keys.set(worker, key);
      this.#dropAfter(worker, kept, life);
      this.#hear(worker);
      const slot = slots.wanted[number] ?? this.#retired(number);
      slot.adopt(worker, slots.isRetired(slot) ? 'leaving' : role);
      this.#parts.events.emit('worker:adopted', worker);
      worker.tell(toWorker({ event: 'master', pid: process.pid }));
    }
    return found;
  }

  /** One that has been scaled away: its workers finish what they have. */
  #retired(number: number): Slot {
    const { slots } = this.#parts;
    const slot = slots.all.find((each) => each.number === number) ?? this.#open(number);
    slots.retire(slot);
    return slot;
  }

  /** Takes the descriptors that it needs out of the ends. Undefined for one that has gone. */
  #adoptOne(
    number: number,
    left: WorkerSnapshot,
    hintsRow: number | null,
    ends: Map<string, number>,
  ): WorkerProcess | undefined {
    const { hints, ports, report } = this.#parts;
    const take = (name: string) => {
      const fd = ends.get(name);
      ends.delete(name);
      return fd;
    };
    let [links, child]: [WorkerLinks | undefined, AdoptedProcess | undefined] = [undefined, undefined];
    const own: AdoptedEnds = { ipc: take('ipc'), stdout: take('stdout'), stderr: take('stderr') };
    try {
      const [page, help] = [take('hints'), take('link')];
      links =
        page === undefined || help === undefined
          ? undefined
          : linksOf(hints.adopt(page, hintsRow ?? undefined), help);
      child = new AdoptedProcess(left.pid, own);
      const readiness = { ...left.readiness, isPort: (id: number) => ports.get(id) !== undefined };
      return new WorkerProcess(number, child, readiness, links, left);
    } catch (error) {
      links?.close();
      if (!child) for (const fd of Object.values(own)) if (fd !== undefined) closeSync(fd);
      // It has gone meanwhile.
      if ((error as { code?: string }).code !== 'ESRCH') report(error as Error);
      return undefined;
    }
  }

  #hear(worker: WorkerProcess): void {
    const { handover, answers, agreement, events } = this.#parts;
    handover.add(worker);
    // The slots come first, so that a listener of the events sees the groups as they are.
    worker.on('state', () => agreement.look());
    worker.on('listening', () => events.emit('worker:listening', worker));
    answers.hear(worker);
    worker.on('message', (message, handle) => {
      // Whoever listens owns the handle.
      if (!events.emit('worker:message', worker, message, handle)) closeHandle(handle);
    });
  }

  #lost(slot: Slot, worker: WorkerProcess): void {
    const { slots, agreement } = this.#parts;
    if (slot.workers.length === 0) slots.forget(slot);
    agreement.look();
    if (worker.state === 'exited') agreement.vacate(slot);
  }
}
