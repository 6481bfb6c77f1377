/** Where a benchmark ran: everything a reader needs to compare its figures with others. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, loadavg, release } from 'node:os';
import { packageRoot } from '../../lib/native.js';
import { README, RESULTS } from '../kept.js';

export interface Environment {
  /** ISO 8601, when the benchmark began. */
  date: string;
  kernel: string;
  arch: string;
  cpu: { model: string; count: number };
  /** Whether the kernel runs in a virtual machine; null where the CPU does not tell. */
  virtual: boolean | null;
  /** How the kernel guards indirect calls, which BPF programs make; null where it does not tell. */
  spectreV2: string | null;
  /** `net.core.bpf_jit_enable`; null when it may not be read. */
  bpfJit: string | null;
  node: string;
  /** Load average of the last minute when the benchmark began: above 0.5 the figures are those of a busy machine. */
  load: number;
  /** The checkout that was measured; null outside of one. */
  git: { revision: string; changed: boolean } | null;
}

export function readEnvironment(): Environment {
  const processors = cpus();
  const flags = contentOf('/proc/cpuinfo')?.match(/^flags\s*:(.*)$/m)?.[1];
  return {
    date: new Date().toISOString(),
    kernel: release(),
    arch: arch(),
    cpu: { model: processors[0]?.model.trim() ?? 'unknown', count: processors.length },
    virtual: flags === undefined ? null : /\bhypervisor\b/.test(flags),
    spectreV2: contentOf('/sys/devices/system/cpu/vulnerabilities/spectre_v2'),
    bpfJit: contentOf('/proc/sys/net/core/bpf_jit_enable'),
    node: process.version,
    load: loadavg()[0] ?? 0,
    git: readRevision(),
  };
}

function contentOf(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}

function readRevision(): Environment['git'] {
  const revision = git('rev-parse', 'HEAD');
  // What a run before this one has kept is no change of what is measured.
  const status = git('status', '--porcelain', '--', ':/', `:(exclude)${RESULTS}`, `:(exclude)${README}`);
  if (revision === null || status === null) return null;
  return { revision: revision.trim(), changed: status.trim() !== '' };
}

function git(...args: string[]): string | null {
  const { status, stdout } = spawnSync('git', args, { cwd: packageRoot, encoding: 'utf8' });
  return status === 0 ? stdout : null;
}
