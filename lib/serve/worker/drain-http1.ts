/**
 * HTTP/1 during a drain: every response that has not begun says `Connection: close`, and Node closes the connection
 * behind it. A connection without a request is left alone, since its client may be sending one at this moment.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { ServerResponse } from 'node:http';
import type { OpenSocket } from './connections.js';

/** Milliseconds that a connection without a single byte has when the worker stops: its first request may be under way. */
const FIRST_REQUEST = 1000;

const KEEP_ALIVE = /\bkeep-alive\b/i;

/**
 * Responses that are to come. The channel tells of every request of the process before the program sees it, whichever
 * of 'request', 'checkContinue' and 'checkExpectation' that is going to be, without a listener at any server.
 */
export function closeAfterResponses(): void {
  subscribe('http.server.request.start', (message) => {
    const { response, socket } = message as { response: ServerResponse; socket: OpenSocket };
    const current = socket._httpMessage;
    // Behind one that has not begun: pipelined. Node would never answer it if the one before closed the connection.
    if (current && current !== response) unmark(current);
    mark(response);
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
  if (last) mark(response);
  // The next one is in place when this event comes: Node's own listener was added before.
  else response.once('finish', () => closeAfterResponse(socket));
}

const marked = new WeakMap<ServerResponse, ServerResponse['writeHead']>();

function mark(response: ServerResponse): void {
  if (response.headersSent || !response.shouldKeepAlive || marked.has(response)) return;
  response.shouldKeepAlive = false;
  const { writeHead } = response;
  marked.set(response, writeHead);
  // What the program itself says about the connection would count more: proxies copy such headers.
  response.writeHead = function (this: ServerResponse, ...args: unknown[]) {
    if (KEEP_ALIVE.test(String(this.getHeader('connection')))) this.setHeader('connection', 'close');
    return writeHead.apply(this, args.map(withoutKeepAlive) as Parameters<typeof writeHead>);
  } as typeof writeHead;
}

function unmark(response: ServerResponse): void {
  const writeHead = marked.get(response);
  if (!writeHead || response.headersSent) return;
  marked.delete(response);
  response.writeHead = writeHead;
  response.shouldKeepAlive = true;
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
  const sweep = () => {
    for (const server of new Set(open().map(({ server }) => server))) server?.closeIdleConnections?.();
  };
  sweep();
  subscribe('http.server.response.finish', () => setImmediate(sweep));
  setTimeout(() => {
    for (const socket of open()) if (speaksHttp1(socket) && socket.bytesRead === 0) socket.end();
  }, FIRST_REQUEST).unref();
}
