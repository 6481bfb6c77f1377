/**
 * Makes the listeners of an unmodified program inherited ones, inside the worker.
 *
 * `net.Server.prototype.listen` is wrapped. The channel `net.server.listen` of diagnostics_channel, which exists for
 * observers, would do as well, but it hands out the caller's own options object, so the descriptor would have to be
 * written into it (which a frozen one does not allow); it cannot pass the backlog, which Node takes from the arguments
 * only when it listens on a descriptor, so that the limit would become 511; and it cannot wait for a name to be
 * resolved. http, https, http2, tls and every framework on top of them come through here.
 *
 * A server always gets a duplicate. The inherited descriptor itself is never closed, so that a program can close its
 * server and listen again. The listener's handle is used the way `node:cluster` uses it (`_handle`, `onconnection`):
 * its `close` is the one place that every way of closing a server goes through, and its `onconnection` makes a
 * connection that the master hands over indistinguishable from an accepted one. In a program that uses `node:cluster`
 * itself the primary's listener is the inherited one, and the primary distributes among its own workers.
 */
import { lookup } from 'node:dns';
import { addAbortListener } from 'node:events';
import { closeSync } from 'node:fs';
import { Server } from 'node:net';
import { native } from '../native.js';
import { knownAddresses, type ListenRequest, readRequest, serves } from './matching.js';
import { fromWorker, type InheritedListener, isOurs } from './protocol.js';

/** The parts of Node's TCP handle that are used. */
interface Handle {
  close(callback?: () => void): void;
  onconnection?(status: number, client: Handle): void;
}

/** The slot's listener in this process; one server at a time listens on it. */
interface Inherited extends InheritedListener {
  handle?: Handle;
}

type Send = (message: ReturnType<typeof fromWorker>) => void;

const original = Server.prototype.listen as (this: Server, ...args: unknown[]) => Server;

/** To be called once, before the program runs. */
export function inherit(listeners: readonly InheritedListener[]): void {
  const inherited: Inherited[] = listeners.map((listener) => ({ ...listener }));
  const send = messageSender();
  interceptListen(inherited, send);
  takeHandedOver(inherited, send);
}

/** The program may replace `process.send` or disconnect: a master that cannot be told is told nothing. */
function messageSender(): Send {
  const send = process.send?.bind(process);
  return (message) => {
    if (process.connected) send?.(message, undefined, undefined, () => {});
  };
}

function interceptListen(inherited: readonly Inherited[], send: Send): void {
  /** The call of listen() that waits for a name, by server; a later call or close() takes its place. */
  const waiting = new WeakMap<Server, ListenRequest>();

  function listen(this: Server, ...args: unknown[]): Server {
    waiting.delete(this);
    const request = this.listening ? undefined : readRequest(args);
    const onPort = inherited.filter(({ port, handle }) => port === request?.port && handle === undefined);
    if (!request || onPort.length === 0) return pass(this, args, request);

    const addresses = knownAddresses(request.host);
    const named = onPort.find(({ host }) => host !== undefined && host === request.host);
    const match = named ?? onPort.find((each) => servesAny(each, addresses, request));
    if (match && adopt(match, this, request)) return this;
    if (match || addresses) return pass(this, args, request);
    resolveFirst(this, args, request, request.host as string);
    return this;
  }

  function servesAny(
    listener: Inherited,
    addresses: readonly string[] | undefined,
    request: ListenRequest,
  ): boolean {
    return addresses?.some((address) => serves(listener, address, request.ipv6Only)) ?? false;
  }

  function pass(server: Server, args: unknown[], request: ListenRequest | undefined): Server {
    if (request) send(fromWorker({ event: 'elsewhere', port: request.port }));
    return original.apply(server, args);
  }

  /** What listen() does at once is done at once; only the look-up, which it would make itself, comes in between. */
  function resolveFirst(server: Server, args: unknown[], request: ListenRequest, host: string): void {
    const forget = () => waiting.delete(server);
    const aborted = request.signal ? addAbortListener(request.signal, () => server.close()) : undefined;
    waiting.set(server, request);
    server.once('close', forget);
    if (request.callback) server.once('listening', request.callback);
    lookup(host, { all: true }, (_error, found = []) => {
      server.off('close', forget);
      aborted?.[Symbol.dispose]();
      if (waiting.get(server) !== request || server.listening) return;
      waiting.delete(server);
      const rest = { ...request, callback: undefined };
      const addresses = found.map(({ address }) => address);
      const match = inherited.find(
        (each) => each.port === request.port && !each.handle && servesAny(each, addresses, request),
      );
      // A name that is unknown, or means something else, is the original's to deal with.
      if (!match || !adopt(match, server, rest))
        pass(server, request.callback ? args.slice(0, -1) : args, rest);
    });
  }

  /** False when the master has taken the listener out of the group: it must not come back beside its successor. */
  function adopt(listener: Inherited, server: Server, { signal, callback }: ListenRequest): boolean {
    const duplicate = new (native().Socket)('duplicate', listener.fd);
    const queue = duplicate.acceptQueue();
    if (!queue) {
      duplicate.close();
      return false;
    }
    const fd = duplicate.release();
    try {
      // The limit the socket has now is the slot's, also after it was changed while the program ran.
      original.call(server, { fd, ...(signal && { signal }) }, queue.limit, callback);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const handle = (server as unknown as { _handle: Handle | null })._handle;
    // Without one the server is about to emit the reason as an 'error'.
    if (!handle) return true;
    listener.handle = handle;
    const close = handle.close;
    handle.close = function (this: Handle, ...args) {
      if (listener.handle === handle) {
        delete listener.handle;
        send(fromWorker({ event: 'closed', fd: listener.fd }));
      }
      return close.apply(this, args);
    };
    send(fromWorker({ event: 'listening', fd: listener.fd }));
    return true;
  }

  Server.prototype.listen = listen as typeof Server.prototype.listen;
}

/** Connections from a leaving sibling's queue come with a message, and go where accepted ones go. */
function takeHandedOver(inherited: readonly Inherited[], send: Send): void {
  const take = (message: unknown, client: Handle | undefined) => {
    if (!isOurs(message) || message.event !== 'connection') return;
    const { id } = message;
    const handle = inherited.find((listener) => listener.handle?.onconnection)?.handle;
    if (client && handle?.onconnection) {
      // The answer comes first: from here on the connection is the program's, even if its handler throws.
      send(fromWorker({ event: 'accepted', id }));
      handle.onconnection(0, client);
    } else {
      client?.close();
      send(fromWorker({ event: 'refused', id }));
    }
  };
  (process as NodeJS.EventEmitter).on('internalMessage', take);
}
