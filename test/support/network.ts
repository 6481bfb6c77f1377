import { readFileSync, writeFileSync } from 'node:fs';
import { beforeEach } from 'vitest';
import { missingCapabilities } from '../../lib/group/capability.js';
import { testing } from './testing.js';

/**
 * Gives the test file a network of its own; to be called once, before any socket is opened. Every test file is a
 * process, so no other file is touched, and ports and kernel settings need not be given back. Where that is not allowed the
 * tests of the file are skipped: nobody but root makes networks.
 */
export function ownNetwork(): void {
  const missing = missingCapabilities(['CAP_SYS_ADMIN']);
  if (missing.length === 0) testing().unshareNetwork();
  else beforeEach(({ skip }) => skip(`needs ${missing.join(', ')}`));
}

/** Sets a kernel parameter of the calling thread's network namespace, such as `net.ipv4.tcp_syncookies`. */
export function setKernelParameter(name: string, value: number): void {
  writeFileSync(pathOf(name), String(value));
}

export function kernelParameter(name: string): number {
  return Number(readFileSync(pathOf(name), 'utf8'));
}

function pathOf(name: string): string {
  return `/proc/sys/${name.replaceAll('.', '/')}`;
}

/** The IPv4 ports that somebody listens on in the calling thread's namespace (proc(5), /proc/net/tcp). */
export function listeningPorts(): number[] {
  const LISTEN = '0A';
  const ports = new Set<number>();
  for (const line of readFileSync('/proc/thread-self/net/tcp', 'utf8').split('\n').slice(1)) {
    const [, local = '', , state] = line.trim().split(/\s+/);
    if (state === LISTEN) ports.add(Number.parseInt(local.split(':')[1] as string, 16));
  }
  return [...ports];
}
