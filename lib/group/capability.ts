/** What this process may do, by the names of capabilities(7). */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';

/** Bit numbers of capabilities(7), those Spillway has a use for. */
export const CAPABILITIES = {
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

export type CapabilityName = keyof typeof CAPABILITIES;

/** The effective set of the calling thread, as a bit mask. */
export function effectiveCapabilities(): bigint {
  const line = readFileSync('/proc/thread-self/status', 'latin1').match(/^CapEff:\s*([0-9a-f]+)$/m);
  return BigInt(`0x${line?.[1] ?? '0'}`);
}

export function hasCapability(name: CapabilityName, effective = effectiveCapabilities()): boolean {
  return ((effective >> BigInt(CAPABILITIES[name])) & 1n) === 1n;
}

/** Those of the named ones the process does not have. CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON. */
export function missingCapabilities(
  names: readonly CapabilityName[],
  effective = effectiveCapabilities(),
): CapabilityName[] {
  const covered: readonly CapabilityName[] = hasCapability('CAP_SYS_ADMIN', effective)
    ? ['CAP_BPF', 'CAP_PERFMON']
    : [];
  return names.filter((name) => !hasCapability(name, effective) && !covered.includes(name));
}

/** What the `ebpf` selector needs to be loaded and attached. */
export const EBPF_NEEDS: readonly CapabilityName[] = ['CAP_BPF', 'CAP_PERFMON'];

/** The first kernel with everything the `ebpf` selector uses; `bpf_loop` is the youngest part of it. */
export const EBPF_KERNEL = [5, 17] as const;

/** Whether a kernel release such as "6.1.0-13-amd64" is at least the given one. */
export function kernelAtLeast([major, minor]: readonly [number, number], version = release()): boolean {
  const [have = 0, haveMinor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return have > major || (have === major && haveMinor >= minor);
}

export const KERNEL_BTF = '/sys/kernel/btf/vmlinux';
