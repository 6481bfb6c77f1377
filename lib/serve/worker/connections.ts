/**
 * Which connections the servers of this worker have open.
 *
 * On the path of a plain connection nothing is done at all: how many there are Node counts itself (`_connections`, what
 * getConnections() tells), and which they are is asked only by a drain, of the list of handles that every process has
 * anyway: some milliseconds for ten thousand. A set kept by a 'connection' listener would cost every connection two
 * thirds of a microsecond and its owner a listener that it did not add. (Not in that list: sockets that the program has
 * unref'ed. They are counted, but at the limit left to the end of the process.)
 *
 * What cannot be found out afterwards is noted when it happens, from the server's `emit` and not by listeners, since
 * Node behaves differently for a server that has a listener of 'upgrade', and programs count theirs:
 * the TLS socket of a raw one, the sessions of HTTP/2, and what an upgraded connection had asked for.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Session } from 'node:http2';
import type { Server, Socket } from 'node:net';

/** The parts of Node's classes that are used; they have been there since before Node 20. */
export type OpenSocket = Socket & {
  /** Whose connection it is counted as. */
  _server?: Server;
  /** Whose requests it carries; another one than `_server` where a program passes connections on. */
  server?: Server & { closeIdleConnections?(): void };
  /** While HTTP/1 is spoken. */
  parser?: { incoming: IncomingMessage | null; socket?: unknown } | null;
  /** The response that is being written. */
  _httpMessage?: (ServerResponse & { _header?: string | null }) | null;
};

export type CountingServer = Server & {
  _connections: number;
  /** Called by Node whenever one of its connections has been closed. */
  _emitCloseIfDrained(): void;
};

export interface Upgrade {
  request: IncomingMessage;
  /** What had been sent on the connection before it was upgraded. */
  written: number;
}

const NOTED = new Set(['connection', 'secureConnection', 'session', 'upgrade']);

export class Connections {
  /** Those that listen, or have connections left. */
  readonly #servers = new Set<CountingServer>();
  readonly #watched = new WeakSet<Server>();
  readonly #secure = new WeakMap<Socket, OpenSocket>();
  readonly #upgrades = new WeakMap<Socket, Upgrade>();
  readonly #sessions = new Map<ServerHttp2Session, OpenSocket | undefined>();
  /** While an event is delivered: the socket that it brings. */
  #arriving: OpenSocket | undefined;
  /** During a drain: what has to know of new sessions and upgrades. */
  onSession?: (session: ServerHttp2Session, socket: OpenSocket | undefined) => void;
  onUpgrade?: (socket: OpenSocket, upgrade: Upgrade) => void;

  watch(server: Server): void {
    for (const each of this.#servers)
      if (!each.listening && each._connections === 0) this.#servers.delete(each);
    this.#servers.add(server as CountingServer);
    // Only servers of TLS, HTTP/1 and HTTP/2 have events that are noted.
    const speaks = 'setSecureContext' in server || 'setTimeout' in server;
    if (!speaks || this.#watched.has(server)) return;
    this.#watched.add(server);
    this.#watchEvents(server);
  }

  get servers(): Iterable<CountingServer> {
    return this.#servers;
  }

  get sessions(): Iterable<[ServerHttp2Session, OpenSocket | undefined]> {
    return this.#sessions;
  }

  /** How many are open, handshakes included. */
  get count(): number {
    let count = 0;
    for (const { _connections } of this.#servers) count += _connections;
    return count;
  }

  /** The open ones; of an encrypted one, the socket that the program has, once there is one. */
  open(): OpenSocket[] {
    const { _getActiveHandles } = process as unknown as { _getActiveHandles(): OpenSocket[] };
    return _getActiveHandles
      .call(process)
      .filter(({ _server }) => _server && this.#servers.has(_server as CountingServer))
      .map((socket) => this.#secure.get(socket) ?? socket);
  }

  upgradeOf(socket: Socket): Upgrade | undefined {
    return this.#upgrades.get(socket);
  }

  #watchEvents(server: Server): void {
    const emit = server.emit as (this: Server, ...args: unknown[]) => boolean;
    const connections = this;
    // On the path of every request: some tens of nanoseconds.
    function noting(this: Server, event: string, ...rest: unknown[]): boolean {
      if (!NOTED.has(event)) return emit.call(this, event, ...rest);
      return connections.#noting(event, rest, () => emit.call(this, event, ...rest));
    }
    Object.defineProperty(server, 'emit', { value: noting, writable: true, configurable: true });
  }

  #noting(event: string, [first, second]: unknown[], deliver: () => boolean): boolean {
    switch (event) {
      case 'connection':
      case 'secureConnection':
        return this.#arrive(event, first as OpenSocket, deliver);
      case 'session':
        this.#begin(first as ServerHttp2Session);
        return deliver();
      case 'upgrade':
        return this.#upgrade(first as IncomingMessage, second as OpenSocket, deliver);
      default:
        return deliver();
    }
  }

  #arrive(event: string, socket: OpenSocket, deliver: () => boolean): boolean {
    const raw = (socket as unknown as { _handle?: { _parentWrap?: Socket } })._handle?._parentWrap;
    if (event === 'secureConnection' && raw) this.#secure.set(raw, socket);
    const before = this.#arriving;
    this.#arriving = socket;
    try {
      return deliver();
    } finally {
      this.#arriving = before;
    }
  }

  /** Node emits 'session' while it delivers the connection that the session is of. */
  #begin(session: ServerHttp2Session): void {
    const socket = this.#arriving;
    this.#sessions.set(session, socket);
    session.once('close', () => this.#sessions.delete(session));
    this.onSession?.(session, socket);
  }

  #upgrade(request: IncomingMessage, socket: OpenSocket, deliver: () => boolean): boolean {
    const upgrade = { request, written: socket.bytesWritten };
    this.#upgrades.set(socket, upgrade);
    const heard = deliver();
    this.onUpgrade?.(socket, upgrade);
    return heard;
  }
}
