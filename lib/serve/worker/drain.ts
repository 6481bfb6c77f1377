/**
 * Finishes what this worker has, when the master asks it to: no new connections from now on, those there are come to
 * their end, and whatever is left at the limit is closed. Then the master is told. Ending the process is the master's.
 *
 * The servers of the program are left as they are, only that they accept nothing more: closing them is the program's,
 * typically when SIGTERM comes afterwards, and works as if nothing had happened: `server.close(callback)` is the first
 * close, without an error, and its callback comes when the last connection has ended.
 *
 * A server that kept the process alive keeps it alive (stand-in.ts), so that the program's own SIGTERM handler runs, and
 * closes it, as it would alone. No timer here does.
 */
import { Server } from 'node:net';
import { type DrainReason, fromWorker } from '../protocol.js';
import { disconnectCluster } from './cluster.js';
import type { Connections, CountingServer } from './connections.js';
import { closeAfterResponse, closeAfterResponses, closeIdle, isIdle, speaksHttp1 } from './drain-http1.js';
import { closeSession } from './drain-http2.js';
import { closeWebSocket } from './drain-websocket.js';
import type { Send } from './link.js';
import { type Handle, handleOf, type Listeners } from './listeners.js';
import { standInFor, type TcpHandle } from './stand-in.js';

/** Milliseconds between the FIN to those that are idle at the limit, or asked to end, and the end of everything. */
const FAREWELL = 100;

export interface DrainOrder {
  reason: DrainReason;
  /** Milliseconds; may be infinite. */
  limit: number;
}

const emitCloseIfDrained = (Server.prototype as CountingServer)._emitCloseIfDrained;

export class Drain {
  readonly #listeners: Listeners;
  readonly #connections: Connections;
  readonly #send: Send;
  #reason: DrainReason | undefined;
  /** The program's handlers and cluster, as far as they have not ended. */
  readonly #awaited = new Set<Promise<unknown>>();
  #handlers: ((reason: DrainReason) => unknown)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #end = Number.POSITIVE_INFINITY;
  #done = false;
  #finished!: () => void;
  /** Fulfilled when nothing is left. */
  readonly finished = new Promise<void>((resolve) => {
    this.#finished = resolve;
  });

  constructor(listeners: Listeners, connections: Connections, send: Send) {
    this.#listeners = listeners;
    this.#connections = connections;
    this.#send = send;
  }

  /** Whether nothing is left. */
  get isDone(): boolean {
    return this.#done;
  }

  get reason(): DrainReason | undefined {
    return this.#reason;
  }

  /** Asked again it may only become shorter, and a stop. */
  begin({ reason, limit }: DrainOrder): void {
    const first = this.#reason === undefined;
    const stops = reason === 'stop' && this.#reason !== 'stop';
    if (first || stops) this.#reason = reason;
    this.#limit(limit);
    if (first) this.#start(reason);
    if (stops) closeIdle(() => this.#connections.open());
    this.#look();
  }

  /** Called once, at once when the drain has begun; its promise holds the end up, to the limit. */
  onDrain(handler: (reason: DrainReason) => unknown): () => void {
    // One of its own for every call, so that removing one leaves an equal one.
    const each = (reason: DrainReason) => handler(reason);
    if (this.#reason === undefined) this.#handlers.push(each);
    else this.#run(each, this.#reason);
    return () => {
      this.#handlers = this.#handlers.filter((other) => other !== each);
    };
  }

  #start(reason: DrainReason): void {
    for (const listener of this.#listeners.all) {
      const { handle, server } = listener;
      if (server && handle) stopAccepting(server, handle);
      else handle?.close();
    }
    for (const server of this.#connections.servers) this.#watch(server);
    closeAfterResponses();
    for (const socket of this.#connections.open()) {
      closeAfterResponse(socket);
      const written = this.#connections.webSocketSince(socket);
      if (written !== undefined) closeWebSocket(socket, written, reason);
    }
    for (const [session, socket] of this.#connections.sessions) closeSession(session, socket);
    // Of connections whose handshake or first request is under way.
    this.#connections.onSession = (session, socket) => process.nextTick(closeSession, session, socket);
    this.#connections.onWebSocket = (socket, written) =>
      process.nextTick(closeWebSocket, socket, written, this.#reason ?? reason);
    const cluster = disconnectCluster();
    if (cluster) this.#await(cluster);
    for (const handler of this.#handlers.splice(0)) this.#run(handler, reason);
  }

  #run(handler: (reason: DrainReason) => unknown, reason: DrainReason): void {
    // Its mistakes are told, but do not end a process that still has requests.
    this.#await((async () => handler(reason))().catch((error) => process.emitWarning(error)));
  }

  #await(promise: Promise<unknown>): void {
    this.#awaited.add(promise);
    void promise.then(() => {
      this.#awaited.delete(promise);
      this.#look();
    });
  }

  /** Node calls this of a server whenever a connection of its has ended. */
  #watch(server: CountingServer): void {
    Object.defineProperty(server, '_emitCloseIfDrained', {
      configurable: true,
      value: () => {
        emitCloseIfDrained.call(server);
        this.#look();
      },
    });
  }

  #look(): void {
    if (this.#awaited.size === 0 && this.#connections.count === 0) this.#finish();
  }

  #limit(limit: number): void {
    const end = performance.now() + limit;
    if (end >= this.#end || this.#done) return;
    this.#end = end;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#closeRest(), limit).unref();
  }

  #closeRest(): void {
    const inSession = new Set([...this.#connections.sessions].map(([, socket]) => socket));
    for (const socket of this.#connections.open()) {
      const busy = speaksHttp1(socket) && !isIdle(socket);
      if (busy || inSession.has(socket)) continue;
      // A request that comes too late is not begun: its answer could not be sent.
      if (speaksHttp1(socket)) socket.pause();
      socket.end();
    }
    this.#timer = setTimeout(() => {
      for (const [session] of this.#connections.sessions) session.destroy();
      for (const socket of this.#connections.open()) socket.destroy();
      this.#finish();
    }, FAREWELL).unref();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    clearTimeout(this.#timer);
    this.#send(fromWorker({ event: 'drained' }));
    this.#finished();
  }
}

/** Closes the handle behind the server. A primary of `node:cluster` has taken it away from its server. */
function stopAccepting(server: Server, handle: Handle): void {
  const standIn = handleOf(server) === handle ? standInFor(handle as TcpHandle) : undefined;
  handle.close();
  if (standIn) (server as unknown as { _handle: Handle })._handle = standIn;
}
