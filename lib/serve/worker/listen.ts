/**
 * Makes the listeners of an unmodified program the worker's, by wrapping `net.Server.prototype.listen`.
 *
 * The channel `net.server.listen` of diagnostics_channel, which exists for observers, would do as well, but it hands out
 * the caller's own options object, so the descriptor would have to be written into it (which a frozen one does not
 * allow); it cannot pass the backlog, which Node takes from the arguments only when it listens on a descriptor, so that
 * the limit would become 511; and it cannot wait for a name to be resolved. http, https, http2, tls and every framework
 * on top of them come through here, and so does the primary of a program that uses `node:cluster` (cluster.ts).
 *
 * What this worker has a listener for gets it. Anything else is asked for from the master, blocking, so that
 * `server.address()` works at once. To the kernel itself go `exclusive: true` (a port of this process alone), paths,
 * descriptors and handles.
 *
 * During a drain listen() waits: it neither takes connections nor fails, because an 'error' that nobody expects would
 * end the process and with it the requests it still has. close() and an aborted signal take it back as ever.
 */
import { addAbortListener } from 'node:events';
import { isIP, Server } from 'node:net';
import type { NativeError } from '../../native.js';
import { fromWorker } from '../protocol.js';
import { acceptingHandle } from './accepting.js';
import { warnIfExposed } from './exposure.js';
import type { Send } from './link.js';
import { closingOnError, type Handle, handleOf, type Listener, type Listeners } from './listeners.js';
import { knownAddresses, type ListenRequest, readRequest } from './matching.js';
import { type Obtain, refusal } from './obtain.js';

const original = Server.prototype.listen as (this: Server, ...args: unknown[]) => Server;

export interface Interception {
  listeners: Listeners;
  obtain: Obtain;
  send: Send;
  draining(): boolean;
  /** A server that has just got a listener, before its 'listening' event. */
  adopted(server: Server): void;
}

/** To be called once, before the program runs. */
export function interceptListen({ listeners, obtain, send, draining, adopted }: Interception): void {
  /** The call of listen() that has not been answered yet, by server; a later call or close() takes its place. */
  const waiting = new WeakMap<Server, ListenRequest>();

  function listen(this: Server, ...args: unknown[]): Server {
    waiting.delete(this);
    const request = this.listening ? undefined : readRequest(args);
    if (!request) return original.apply(this, args);
    const addresses = knownAddresses(request.host);
    const free = listeners.free(request, addresses ?? []);
    if (request.exclusive && !free) {
      send(fromWorker({ event: 'elsewhere', port: request.port }));
      return original.apply(this, args);
    }
    if (draining()) wait(this, request);
    else if (free && placeAt(free, this, request)) return this;
    else if (request.host !== undefined && isIP(request.host) === 0) resolveFirst(this, request);
    else place(this, request, addresses ?? []);
    return this;
  }

  /** What listen() does at once: its callback and its signal count from now on. */
  function wait(server: Server, request: ListenRequest): { over: () => boolean } {
    const forget = () => waiting.delete(server);
    const aborted = watchSignal(server, request.signal);
    waiting.set(server, request);
    server.once('close', forget);
    if (request.callback) server.once('listening', request.callback);
    return {
      /** False when it has been taken back, or the time to listen is over. */
      over() {
        if (draining()) return false;
        server.off('close', forget);
        aborted?.[Symbol.dispose]();
        if (waiting.get(server) !== request || server.listening) return false;
        waiting.delete(server);
        return true;
      },
    };
  }

  /** Node listens on the first address of a name. */
  function resolveFirst(server: Server, request: ListenRequest): void {
    const waits = wait(server, request);
    // As Node does: by what `dns.lookup` is at that moment, and loaded only when there is a name.
    const dns = process.getBuiltinModule('node:dns');
    dns.lookup(request.host as string, { all: true }, (error, found = []) => {
      if (!waits.over()) return;
      if (error) server.emit('error', error);
      else
        place(
          server,
          { ...request, callback: undefined },
          found.map(({ address }) => address),
        );
    });
  }

  function place(server: Server, request: ListenRequest, addresses: readonly string[]): void {
    let listener: Listener;
    try {
      listener = obtain(request, addresses);
    } catch (reason) {
      fail(server, request, reason as Error);
      return;
    }
    if (placeAt(listener, server, request)) return;
    fail(server, request, refusal('EADDRINUSE', addresses[0], request.port));
  }

  /** False when the master has taken the listener out of the group. */
  function placeAt(listener: Listener, server: Server, request: ListenRequest): boolean {
    try {
      return adopt(listener, server, request);
    } catch (reason) {
      fail(server, request, reason as Error);
      return true;
    }
  }

  /** As with a listen() that the kernel refuses. */
  function fail(server: Server, request: ListenRequest, error: Error): void {
    if (request.callback) server.once('listening', request.callback);
    watchSignal(server, request.signal);
    process.nextTick(() => server.emit('error', error));
  }

  /**
   * A handle for a listener, and the limit of its queue. Undefined when the master has taken it out of the group.
   *
   * @throws what the server is to emit as its 'error'; the listener has gone back then.
   */
  function open(
    listener: Listener,
    address: string,
    port: number,
  ): (ReturnType<typeof acceptingHandle> & { limit: number }) | undefined {
    try {
      const duplicate = listeners.duplicate(listener);
      if (!duplicate) return undefined;
      const { fd, limit } = duplicate;
      return { ...closingOnError(fd, () => acceptingHandle(fd)), limit };
    } catch (reason) {
      listeners.leave(listener);
      const { code } = reason as NativeError;
      throw Object.assign(refusal(code, address, port), { cause: reason });
    }
  }

  /** False when the master has taken the listener out of the group. */
  function adopt(
    listener: Listener,
    server: Server,
    { signal, callback, ...request }: ListenRequest,
  ): boolean {
    const [asked, more] = knownAddresses(request.host) ?? [];
    const address = asked && !more ? asked : listener.address;
    const accepting = open(listener, address, request.port);
    if (!accepting) return false;
    let handle: Handle | null = null;
    try {
      original.call(server, { handle: accepting.handle }, accepting.limit, callback);
      handle = handleOf(server);
    } finally {
      if (handle !== accepting.handle) accepting.handle.close();
      if (!handle) listeners.leave(listener);
    }
    // Without one the server is about to emit the reason as an 'error'.
    if (!handle) return true;
    watchSignal(server, signal);
    adopted(server);
    listeners.occupy(
      listener,
      handle,
      { address, ipv6Only: request.ipv6Only },
      {
        server,
        acceptor: accepting.acceptor,
        wait: accepting.wait,
      },
    );
    warnIfExposed(listener, request.host);
    return true;
  }

  Server.prototype.listen = listen as typeof Server.prototype.listen;
}

function watchSignal(server: Server, signal: AbortSignal | undefined): Disposable | undefined {
  if (!signal) return undefined;
  const disposable = addAbortListener(signal, () => server.close());
  server.once('close', () => disposable[Symbol.dispose]());
  return disposable;
}
