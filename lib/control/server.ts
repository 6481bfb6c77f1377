/** The control socket of a running master: HTTP/1.1 on a Unix socket that only its user and root may talk to. */
import { once } from 'node:events';
import { unlinkSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ERRORS, SpillwayError, systemError } from '../errors.js';
import { type NameLock, peerOf } from './lock.js';
import type { Controlled, Failure } from './protocol.js';
import { RequestError, type Route, routes } from './routes.js';

/** Milliseconds for a request to arrive in full; a client that is slower is cut off. */
const HEADERS_TIMEOUT = 5000;
const REQUEST_TIMEOUT = 10_000;
const LOOK_FOR_SLOW_EVERY = 1000;
const LONGEST_HEADERS = 8 * 1024;
const LONGEST_BODY = 64 * 1024;
/** Whoever may connect may end the master as well: this only keeps an accident from using up descriptors. */
const MOST_CONNECTIONS = 64;

/** Milliseconds that answers have to leave when the master ends. */
const LAST_ANSWERS = 1000;

export class ControlServer {
  readonly #server: Server;
  readonly #routes: Map<string, Route>;
  readonly #path: string;
  readonly #connections = new Set<Socket>();
  readonly #answering = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  /** process.exit() in the midst of things shall leave no file behind either. */
  readonly #atExit = () => this.#unlink();

  private constructor(controlled: Controlled, path: string) {
    this.#routes = routes(controlled);
    this.#path = path;
    this.#server = createServer(
      {
        maxHeaderSize: LONGEST_HEADERS,
        headersTimeout: HEADERS_TIMEOUT,
        requestTimeout: REQUEST_TIMEOUT,
        connectionsCheckingInterval: LOOK_FOR_SLOW_EVERY,
      },
      (request, response) => this.#track(this.#answer(request, response)),
    );
    this.#server.maxConnections = MOST_CONNECTIONS;
    // Before HTTP's own listener would read anything.
    this.#server.prependListener('connection', (socket) => this.#admit(socket));
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuseRaw(error, socket));
    this.#server.on('checkExpectation', (_request, response: ServerResponse) =>
      this.#track(refuse(response, new RequestError(417, 'no expectation but 100-continue is met'))),
    );
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_CONTROL` */
  static async open(lock: NameLock, controlled: Controlled): Promise<ControlServer> {
    const control = new ControlServer(controlled, lock.path);
    try {
      listenPrivately(control.#server, lock.path);
      // In front of what gives the name back.
      process.prependOnceListener('exit', control.#atExit);
      await once(control.#server, 'listening');
    } catch (error) {
      await control.close();
      throw systemError('ERR_SPILLWAY_CONTROL', `the control socket ${lock.path} cannot be opened`, error);
    }
    // accept() without a free descriptor: the client sees it, the master goes on.
    control.#server.on('error', () => {});
    return control;
  }

  /** Takes no further requests, lets the answers under way leave, and removes the socket file. */
  async close(): Promise<void> {
    this.#unlink();
    this.#server.close();
    this.#closing.abort();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, LAST_ANSWERS);
    });
    await Promise.race([Promise.allSettled(this.#answering), late]);
    clearTimeout(timer);
    for (const socket of this.#connections) socket.destroy();
    process.off('exit', this.#atExit);
  }

  #unlink(): void {
    try {
      unlinkSync(this.#path);
    } catch {
      // Somebody has removed it, or its folder: gone is gone.
    }
  }

  #admit(socket: Socket): void {
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    if (!isAllowed(socket)) socket.destroy();
  }

  #track(answer: Promise<void>): void {
    this.#answering.add(answer);
    void answer.finally(() => this.#answering.delete(answer));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A client may go away in the midst of anything; what it asked for is done all the same.
    request.on('error', () => {});
    response.on('error', () => {});
    isLast(response);
    try {
      const [method, url] = [request.method ?? '', urlOf(request)];
      const route = this.#routeOf(method, url.pathname, response);
      const body = await bodyOf(request);
      const result = await route({
        query: url.searchParams,
        body,
        response,
        closing: this.#closing.signal,
      });
      if (result !== undefined) await send(response, 200, result);
    } catch (error) {
      await refuse(response, error);
    }
  }

  #routeOf(method: string, path: string, response: ServerResponse): Route {
    const route = this.#routes.get(`${method} ${path}`);
    if (route) return route;
    const allowed = [...this.#routes.keys()].filter((key) => key.endsWith(` ${path}`));
    if (allowed.length === 0) throw new RequestError(404, `there is nothing at ${path}`);
    response.setHeader(
      'allow',
      allowed.map((key) => key.split(' ')[0] as string),
    );
    throw new RequestError(405, `${path} does not take ${method}`);
  }
}

/** Node binds in the call of listen() itself; the socket never has another mode than 0600. */
function listenPrivately(server: Server, path: string): void {
  const before = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
}

/** Nothing shall wait for a second request of a client when the master ends. */
function isLast(response: ServerResponse): void {
  response.setHeader('connection', 'close');
}

function urlOf(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '', 'http://spillway');
  } catch {
    throw new RequestError(400, `'${request.url}' is no address of a request`);
  }
}

/** Statuses of what is no whole request, by Node's codes; all others are 400. */
const RAW_STATUSES: Readonly<Record<string, number>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  HPE_HEADER_OVERFLOW: 431,
};

/** Answers what Node could not read as a request; there is no response object for it. */
function refuseRaw(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = RAW_STATUSES[error.code ?? ''] ?? 400;
  const body = `${JSON.stringify(failureOf(new RequestError(status, error.message)))}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** Mode and folder keep others out; should the socket have been made accessible, this still does. */
function isAllowed(socket: Socket): boolean {
  try {
    const { uid } = peerOf(socket);
    return uid === 0 || uid === process.getuid?.();
  } catch {
    return false;
  }
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > LONGEST_BODY) throw new RequestError(413, `a body may have ${LONGEST_BODY} bytes`);
    parts.push(part);
  }
  const text = Buffer.concat(parts).toString('utf8').trim();
  if (text === '') return {};
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new RequestError(400, 'the body is not JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new RequestError(400, 'the body is not a JSON object');
  }
  return body as Record<string, unknown>;
}

function refuse(response: ServerResponse, error: unknown): Promise<void> {
  isLast(response);
  return send(response, statusOf(error), failureOf(error));
}

/** Resolves when the answer has left, or the client has gone. */
function send(response: ServerResponse, status: number, result: unknown): Promise<void> {
  return new Promise((resolve) => {
    const gone = response.socket === null || response.socket.destroyed;
    if (gone || response.headersSent) {
      response.destroy();
      resolve();
      return;
    }
    response.once('close', resolve);
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify(result)}\n`);
  });
}

function statusOf(error: unknown): number {
  if (error instanceof RequestError) return error.status;
  if (error instanceof SpillwayError) return error.code === 'ERR_SPILLWAY_OPTION_RANGE' ? 400 : 409;
  return 500;
}

function failureOf(error: unknown): Failure {
  if (error instanceof SpillwayError) {
    return { error: { code: error.code, message: error.message, hint: error.hint } };
  }
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof RequestError ? 'ERR_SPILLWAY_REQUEST' : 'ERR_SPILLWAY_SYSTEM';
  return { error: { code, message, hint: ERRORS[code].hint } };
}
