/** Clients of the framework programs. */
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { SocketGroup } from '../../../lib/group/group.js';
import { targetOf } from '../clients.js';

export type Protocol = 'http' | 'https' | 'h2c' | 'h2' | 'tcp';

export interface Place {
  host: string;
  port: number;
}

/** What the programs answer. */
export interface Told {
  pid: number;
  slot?: string;
  body?: unknown;
  [more: string]: unknown;
}

export function app(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

export function placeOf(group: SocketGroup): Place {
  const { address, port } = targetOf(group);
  return { host: address, port };
}

/** One request on a connection of its own; with a body it is a POST. */
export function tell(place: Place, protocol: Protocol, body?: unknown): Promise<Told> {
  if (protocol === 'tcp') return tellTcp(place, body);
  if (protocol === 'http' || protocol === 'https') return tellHttp(place, protocol, body, undefined);
  return tellHttp2(place, protocol, body);
}

/** Two requests on one connection: who answered, and whether it was one connection for both. */
export async function tellTwice(
  place: Place,
  protocol: 'http' | 'https',
): Promise<{ pids: number[]; reused: boolean }> {
  const agent =
    protocol === 'http'
      ? new Agent({ keepAlive: true, maxSockets: 1 })
      : new SecureAgent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
  try {
    const first = await tellHttp(place, protocol, undefined, agent);
    const [idle] = Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []);
    const second = await tellHttp(place, protocol, undefined, agent);
    const reused = Object.values(agent.freeSockets).some((sockets) => idle && sockets?.includes(idle));
    return { pids: [first.pid, second.pid], reused };
  } finally {
    agent.destroy();
  }
}

function tellHttp(
  { host, port }: Place,
  protocol: 'http' | 'https',
  body: unknown,
  agent: Agent | undefined,
): Promise<Told> {
  const ask = protocol === 'http' ? request : secureRequest;
  const method = body === undefined ? 'GET' : 'POST';
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const asked = ask(
      { host, port, method, headers, agent: agent ?? false, rejectUnauthorized: false },
      async (response) => {
        let text = '';
        try {
          for await (const chunk of response.setEncoding('utf8')) text += chunk;
          // The agent has its connection back one turn later.
          setImmediate(() => resolve(JSON.parse(text)));
        } catch (error) {
          reject(error);
        }
      },
    );
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function tellHttp2({ host, port }: Place, protocol: 'h2c' | 'h2', body: unknown): Promise<Told> {
  const scheme = protocol === 'h2' ? 'https' : 'http';
  const session = connectHttp2(`${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`, {
    rejectUnauthorized: false,
  });
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject);
      const stream = session.request({ ':method': body === undefined ? 'GET' : 'POST' });
      let text = '';
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      stream.on('error', reject).on('end', () => resolve(JSON.parse(text)));
      stream.end(body === undefined ? undefined : JSON.stringify(body));
    });
  } finally {
    session.destroy();
  }
}

/** The greeting, and what comes back for the body. */
async function tellTcp({ host, port }: Place, body: unknown): Promise<Told> {
  const socket = connect({ host, port }).setEncoding('utf8');
  try {
    await once(socket, 'connect');
    if (body !== undefined) socket.write(`${JSON.stringify(body)}\n`);
    const lines: string[] = [];
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      lines.splice(0, lines.length, ...text.split('\n').slice(0, -1));
      if (lines.length === (body === undefined ? 1 : 2)) break;
    }
    const [greeting = '', echo] = lines;
    return { ...JSON.parse(greeting), ...(echo === undefined ? {} : { body: JSON.parse(echo) }) };
  } finally {
    socket.destroy();
  }
}
