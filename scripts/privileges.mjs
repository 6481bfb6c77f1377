import { readFileSync } from 'node:fs';

/** What the kernel tests need, by bit (linux/capability.h): a program in the kernel and a network namespace of one's own. */
const NEEDED = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21, CAP_PERFMON: 38, CAP_BPF: 39 };

/** The names of the capabilities that this process lacks for the kernel tests. */
export function missingCapabilities() {
  const status = readFileSync('/proc/self/status', 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)[1]}`);
  return Object.entries(NEEDED)
    .filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n)
    .map(([name]) => name);
}
