/** wrk, where it fits: as much as goes over connections that stay. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface WrkOrder {
  url: string;
  connections: number;
  seconds: number;
  /** The processor it is bound to. */
  cpu: number;
  signal: AbortSignal;
}

interface WrkResult {
  answered: number;
  /** Connections that failed or broke, time-outs, and answers other than 2xx and 3xx. */
  failed: number;
  /** Seconds that it really ran. */
  took: number;
  /** Milliseconds, from sending to the whole answer. */
  p50: number;
  p99: number;
}

export async function runWrk({ url, connections, seconds, cpu, signal }: WrkOrder): Promise<WrkResult> {
  const wrk = ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '--latency', url];
  const { stdout } = await promisify(execFile)('taskset', ['-c', String(cpu), ...wrk], { signal });
  return parseWrk(stdout);
}

/** From what wrk prints for people: it has no other form without a script of its own. */
export function parseWrk(text: string): WrkResult {
  const sum = text.match(/(\d+) requests in ([\d.]+)(us|ms|s|m|h),/);
  if (!sum) throw new Error(`wrk did not say how many requests it made:\n${text}`);
  const [, requests, time, unit] = sum;
  const errors = text.match(/Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/);
  const bad = Number(text.match(/Non-2xx or 3xx responses: (\d+)/)?.[1] ?? 0);
  const broken = errors ? errors.slice(1).reduce((total, count) => total + Number(count), 0) : 0;
  return {
    answered: Number(requests) - bad,
    failed: broken + bad,
    took: milliseconds(time, unit) / 1000,
    p50: percentile(text, 50),
    p99: percentile(text, 99),
  };
}

function percentile(text: string, percent: number): number {
  const line = text.match(new RegExp(`^\\s*${percent}%\\s+([\\d.]+)(us|ms|s|m|h)`, 'm'));
  if (!line) throw new Error(`wrk did not say its ${percent}th percentile:\n${text}`);
  return milliseconds(line[1], line[2]);
}

const UNITS: Record<string, number> = { us: 0.001, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function milliseconds(value: string | undefined, unit: string | undefined): number {
  return Number(value) * (UNITS[unit ?? ''] ?? Number.NaN);
}
