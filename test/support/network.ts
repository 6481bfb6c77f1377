import { readFileSync, writeFileSync } from 'node:fs';
import { testing } from './testing.js';

/**
 * Gives the test file a network of its own; to be called once, before any socket is opened. Every test file is a
 * process, so no other file is touched, and ports and kernel settings need not be given back.
 */
export function ownNetwork(): void {
  testing().unshareNetwork();
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
