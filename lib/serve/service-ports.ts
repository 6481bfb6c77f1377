/** All ports of a service: those that were declared, and those that its program has asked for. */
import { SpillwayError } from '../errors.js';
import { type NativeSocket, native } from '../native.js';
import type { Handover } from './handover.js';
import type { Plan } from './options.js';
import { Port, type PortRequest, type Staff } from './port.js';
import type { Question } from './protocol.js';

type ListenerQuestion = Extract<Question, { ask: 'listener' }>;

/** Ports that programs may ask for; far more than any needs, so that one that asks in a loop ends with an error. */
const MOST_ASKED = 64;

export class ServicePorts {
  readonly #plan: () => Plan;
  readonly #handover: Handover;
  readonly #opened: (port: Port) => void;
  readonly #ports = new Map<number, Port>();
  /** By what was asked; a port that is being opened is in it already, so that a second worker gets the same. */
  readonly #asked = new Map<string, Promise<Port>>();
  #lastId = 0;

  /** @param opened is told of every port when it can take connections. */
  constructor(plan: () => Plan, handover: Handover, opened: (port: Port) => void) {
    this.#plan = plan;
    this.#handover = handover;
    this.#opened = opened;
  }

  *[Symbol.iterator](): Generator<Port> {
    yield* this.#ports.values();
  }

  get(id: number): Port | undefined {
    return this.#ports.get(id);
  }

  get declared(): Port[] {
    return [...this.#ports.values()].filter(({ declared }) => declared);
  }

  /** Opens what was declared, in order. */
  async openDeclared(slots: number): Promise<void> {
    for (const { host, port } of this.#plan().declared) await this.#open({ host, port }, slots, true);
  }

  /**
   * The port that a program's listen() means; it is opened if it is not there yet.
   *
   * @throws {SpillwayError} what {@link Port.open} throws, and `ERR_SPILLWAY_LIMIT`.
   */
  async ask({ address, family, port, v6Only, nth }: ListenerQuestion, slots: number): Promise<Port> {
    const key = [address, port, family === 6 && v6Only, port === 0 ? nth : ''].join();
    const known = this.#asked.get(key);
    if (known) return known;
    if (this.#asked.size >= MOST_ASKED) {
      throw new SpillwayError('ERR_SPILLWAY_LIMIT', `the program has asked for ${MOST_ASKED} ports already`, {
        hint: 'Declare its ports, or let it close what it does not need.',
      });
    }
    const request = { host: address, port, ...(family === 6 ? { v6Only } : {}) };
    const opening = this.#open(request, slots, false);
    this.#asked.set(key, opening);
    opening.catch(() => this.#asked.delete(key));
    return opening;
  }

  /** Makes all slots agree with the workers. */
  agree(staff: Staff): void {
    for (const port of this) port.agree(staff);
  }

  /**
   * A port that no program wants any more ends, as it would without a master: nobody can connect, and what was queued is
   * reset.
   */
  async forget(port: Port): Promise<void> {
    this.#ports.delete(port.id);
    for (const [key, opening] of this.#asked) if ((await opening) === port) this.#asked.delete(key);
    // The workers' descriptors would keep the listeners open.
    for (const { fd } of port.group.stats().sockets) shutDown(fd);
    port.close();
  }

  close(): void {
    for (const port of this) port.close();
  }

  async #open(request: PortRequest, slots: number, declared: boolean): Promise<Port> {
    const { group, program } = this.#plan();
    const id = ++this.#lastId;
    const port = await Port.open(id, request, slots, group, {
      declared,
      handover: this.#handover,
      canHand: program.kind === 'node',
    });
    this.#ports.set(id, port);
    this.#opened(port);
    return port;
  }
}

function shutDown(fd: number): void {
  const socket: NativeSocket = new (native().Socket)('duplicate', fd);
  try {
    socket.shutdown();
  } catch {
    // It has been shut down already.
  } finally {
    socket.close();
  }
}
