/**
 * TLS session tickets that one worker writes and all of them read, also after a reload: all servers have the master's
 * keys. A program without TLS pays nothing.
 */
import type { Server as NetServer } from 'node:net';
import type { Server } from 'node:tls';
import type { Desk } from './desk.js';
import { onMessage } from './link.js';

export class TicketKeys {
  readonly #desk: Desk;
  /** The servers whose keys are the master's. */
  readonly #servers = new Set<WeakRef<Server>>();
  readonly #known = new WeakSet<NetServer>();
  /** What the master said last. */
  #keys: Buffer | undefined;

  constructor(desk: Desk) {
    this.#desk = desk;
    onMessage('ticketKeys', ({ keys }) => this.#renew(Buffer.from(keys, 'base64')));
  }

  /** Gives the server the keys, the first time that it listens, unless the program has chosen its own. */
  share(server: NetServer): void {
    // `ticketKeys` is what the constructor was given, or setSecureContext().
    if (!('setTicketKeys' in server) || this.#known.has(server)) return;
    this.#known.add(server);
    const secure = server as Server & { ticketKeys?: Buffer };
    if (secure.ticketKeys) return;
    this.#keys ??= this.#ask();
    if (this.#keys && setKeys(secure, this.#keys)) this.#keep(secure);
  }

  /** A server without them serves, only that its tickets are its own. */
  #ask(): Buffer | undefined {
    try {
      const { answer } = this.#desk.ask({ ask: 'ticketKeys' });
      return 'ticketKeys' in answer ? Buffer.from(answer.ticketKeys, 'base64') : undefined;
    } catch (error) {
      process.emitWarning(`TLS session tickets of this worker are not shared: ${(error as Error).message}`, {
        type: 'SpillwayWarning',
      });
      return undefined;
    }
  }

  /** From the moment at which the program sets keys of its own, ours are not set any more. */
  #keep(server: Server): void {
    const reference = new WeakRef(server);
    this.#servers.add(reference);
    const { setTicketKeys, setSecureContext } = server;
    server.setTicketKeys = (keys) => {
      this.#servers.delete(reference);
      delete (server as Partial<Server>).setTicketKeys;
      return setTicketKeys.call(server, keys);
    };
    // A new certificate comes with a new context, which has keys of its own.
    server.setSecureContext = (options) => {
      setSecureContext.call(server, options);
      if (options.ticketKeys) this.#servers.delete(reference);
      else if (this.#keys && this.#servers.has(reference)) setKeys(server, this.#keys);
    };
  }

  #renew(keys: Buffer): void {
    this.#keys = keys;
    for (const reference of this.#servers) {
      const server = reference.deref();
      if (!server || !setKeys(server, keys)) this.#servers.delete(reference);
    }
  }
}

/** By Node's own method, whatever the program's server has in its place; false when it refuses them. */
function setKeys(server: Server, keys: Buffer): boolean {
  try {
    (Object.getPrototypeOf(server) as Server).setTicketKeys.call(server, keys);
    return true;
  } catch {
    return false;
  }
}
