import { expect, test } from 'vitest';
import {
  CAPABILITIES,
  EBPF_NEEDS,
  hasCapability,
  kernelAtLeast,
  missingCapabilities,
} from '../../lib/group/capability.js';

const mask = (...names: (keyof typeof CAPABILITIES)[]) =>
  names.reduce((bits, name) => bits | (1n << BigInt(CAPABILITIES[name])), 0n);

test.each([
  ['none at all', 0n, ['CAP_BPF', 'CAP_PERFMON']],
  ['CAP_BPF alone', mask('CAP_BPF'), ['CAP_PERFMON']],
  ['both', mask('CAP_BPF', 'CAP_PERFMON'), []],
  ['CAP_SYS_ADMIN, which stands in for both', mask('CAP_SYS_ADMIN'), []],
  ['others only', mask('CAP_NET_ADMIN', 'CAP_NET_RAW'), ['CAP_BPF', 'CAP_PERFMON']],
] as const)('with %s, what the ebpf selector lacks is named', (_, effective, missing) => {
  expect(missingCapabilities(EBPF_NEEDS, effective)).toEqual(missing);
});

test('CAP_SYS_ADMIN does not stand in for CAP_NET_ADMIN', () => {
  expect(missingCapabilities(['CAP_NET_ADMIN'], mask('CAP_SYS_ADMIN'))).toEqual(['CAP_NET_ADMIN']);
  expect(hasCapability('CAP_NET_ADMIN', mask('CAP_NET_ADMIN'))).toBe(true);
});

test.each([
  ['6.1.0-13-amd64', true],
  ['5.17.0', true],
  ['5.16.20', false],
  ['5.4.0-150-generic', false],
  ['10.0', true],
] as const)('kernel %s is new enough: %s', (version, expected) => {
  expect(kernelAtLeast([5, 17], version)).toBe(expected);
});
