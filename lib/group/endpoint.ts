/** Where a group listens: from what the user wrote to a numeric address, and who else is there. */
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { SpillwayError, systemError } from '../errors.js';
import type { Endpoint } from '../native.js';

/** `[::1]:80` or `127.0.0.1:80`. */
export function describe({ address, family, port }: Endpoint): string {
  return family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

function hasIpv6(): boolean {
  try {
    return readFileSync('/proc/thread-self/net/if_inet6', 'utf8').length > 0;
  } catch {
    return false;
  }
}

/**
 * The address a host stands for. Without one all of the machine's: `::`, or `0.0.0.0` where there is no IPv6, as
 * `net.Server` has it. Of a name's addresses the first one counts.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_HOST_UNKNOWN`, `ERR_SPILLWAY_OPTION_RANGE` (port)
 */
export async function resolveEndpoint(host: string | undefined, port: number): Promise<Endpoint> {
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `port cannot be ${port}; it takes: integer, 0 to 65535`,
    );
  }
  if (host === undefined || host === '') {
    return hasIpv6() ? { address: '::', family: 6, port } : { address: '0.0.0.0', family: 4, port };
  }
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(bare);
  if (family !== 0) return { address: bare, family: family as 4 | 6, port };
  try {
    const found = await lookup(bare, { verbatim: true });
    return { address: found.address, family: found.family as 4 | 6, port };
  } catch (cause) {
    throw systemError('ERR_SPILLWAY_HOST_UNKNOWN', `host '${host}'`, cause);
  }
}

/** A TCP socket as /proc/net/tcp tells it. */
export interface ListedSocket {
  inode: number;
  uid: number;
  /** Remote address and port, as the kernel writes them; equal for one and the same peer. */
  peer: string;
}

const LISTEN = '0A';
const SYN_RECV = '03';

/** An address the way /proc/net/tcp writes it: 32-bit words of network order, printed in host order. */
export function procAddress({ address, family, port }: Endpoint): string {
  const bytes = family === 4 ? ipv4Bytes(address) : ipv6Bytes(address.replace(/%.*$/, ''));
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  const hex = [...words].map((word) => word.toString(16).padStart(8, '0')).join('');
  return `${hex}:${port.toString(16).padStart(4, '0')}`.toUpperCase();
}

function ipv4Bytes(address: string): number[] {
  return address.split('.').map(Number);
}

function ipv6Bytes(address: string): number[] {
  const dotted = address.match(/^(.*:)(\d+\.\d+\.\d+\.\d+)$/);
  if (dotted) {
    const [a, b, c, d] = ipv4Bytes(dotted[2] as string) as [number, number, number, number];
    return ipv6Bytes(`${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`);
  }
  const [head = '', tail] = address.split('::');
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const middle = new Array<number>(8 - left.length - right.length).fill(0);
  return [...left, ...middle, ...right].flatMap((group) => [group >> 8, group & 255]);
}

/** Sockets on exactly this address and port, in the order the kernel lists them. */
function listed(endpoint: Endpoint, state: string): ListedSocket[] {
  const local = procAddress(endpoint);
  const sockets: ListedSocket[] = [];
  // The thread's own, as network namespaces belong to threads.
  const table = readFileSync(`/proc/thread-self/net/tcp${endpoint.family === 6 ? '6' : ''}`, 'latin1');
  for (const line of table.split('\n')) {
    if (!line.includes(local)) continue;
    const [, address, peer = '', st, , , , uid, , inode] = line.trim().split(/\s+/);
    if (address === local && st === state) sockets.push({ inode: Number(inode), uid: Number(uid), peer });
  }
  return sockets;
}

/**
 * The listeners on exactly this address and port, in the order they joined the kernel's group, as long as none has
 * left: the kernel puts a new one in front of the others for IPv4 and behind them for IPv6
 * (net/ipv4/inet_hashtables.c, `__inet_hash`).
 */
export function listenersAt(endpoint: Endpoint): ListedSocket[] {
  const found = listed(endpoint, LISTEN);
  return endpoint.family === 6 ? found : found.reverse();
}

/** The half-open connections to exactly this address and port. */
export function halfOpenAt(endpoint: Endpoint): ListedSocket[] {
  return listed(endpoint, SYN_RECV);
}
