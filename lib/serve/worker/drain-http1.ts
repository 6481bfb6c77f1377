/**
 * HTTP/1 during a drain: the next response of each connection that begins says `Connection: close`, and Node closes the
 * connection behind it. A connection without a request is left alone, since its client may be sending one at this moment.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { IdleCloser, OpenSocket } from './connections.js';

/** Milliseconds that a connection without a single byte has when the worker stops: its first request may be under way. */
const FIRST_REQUEST = 1000;

const KEEP_ALIVE = /\bkeep-alive\b/i;

/** The response that each connection is to end with. */
const lasts = new WeakMap<OpenSocket, ServerResponse>();

/** Connections that have had a response more because a request's body was on its way. */
const spared = new WeakSet<OpenSocket>();

/**
 * Responses that are to come. The channel tells of every request of the process before the program sees it, whichever
 * of 'request', 'checkContinue' and 'checkExpectation' that is going to be, without a listener at any server.
 */
export function closeAfterResponses(): void {
  subscribe('http.server.request.start', (message) => {
    const { response, socket } = message as { response: ServerResponse; socket: OpenSocket };
    makeLast(response, socket);
  });
}

export const speaksHttp1 = (socket: OpenSocket): boolean => Boolean(socket.parser);

/** Nobody waits for anything on it. */
export const isIdle = (socket: OpenSocket): boolean =>
  speaksHttp1(socket) && !socket._httpMessage && (socket.parser?.incoming?.complete ?? true);

/** The response that is being written; behind pipelined requests the last one. */
export function closeAfterResponse(socket: OpenSocket): void {
  const response = socket._httpMessage;
  if (!response) return;
  const last = !socket.parser?.incoming || socket.parser.incoming === response.req;
  if (last) makeLast(response, socket);
  // The next one is in place when this event comes: Node's own listener was added before.
  else response.once('finish', () => closeAfterResponse(socket));
}

/**
 * From now on the connection ends with this response, unless another request has come when its head is written:
 * pipelined ones Node would never answer if the one before closed the connection.
 */
function makeLast(response: ServerResponse, socket: OpenSocket): void {
  if (lasts.get(socket) === response) return;
  lasts.set(socket, response);
  if (response.headersSent) return;
  const { writeHead } = response;
  // Decided when it is called: others wrap it too, and what they have put around this one stays.
  response.writeHead = function (this: ServerResponse, ...args: unknown[]) {
    const call = (args: unknown[]) => writeHead.apply(this, args as Parameters<typeof writeHead>);
    // Ready before its turn: more requests may come until then.
    const queued = socket._httpMessage !== response;
    if (queued || lasts.get(socket) !== response || spares(socket, response.req)) return call(args);
    response.shouldKeepAlive = false;
    // What the program itself says about the connection would count more: proxies copy such headers.
    if (KEEP_ALIVE.test(String(this.getHeader('connection')))) this.setHeader('connection', 'close');
    return call(args.map(withoutKeepAlive));
  } as typeof writeHead;
}

/**
 * A client that is still sending the request's body would lose the response if the connection were closed now: what
 * arrives afterwards is answered with a reset. So it stays, to the response after this one; only once, for a program
 * that never reads its bodies answers all requests like that.
 */
function spares(socket: OpenSocket, { complete, headers }: IncomingMessage): boolean {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0;
  if (complete || !hasBody || spared.has(socket)) return false;
  spared.add(socket);
  return true;
}

/** The headers among the arguments of writeHead(): an object, names and values in turn, or pairs of them. */
function withoutKeepAlive(argument: unknown): unknown {
  if (typeof argument !== 'object' || argument === null) return argument;
  const instead = (name: unknown, value: unknown) =>
    String(name).toLowerCase() === 'connection' && KEEP_ALIVE.test(String(value)) ? 'close' : value;
  if (!Array.isArray(argument))
    return Object.fromEntries(Object.entries(argument).map(([name, value]) => [name, instead(name, value)]));
  if (Array.isArray(argument[0])) return argument.map(([name, value]) => [name, instead(name, value)]);
  return argument.map((value, index) => (index % 2 === 0 ? value : instead(argument[index - 1], value)));
}

/**
 * When the worker is about to end for good, connections without a request go as soon as they have none, as by Node's own
 * `server.close()`. That leaves those alone that have not had their first request; they have a moment for it.
 */
export function closeIdle(open: () => OpenSocket[]): void {
  const soon = new Set<IdleCloser>();
  const sweep = (server: IdleCloser) => {
    soon.delete(server);
    server.closeIdleConnections?.();
  };
  // Each sweep looks at all connections of the server, so that one is for all responses of a turn.
  const sweepSoon = (server: IdleCloser) => {
    if (!soon.has(server)) setImmediate(sweep, server);
    soon.add(server);
  };
  for (const server of new Set(open().map(({ server }) => server))) if (server) sweep(server);
  subscribe('http.server.response.finish', (message) => {
    const { request, server } = message as { request: IncomingMessage; server: IdleCloser };
    if (request.complete) sweepSoon(server);
    else request.once('end', () => sweepSoon(server));
  });
  setTimeout(() => {
    for (const socket of open()) if (speaksHttp1(socket) && socket.bytesRead === 0) socket.end();
  }, FIRST_REQUEST).unref();
}
