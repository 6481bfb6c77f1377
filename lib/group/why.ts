/** Why a selector does not work here, in a sentence, and how to change that. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import type { NativeError } from '../native.js';
import { EBPF_KERNEL, EBPF_NEEDS, KERNEL_BTF, kernelAtLeast, missingCapabilities } from './capability.js';

export interface Why {
  sentence: string;
  hint: string;
}

/** Granting what the `ebpf` selector needs, to one program. */
export const GRANT_EBPF =
  'Grant CAP_BPF and CAP_PERFMON: systemd AmbientCapabilities=CAP_BPF CAP_PERFMON, a container --cap-add of both, or setcap on the node binary; `npx spillway doctor` prints the exact lines.';

/** Thrown where `readBy: 'cast'` was asked for and the kernel has no `bpf_rdonly_cast`. */
export class NoCastError extends Error {
  constructor() {
    super(`readBy 'cast' needs bpf_rdonly_cast, which Linux has from 6.2 on; this is Linux ${release()}`);
  }
}

/**
 * The likeliest reason that loading or attaching the program failed, from what is missing to what the kernel said.
 *
 * @param needsNetAdmin whether a SOCKMAP was asked for.
 */
export function whyNotEbpf(error: unknown, needsNetAdmin = false): Why {
  const { code = '', message = String(error), detail } = error as Partial<NativeError>;
  if (!kernelAtLeast(EBPF_KERNEL)) {
    return {
      sentence: `Linux ${release()} is older than ${EBPF_KERNEL.join('.')}`,
      hint: `Use a kernel from ${EBPF_KERNEL.join('.')} on.`,
    };
  }
  if (!existsSync(KERNEL_BTF)) {
    return {
      sentence: `the kernel tells no types (${KERNEL_BTF} is missing)`,
      hint: 'Use a kernel built with CONFIG_DEBUG_INFO_BTF=y; those of the distributions are. In a container, mount /sys.',
    };
  }
  if (error instanceof NoCastError) {
    return { sentence: message, hint: "Use readBy 'auto', which takes 'probe' here." };
  }
  const missing = missingCapabilities(EBPF_NEEDS);
  if (missing.length > 0 && (code === 'EPERM' || code === 'EACCES' || code === 'EINVAL')) {
    return { sentence: `missing ${missing.join(' and ')}`, hint: GRANT_EBPF };
  }
  const netAdmin = missingCapabilities(['CAP_NET_ADMIN']).length > 0;
  if (code === 'EPERM' && needsNetAdmin && netAdmin) {
    return {
      sentence: 'a SOCKMAP needs CAP_NET_ADMIN besides',
      hint: 'Grant CAP_NET_ADMIN, or leave out `sockmap`.',
    };
  }
  if (detail?.includes('non-JITed')) {
    return {
      sentence: 'the kernel does not compile BPF programs (net.core.bpf_jit_enable is 0)',
      hint: 'Set the sysctl net.core.bpf_jit_enable to 1.',
    };
  }
  if (code === 'EPERM') {
    return {
      sentence: `the kernel refused it in spite of the capabilities (${message})`,
      hint: 'A seccomp profile, a security module or kernel lockdown may forbid bpf(2); ask whoever runs the machine.',
    };
  }
  const log = detail ? `\n${detail.trimEnd()}` : '';
  return {
    sentence: `${message}${log}`,
    hint: 'Please report it with the output of `npx spillway doctor --json`.',
  };
}
