/**
 * Which connections the servers of this worker have open.
 *
 * On the path of a plain connection nothing is done at all: how many there are Node counts itself (`_connections`, what
 * getConnections() tells), and which they are is asked only by a drain, of the list of handles that every process has
 * anyway: some milliseconds for ten thousand. A set kept by a 'connection' listener would cost every connection two
 * thirds of a microsecond and its owner a listener that it did not add. (Not in that list: sockets that the program has
 * unref'ed. They are counted, but at the limit left to the end of the process.)
 *
 * What cannot be found out afterwards is noted when it happens: the TLS socket of a raw one, the sessions of HTTP/2, and
 * what an upgraded connection had asked for. It is noted from `emit` and not by listeners, since Node behaves differently
 * for a server that has a listener of 'upgrade', and programs count theirs; and from the one `emit` of all servers, since
 * a program may pass connections on to one that does not listen itself (`server.emit('connection', socket)`).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Session } from 'node:http2';
import { Server, type Socket } from 'node:net';

/** The parts of Node's classes that are used; they have been there since before Node 20. */
export type OpenSocket = Socket & {
  /** Whose connection it is counted as. */
  _server?: Server;
  /** Whose requests it carries; another one than `_server` where a program passes connections on. */
  server?: IdleCloser;
  /** While HTTP/1 is spoken. */
  parser?: { incoming: IncomingMessage | null; socket?: unknown } | null;
  /** The response that is being written. */
  _httpMessage?: (ServerResponse & { _header?: string | null }) | null;
};

export type IdleCloser = Server & { closeIdleConnections?(): void };

export type CountingServer = Server & {
  _connections: number;
  /** Called by Node whenever one of its connections has been closed. */
  _emitCloseIfDrained(): void;
};

const WEBSOCKET = /\bwebsocket\b/i;

/** The raw socket below one of TLS. */
const rawOf = (socket: OpenSocket | undefined): OpenSocket | undefined =>
  (socket as { _handle?: { _parentWrap?: OpenSocket } | null } | undefined)?._handle?._parentWrap;

export class Connections {
  /** Those that listen, or have connections left. */
  readonly #servers = new Set<CountingServer>();
  readonly #secure = new WeakMap<Socket, OpenSocket>();
  /** What had been sent on the connection before it was upgraded; of WebSockets, and nothing more: there are many. */
  readonly #webSockets = new WeakMap<Socket, number>();
  readonly #sessions = new Map<ServerHttp2Session, OpenSocket | undefined>();
  /** While an event is delivered: the socket that it brings. */
  #arriving: OpenSocket | undefined;
  /** During a drain: what has to know of new sessions and WebSockets. */
  onSession?: (session: ServerHttp2Session, socket: OpenSocket | undefined) => void;
  onWebSocket?: (socket: OpenSocket, written: number) => void;

  /** To be called once, before the program runs. */
  noteEvents(): void {
    const connections = this;
    const emit = Server.prototype.emit as (this: Server, ...args: unknown[]) => boolean;
    // On the path of every request: some tens of nanoseconds. A program may emit events of these names that are its own.
    function noting(this: Server, ...args: unknown[]): boolean {
      switch (args[0]) {
        case 'connection':
        case 'secureConnection':
          return connections.#arrive(args[0], args[1] as OpenSocket | undefined, () =>
            emit.apply(this, args),
          );
        case 'session':
          connections.#begin(args[1] as Partial<ServerHttp2Session> | undefined);
          return emit.apply(this, args);
        case 'upgrade':
          return connections.#upgrade(args.slice(1), () => emit.apply(this, args));
        default:
          return emit.apply(this, args);
      }
    }
    Object.defineProperty(Server.prototype, 'emit', { value: noting, writable: true, configurable: true });
  }

  watch(server: Server): void {
    for (const each of this.#servers)
      if (!each.listening && each._connections === 0) this.#servers.delete(each);
    this.#servers.add(server as CountingServer);
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

  /** What had been sent on the connection before it became a WebSocket; undefined for one that is none. */
  webSocketSince(socket: Socket): number | undefined {
    return this.#webSockets.get(socket);
  }

  /** Servers that have not got their listener from the master, and what they have, are the program's alone. */
  #counts(socket: OpenSocket | undefined): boolean {
    const raw = rawOf(socket) ?? socket;
    return this.#servers.has(raw?._server as CountingServer);
  }

  #arrive(event: string, socket: OpenSocket | undefined, deliver: () => boolean): boolean {
    const raw = event === 'secureConnection' ? rawOf(socket) : undefined;
    if (raw && socket) this.#secure.set(raw, socket);
    const before = this.#arriving;
    this.#arriving = socket;
    try {
      return deliver();
    } finally {
      this.#arriving = before;
    }
  }

  /** Node emits 'session' while it delivers the connection that the session is of. */
  #begin(arrived: Partial<ServerHttp2Session> | undefined): void {
    const socket = this.#arriving;
    if (!arrived?.goaway || !this.#counts(socket)) return;
    const session = arrived as ServerHttp2Session;
    this.#sessions.set(session, socket);
    session.once('close', () => this.#sessions.delete(session));
    this.onSession?.(session, socket);
  }

  #upgrade([request, upgraded]: unknown[], deliver: () => boolean): boolean {
    const { headers } = (request ?? {}) as Partial<IncomingMessage>;
    const socket = upgraded as OpenSocket | undefined;
    if (!socket || !WEBSOCKET.test(headers?.upgrade ?? '') || !this.#counts(socket)) return deliver();
    const written = socket.bytesWritten;
    this.#webSockets.set(socket, written);
    const heard = deliver();
    this.onWebSocket?.(socket, written);
    return heard;
  }
}
