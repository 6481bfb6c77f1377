/**
 * The listeners of this process: what the worker inherited, and what the master has given since.
 *
 * A server always gets a duplicate. The descriptor itself stays open: an inherited one as long as the process, so that a
 * program can close its server and listen again; one that the master has given until its server is closed, so that the
 * master knows who has what, and can end a port that nobody has. The listener's handle is used the way `node:cluster` uses it (`_handle`, `onconnection`): its `close` is the one
 * place that every way of closing a server goes through, and its `onconnection` makes a connection that the master hands
 * over indistinguishable from an accepted one.
 */
import { closeSync } from 'node:fs';
import type { Server } from 'node:net';

import { type NativeAcceptor, type NativeSocket, native } from '../../native.js';
import { fromWorker, type InheritedListener } from '../protocol.js';
import type { Accepting } from './accepting.js';
import { onMessage, type Send } from './link.js';
import { type ListenRequest, overlap, serves } from './matching.js';

/** The parts of Node's TCP handle that are used. */
export interface Handle {
  close(callback?: () => void): void;
  getsockname(name: object): number;
  onconnection?(status: number, client: Handle | undefined): void;
}

/** One server at a time listens on it. */
export interface Listener extends InheritedListener {
  /** Under which number the master has given it; undefined: it was inherited. */
  grant?: number;
  /** Of one that was asked for as port 0: of which address, and as which of several. */
  anyPort?: { address: string; nth: number };
  handle?: Handle;
  /** Who accepts for the handle; undefined: libuv does. */
  acceptor?: NativeAcceptor;
  /** Lets the handle take from a waiting list as well; it owns the descriptors. */
  wait?: Accepting['wait'];
  /** What the server that listens on it had asked for. */
  taken?: { address: string; ipv6Only: boolean };
  server?: Server;
}

export const handleOf = (server: Server): Handle | null =>
  (server as unknown as { _handle: Handle | null })._handle;

export class Listeners {
  /** Replaced and not changed: closing a server takes its listener out, also while others go through all of them. */
  #all: readonly Listener[];
  readonly #send: Send;

  constructor(inherited: readonly InheritedListener[], send: Send) {
    this.#all = inherited.map((listener) => ({ ...listener }));
    this.#send = send;
    onMessage('connection', ({ connection, id }, client) => this.#handOver(connection, id, client as Handle));
  }

  /** Those that a server listens on, as the master knows them. */
  get occupied(): { id: number; grant?: number }[] {
    return this.#all.flatMap(({ id, grant, handle }) =>
      handle ? [{ id, ...(grant === undefined ? {} : { grant }) }] : [],
    );
  }

  get all(): readonly Listener[] {
    return this.#all;
  }

  /**
   * What the master has given. Undefined when it is one that a server of this process listens on already, under another
   * of its addresses.
   */
  add(listener: Listener): Listener | undefined {
    const known = this.#all.find(({ id }) => id === listener.id);
    if (known?.handle) {
      this.#drop(listener);
      return undefined;
    }
    if (known) this.#drop(known);
    this.#all = [...this.#all, listener];
    return listener;
  }

  /** No server has come to listen on it: what the master has given goes back, what was inherited waits for another. */
  leave(listener: Listener): void {
    if (listener.grant !== undefined) this.#drop(listener);
  }

  /** The first number from this one on that none of the listeners on port 0 of that address has. */
  freeNumber(address: string, from: number): number {
    const taken = this.#all.flatMap(({ anyPort }) => (anyPort?.address === address ? [anyPort.nth] : []));
    let number = from;
    while (taken.includes(number)) number++;
    return number;
  }

  /** One that nobody listens on and that serves the request, which has been resolved to these addresses. */
  free({ port, host, ipv6Only }: ListenRequest, addresses: readonly string[]): Listener | undefined {
    const onPort = this.#all.filter((each) => each.port === port && !each.handle);
    return (
      onPort.find((each) => host !== undefined && each.host === host) ??
      onPort.find((each) => addresses.some((address) => serves(each, address, ipv6Only)))
    );
  }

  /** Whether a server of this process listens already on what the request means, so that plain Node would refuse it. */
  conflicts({ port, ipv6Only }: ListenRequest, addresses: readonly string[]): boolean {
    return this.#all.some(
      ({ port: bound, taken }) =>
        bound === port && taken && addresses.some((address) => overlap(taken, { address, ipv6Only })),
    );
  }

  /**
   * Another name for the listener, for whoever is going to listen on it, and the limit of its queue. The limit it has
   * now is the slot's, also after it was changed while the program ran. Undefined when the master has taken the
   * listener out of the group: it must not come back beside its successor, and is here no more.
   */
  duplicate(listener: Listener): { fd: number; limit: number } | undefined {
    const duplicate: NativeSocket = new (native().Socket)('duplicate', listener.fd);
    const queue = duplicate.acceptQueue();
    if (queue) return { fd: duplicate.release(), limit: queue.limit };
    duplicate.close();
    this.#drop(listener);
    return undefined;
  }

  /** From now on this handle is the listener's, until it is closed. */
  occupy(
    listener: Listener,
    handle: Handle,
    taken: NonNullable<Listener['taken']>,
    by: Pick<Listener, 'server' | 'acceptor' | 'wait'> = {},
  ): void {
    const { id, grant } = listener;
    Object.assign(listener, { handle, taken, ...by });
    const close = handle.close;
    const release = () => {
      if (listener.handle !== handle) return;
      delete listener.handle;
      delete listener.taken;
      delete listener.server;
      delete listener.acceptor;
      delete listener.wait;
      if (grant === undefined) this.#send(fromWorker({ event: 'closed', id }));
      else this.#drop(listener);
    };
    handle.close = function (this: Handle, ...args) {
      release();
      return close.apply(this, args);
    };
    this.#send(fromWorker({ event: 'listening', id, ...(grant !== undefined && { grant }) }));
  }

  /**
   * Takes connections from another worker's listener of the port of that number, at most so many: nobody comes for them
   * there. The descriptor is taken over.
   */
  help(port: number, fd: number, most: number): void {
    const acceptor = this.#all.find(({ id }) => id === port)?.acceptor;
    if (acceptor) acceptor.help(fd, most);
    else closeSync(fd);
  }

  /**
   * What waits for the port of that number is taken by whoever listens on it, as long as there is room. The descriptors are
   * taken over.
   */
  wait(port: number, ...descriptors: Parameters<Accepting['wait']>): void {
    const listener = this.#all.find(({ id }) => id === port);
    if (!listener?.wait) {
      for (const fd of descriptors) if (fd >= 0) closeSync(fd);
      return;
    }
    try {
      listener.wait(...descriptors);
    } catch (error) {
      // For want of descriptors; the others take what waits.
      process.emitWarning(error as Error);
    }
  }

  /** Nobody listens on it, and nobody will; what the master has given it gets back. */
  #drop(listener: Listener): void {
    const { id, fd, grant } = listener;
    this.#all = this.#all.filter((each) => each !== listener);
    closeSync(fd);
    if (grant !== undefined) this.#send(fromWorker({ event: 'closed', id, grant }));
  }

  /** Connections from a leaving sibling's queue come with a message, and go where accepted ones go. */
  #handOver(connection: number, id: number, client: Handle | undefined): void {
    const handle = this.#all.find((listener) => listener.id === id)?.handle;
    if (client && handle?.onconnection) {
      // The answer comes first: from here on the connection is the program's, even if its handler throws.
      this.#send(fromWorker({ event: 'accepted', connection }));
      handle.onconnection(0, client);
    } else {
      client?.close();
      this.#send(fromWorker({ event: 'refused', connection }));
    }
  }
}

/** For a descriptor that an exception leaves to nobody. */
export function closingOnError<T>(fd: number, use: () => T): T {
  try {
    return use();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
