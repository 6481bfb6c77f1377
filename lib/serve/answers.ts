/**
 * What the master answers at its desk, and when a port that a program has asked for ends: when nobody has a listener of
 * it, and nobody is on the way who might ask for it.
 */
import { readFileSync } from 'node:fs';
import { SpillwayError } from '../errors.js';
import type { Reply } from './desk.js';
import type { Operations } from './operations.js';
import type { Plan } from './options.js';
import { asProgramError } from './program-error.js';
import type { Answer, Question } from './protocol.js';
import type { ListenerQuestion, ServicePorts } from './service-ports.js';
import type { Slot } from './slot.js';
import type { Slots } from './slots.js';
import type { TicketKeys } from './ticket-keys.js';
import type { WorkerProcess } from './worker-process.js';

/**
 * Milliseconds that a worker has, once it is ready, to ask for the ports that the one before it had: without declared
 * ports it is ready with the first.
 */
const TIME_TO_ASK = 1000;

/** net.ipv4.ip_unprivileged_port_start of a kernel that does not tell (ip-sysctl.rst of the kernel's documentation). */
const FIRST_UNPRIVILEGED = 1024;

/** What of the master an answer depends on. */
export interface Service {
  plan: () => Plan;
  slots: Slots;
  operations: Operations;
  report: (error: Error) => void;
}

export class Answers {
  readonly #service: Service;
  readonly #ports: ServicePorts;
  readonly #keys: TicketKeys;
  #timer: NodeJS.Timeout | undefined;

  constructor(service: Service, ports: ServicePorts, keys: TicketKeys) {
    this.#service = service;
    this.#ports = ports;
    this.#keys = keys;
  }

  async answer(question: Question, pid: number): Promise<Reply> {
    if (question.ask === 'ticketKeys') return { answer: { ticketKeys: this.#keys.current } };
    try {
      this.#service.operations.assertOpen();
      const worker = this.#service.slots.workers.find((each) => each.pid === pid);
      if (!worker) throw new SpillwayError('ERR_SPILLWAY_CLOSED', 'the worker that asks has gone');
      if (this.#ports.declared.length > 0) worker.noteElsewhere(question.port);
      return this.#refusal(question) ?? (await this.#give(question, worker));
    } catch (error) {
      // The port may have been open, and the listener have come back only now.
      this.look();
      return { answer: { error: asProgramError(error) } };
    }
  }

  /** Listens to what becomes of the listeners that a worker has been given. */
  hear(worker: WorkerProcess): void {
    worker.on('nowhere', () => {
      if (this.#service.operations.isEnding) return;
      const text = `worker ${worker.slot} (process ${worker.pid}) says that it listens on a port that is not open`;
      this.#service.report(new SpillwayError('ERR_SPILLWAY_WORKER', text));
    });
    worker.on('closed', (_id, grant) => {
      if (grant === undefined) return;
      this.#ports.takeBack(grant, worker);
      this.look();
    });
    worker.on('exit', () => this.#ports.takeBackAll(worker));
  }

  /**
   * Ends the ports that nobody has, now or as soon as every worker has had its time to ask for them. To be called whenever
   * a listener has come back, and whenever a slot has a new worker, or has none and gets none.
   */
  look(): void {
    clearTimeout(this.#timer);
    if (this.#service.operations.isEnding || !this.#ports.hasUnheld) return;
    const wait = timeToSettle(this.#service.slots.wanted);
    if (wait === 0) this.#ports.forgetUnheld();
    else if (wait !== undefined) this.#timer = setTimeout(() => this.look(), wait).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  async #give(question: ListenerQuestion, worker: WorkerProcess): Promise<Reply> {
    const slots = this.#service.slots.wanted.length;
    const { listener, grant } = await this.#ports.give(question, worker, slots);
    const { fd, ...named } = listener;
    const undelivered = () => {
      this.#ports.takeBack(grant, worker);
      this.look();
    };
    return { answer: { listener: named, grant }, fd, undelivered };
  }

  /** What the master may open, and workers of another user may not: only its owner can give it to them. */
  #refusal({ port }: ListenerQuestion): { answer: Answer } | undefined {
    const { uid } = this.#service.plan().identity;
    const first = firstUnprivileged();
    if (uid === undefined || uid === process.geteuid?.() || port === 0 || port >= first) return undefined;
    const message = `ports below ${first} are not opened for workers of another user: declare it, by \`port\` or \`listen\``;
    return { answer: { error: { code: 'EACCES', message, advice: message } } };
  }
}

/**
 * Milliseconds until every slot's worker has had its time to ask; undefined while a slot waits for a worker, or one is on
 * its way. Nobody is waited for where none follows.
 */
function timeToSettle(slots: readonly Slot[]): number | undefined {
  const now = performance.now();
  let longest = 0;
  for (const { current, failed, isRestarting, isStaffed, workers } of slots) {
    if (failed && !isStaffed) continue;
    const isLeft = current === undefined || current.state === 'draining' || current.state === 'exited';
    const isFollowed = workers.some((each) => each !== current && each.state !== 'draining');
    if (isLeft || current.readyAt === undefined || isFollowed || isRestarting) return undefined;
    longest = Math.max(longest, Math.ceil(current.readyAt + TIME_TO_ASK - now));
  }
  return longest;
}

/** Of this process's network namespace, which is the workers' as well. */
function firstUnprivileged(): number {
  try {
    return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'));
  } catch {
    return FIRST_UNPRIVILEGED;
  }
}
