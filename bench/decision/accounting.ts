/** What the kernel's run-time accounting adds to every run: the account of a program that does nothing. */
import { closeSync, readFileSync } from 'node:fs';
import { type Target, testing } from '../../test/support/testing.js';
import { median } from '../method/statistics.js';
import type { Amount } from './stage.js';

const BACKLOG = 4095;
const BURST = 512;

/**
 * Nanoseconds the kernel accounts for a run of an empty program, in the place of the selector: two readings of the
 * clock and the call between them. The accounting must be on.
 */
export function sampleAccounting(port: number, { parts, runs }: Amount): number {
  const target = { address: '127.0.0.1', family: 4, port } as const;
  const listener = testing().openListener({ ...target, reusePort: true, backlog: BACKLOG });
  try {
    const program = testing().attachEmptyProgram(listener);
    try {
      decide(target, listener, program, runs);
      return median(Array.from({ length: parts }, () => decide(target, listener, program, runs)));
    } finally {
      closeSync(program);
    }
  } finally {
    closeSync(listener);
  }
}

function decide(target: Target, listener: number, program: number, atLeast: number): number {
  const before = accountOf(program);
  for (let connected = 0; connected < atLeast; connected += BURST) {
    testing().timeConnections({ ...target, count: BURST });
    testing().closeMany(testing().acceptMany(listener));
  }
  const after = accountOf(program);
  return (after.nanoseconds - before.nanoseconds) / (after.runs - before.runs);
}

/** Fields of a BPF program's entry in /proc/pid/fdinfo (kernel/bpf/syscall.c, bpf_prog_show_fdinfo). */
function accountOf(program: number): { runs: number; nanoseconds: number } {
  const text = readFileSync(`/proc/self/fdinfo/${program}`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)$`, 'm').exec(text)?.[1]);
  return { runs: field('run_cnt'), nanoseconds: field('run_time_ns') };
}
