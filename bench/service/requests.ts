/** What clients send to service/program.mjs. */
import type { Blocker } from './blocking.js';

export function get(path: string, connection: 'close' | 'keep-alive' = 'close'): string {
  return `GET ${path} HTTP/1.1\r\nHost: bench\r\nConnection: ${connection}\r\n\r\n`;
}

/** The plainest request of each protocol, one connection for it alone. */
export const PLAIN_REQUEST = { http: get('/'), tcp: '/\n' } as const;

export function blockingPath(how: Blocker, milliseconds: number): string {
  return `/block?how=${how}&ms=${milliseconds}`;
}
