/** Servers that the load generator is held against: in the test's own process, and they count what they see. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { afterEach } from 'vitest';

export interface Seen {
  port: number;
  /** Connections so far, by the address they come from. */
  sources: Map<string, number>;
  connections: number;
  /** Connections that are open now, and the most there have been at once. */
  open: Set<Socket>;
  most: number;
}

const servers = new Set<{ server: Server; open: Set<Socket> }>();

afterEach(async () => {
  for (const { server, open } of servers) {
    const closed = once(server, 'close');
    server.close();
    for (const socket of open) socket.destroy();
    await closed;
  }
  servers.clear();
});

async function listen(server: Server, host: string): Promise<Seen> {
  const seen: Seen = { port: 0, sources: new Map(), connections: 0, open: new Set(), most: 0 };
  server.on('connection', (socket: Socket) => {
    const from = socket.remoteAddress ?? 'gone';
    seen.connections++;
    seen.sources.set(from, (seen.sources.get(from) ?? 0) + 1);
    seen.open.add(socket);
    seen.most = Math.max(seen.most, seen.open.size);
    socket.on('error', () => {});
    socket.on('close', () => seen.open.delete(socket));
  });
  servers.add({ server, open: seen.open });
  server.listen(0, host, 4096);
  await once(server, 'listening');
  seen.port = (server.address() as AddressInfo).port;
  return seen;
}

export interface SeenRequests extends Seen {
  /** Paths in the order they came. */
  paths: string[];
}

/** HTTP; by default every request is answered by the worker "only". */
export async function httpServer(
  answer: (response: ServerResponse, request: IncomingMessage, number: number) => void = (response) => {
    response.end('only');
  },
  host = '127.0.0.1',
): Promise<SeenRequests> {
  const paths: string[] = [];
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    paths.push(request.url as string);
    answer(response, request, paths.length - 1);
  });
  return Object.assign(await listen(server, host), { paths });
}

/** Anything else over TCP. */
export function tcpServer(serve: (socket: Socket) => void): Promise<Seen> {
  return listen(createTcpServer(serve), '127.0.0.1');
}
