/**
 * All ports of a service: those that were declared, and those that its program has asked for.
 *
 * Every listener that a worker is given has a number, its grant, and counts until it comes back or the worker is gone. A
 * port that was asked for can end when no grant of it is out.
 */
import { SpillwayError } from '../errors.js';
import { type NativeSocket, native } from '../native.js';
import type { Handover } from './handover.js';
import type { HintsRows } from './hints-rows.js';
import { type Keeping, keptUnder, type Legacy } from './keeping.js';
import type { Plan } from './options.js';
import { Port, type PortRequest, type PortSnapshot, type Surroundings } from './port.js';
import type { InheritedListener, Question } from './protocol.js';
import type { Rescue } from './rescue.js';
import type { WorkerProcess } from './worker-process.js';

export type ListenerQuestion = Extract<Question, { ask: 'listener' }>;

/** Who is given listeners. */
export type Holder = WorkerProcess;

/** A port that a program has asked for. */
interface Asked {
  opening: Promise<Port>;
  /** As soon as it is open. */
  port?: Port;
  /** Who has been given a listener of it, or is about to be, by grant. */
  readonly holders: Map<number, Holder>;
}

export interface ServicePortsParts {
  handover: Handover;
  hints: HintsRows;
  rescue: Rescue;
  keeping: Keeping;
}

/** What has to be known of all ports to go on with them. Plain data. */
export interface PortsSnapshot {
  ports: PortSnapshot[];
  /** Those that programs have asked for, by what was asked; and who has a listener of them, by process. */
  asked: { key: string; id: number; holders: { grant: number; pid: number }[] }[];
  lastId: number;
  lastGrant: number;
}

/** Ports that programs may ask for; far more than any needs, so that one that asks in a loop ends with an error. */
const MOST_ASKED = 64;

export class ServicePorts {
  readonly #plan: () => Plan;
  readonly #handover: Handover;
  readonly #hints: HintsRows;
  readonly #rescue: Rescue;
  readonly #keeping: Keeping;
  readonly #opened: (port: Port) => void;
  readonly #report: (error: Error) => void;
  readonly #ports = new Map<number, Port>();
  /** By what was asked; a port that is being opened is in it already, so that a second worker gets the same. */
  readonly #asked = new Map<string, Asked>();
  #lastId = 0;
  #lastGrant = 0;

  /**
   * @param opened is told of every port when it can take connections.
   * @param report is told what goes wrong with a port while nobody waits for it.
   */
  constructor(
    plan: () => Plan,
    { handover, hints, rescue, keeping }: ServicePortsParts,
    opened: (port: Port) => void,
    report: (error: Error) => void,
  ) {
    this.#plan = plan;
    this.#handover = handover;
    this.#hints = hints;
    this.#rescue = rescue;
    this.#keeping = keeping;
    this.#opened = opened;
    this.#report = report;
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
   * Goes on with the ports of a master that has ended.
   *
   * @param holder the worker of that process; undefined: it has gone.
   * @throws {SpillwayError} what {@link Port.adopt} throws.
   */
  async adopt(
    { ports, asked, lastId, lastGrant }: PortsSnapshot,
    legacy: Legacy,
    holder: (pid: number) => Holder | undefined,
  ): Promise<void> {
    this.#lastId = lastId;
    this.#lastGrant = lastGrant;
    for (const left of ports) {
      const kept = legacy.takeUnder(placeOf(left.id));
      const port = await Port.adopt(left, kept, this.#surroundings(left.id));
      this.#ports.set(port.id, port);
      this.#opened(port);
    }
    for (const { key, id, holders } of asked) {
      const port = this.#ports.get(id);
      if (!port) continue;
      const living = holders.flatMap(({ grant, pid }) => {
        const worker = holder(pid);
        return worker ? [[grant, worker] as const] : [];
      });
      this.#asked.set(key, { opening: Promise.resolve(port), port, holders: new Map(living) });
    }
  }

  snapshot(): PortsSnapshot {
    return {
      ports: [...this].filter(({ isOpen }) => isOpen).map((port) => port.snapshot()),
      asked: [...this.#asked].flatMap(([key, { port, holders }]) =>
        port
          ? [
              {
                key,
                id: port.id,
                holders: [...holders].flatMap(([grant, { pid }]) =>
                  pid === undefined ? [] : [{ grant, pid }],
                ),
              },
            ]
          : [],
      ),
      lastId: this.#lastId,
      lastGrant: this.#lastGrant,
    };
  }

  /**
   * The holder's listener on the port that its listen() means; the port is opened if it is not there yet. It counts as the
   * holder's from the call on. The descriptor stays the group's.
   *
   * @throws {SpillwayError} what {@link Port.open} throws, and `ERR_SPILLWAY_LIMIT`; nothing is the holder's then.
   */
  async give(
    question: ListenerQuestion,
    holder: Holder,
    slots: number,
  ): Promise<{ listener: InheritedListener; grant: number }> {
    const asked = this.#ask(question, slots);
    const grant = ++this.#lastGrant;
    asked.holders.set(grant, holder);
    try {
      const port = await asked.opening;
      await port.fill(holder.slot);
      const serving = port.servedAt(holder.slot);
      if (serving === undefined || serving === holder) return { listener: port.listener(holder.slot), grant };
      const listener = port.successor(holder.slot);
      port.follows(holder.slot, holder);
      return { listener, grant };
    } catch (error) {
      asked.holders.delete(grant);
      throw error;
    }
  }

  /** The listener of that grant has come back; it may have before, or never have been that holder's. */
  takeBack(grant: number, holder: Holder): void {
    for (const { holders } of this.#asked.values()) if (holders.get(grant) === holder) holders.delete(grant);
  }

  /** The holder is gone, and with it all that it had been given. */
  takeBackAll(holder: Holder): void {
    for (const { holders } of this.#asked.values())
      for (const [grant, each] of holders) if (each === holder) holders.delete(grant);
  }

  /** Whether there are ports that were asked for and that nobody has. */
  get hasUnheld(): boolean {
    return [...this.#asked.values()].some(isUnheld);
  }

  /**
   * The ports that were asked for and that nobody has end, as they would without a master: nobody can connect, and what
   * was queued is reset. Whoever asks for one from then on gets another.
   */
  forgetUnheld(): void {
    for (const [key, asked] of this.#asked) {
      if (!isUnheld(asked)) continue;
      this.#asked.delete(key);
      this.#ports.delete(asked.port.id);
      // Processes that the program has passed a descriptor on to would keep the listeners open.
      for (const { fd } of asked.port.group.stats().sockets) shutDown(fd);
      asked.port.close();
      this.#handover.endOf(asked.port.id);
    }
  }

  close(): void {
    for (const port of this) port.close();
  }

  #ask(question: ListenerQuestion, slots: number): Asked {
    const { address, family, port, v6Only, nth } = question;
    const key = [address, port, family === 6 && v6Only, port === 0 ? nth : ''].join();
    const known = this.#asked.get(key) ?? this.#bound(question);
    if (known) return known;
    if (this.#asked.size >= MOST_ASKED) {
      throw new SpillwayError('ERR_SPILLWAY_LIMIT', `the program has asked for ${MOST_ASKED} ports already`, {
        hint: 'Declare its ports, or let it close what it does not need.',
      });
    }
    const request = { host: address, port, ...(family === 6 ? { v6Only } : {}) };
    const asked: Asked = { opening: this.#open(request, slots, false), holders: new Map() };
    this.#asked.set(key, asked);
    asked.opening.then(
      (opened) => {
        asked.port = opened;
      },
      () => this.#asked.delete(key),
    );
    return asked;
  }

  /** One that was asked for as port 0, and now by its number. */
  #bound({ address, family, port, v6Only }: ListenerQuestion): Asked | undefined {
    return [...this.#asked.values()].find((asked) => {
      const bound = asked.port?.group;
      return (
        bound?.address.address === address &&
        bound.address.port === port &&
        (family === 4 || bound.getOption('v6Only') === v6Only)
      );
    });
  }

  #surroundings(id: number): Surroundings {
    const isNode = this.#plan().program.kind === 'node';
    return {
      handover: this.#handover,
      canHand: isNode,
      links: {
        hints: this.#hints.map,
        rescues: this.#rescue.at(id),
        takesWaiting: isNode,
        keeping: keptUnder(placeOf(id), this.#keeping),
      },
      report: this.#report,
    };
  }

  async #open(request: PortRequest, slots: number, declared: boolean): Promise<Port> {
    const { group } = this.#plan();
    const id = ++this.#lastId;
    const port = await Port.open(id, request, slots, group, { declared, ...this.#surroundings(id) });
    this.#ports.set(id, port);
    this.#opened(port);
    return port;
  }
}

function placeOf(port: number): string {
  return `port.${port}`;
}

function isUnheld(asked: Asked): asked is Asked & { port: Port } {
  return asked.port !== undefined && asked.holders.size === 0;
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
