/**
 * Which TCP sockets are on an address, read from proc(5): for where the kernel cannot be asked by sock_diag(7). The
 * kernel walks all of its connection table for it, whatever is looked for.
 */
import { readFileSync } from 'node:fs';
import type { Endpoint, ListedSocket } from '../native.js';

/** An address the way /proc/net/tcp writes it: 32-bit words of network order, printed in host order. */
export function procAddress({ address, family, port }: Endpoint): string {
  const bytes = family === 4 ? ipv4Bytes(address) : ipv6Bytes(address.replace(/%.*$/, ''));
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  const hex = [...words].map((word) => word.toString(16).padStart(8, '0')).join('');
  return `${hex.toUpperCase()}${procPort(port)}`;
}

function procPort(port: number): string {
  return `:${port.toString(16).padStart(4, '0').toUpperCase()}`;
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

/**
 * What `native().socketsAt()` tells, for one state (include/net/tcp_states.h) instead of a mask. An empty address
 * stands for all of the family.
 */
export function socketsInProc(endpoint: Endpoint, state: number): ListedSocket[] {
  const local = endpoint.address === '' ? procPort(endpoint.port) : procAddress(endpoint);
  const wanted = state.toString(16).padStart(2, '0').toUpperCase();
  const sockets: ListedSocket[] = [];
  // The thread's own, as network namespaces belong to threads.
  const table = readFileSync(`/proc/thread-self/net/tcp${endpoint.family === 6 ? '6' : ''}`, 'latin1');
  for (const line of table.split('\n')) {
    if (!line.includes(local)) continue;
    const [, address, peer = '', st, , , , uid, , inode] = line.trim().split(/\s+/);
    if (address?.endsWith(local) && st === wanted)
      sockets.push({ inode: Number(inode), uid: Number(uid), peer });
  }
  return sockets;
}
