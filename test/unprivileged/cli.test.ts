/** The command line as a user without capabilities: what works, what is missing, and how to get it. */
import { expect, test } from 'vitest';
import type { DemoResult } from '../../lib/cli/demo.js';
import type { DoctorReport } from '../../lib/cli/doctor.js';
import { runSpillway } from '../support/cli.js';

test('the demo runs with cbpf, says what is missing, and leaves unknown what it cannot know', async () => {
  const { code, stdout, stderr } = await runSpillway(
    'demo',
    '--port',
    '0',
    '--flood',
    '--seconds',
    '2',
    '--json',
  );
  expect(code).toBe(0);
  const result: DemoResult = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
  expect(result).toMatchObject({ selector: 'cbpf', redirected: null, dropped: null });
  expect(result.notice).toContain('missing CAP_BPF and CAP_PERFMON');
  expect(result.workers.map(({ redirectedIn, redirectedOut }) => [redirectedIn, redirectedOut])).toEqual(
    new Array(4).fill([null, null]),
  );
  const { workers, load } = result;
  expect(load).toMatchObject({ answered: load.sent, failed: 0, timedOut: 0 });
  expect(Object.fromEntries(workers.map(({ slot, served }) => [slot, served]))).toEqual(load.byWorker);
  expect(stderr).toMatch(/^spillway: .*'cbpf'.*missing CAP_BPF and CAP_PERFMON.*doctor/);
});

test('the demo with a selector that does not work here ends with 1, the reason, the hint and the code', async () => {
  const { code, stdout, stderr } = await runSpillway('demo', '--port', '0', '--selector', 'ebpf');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^spillway: selector 'ebpf' does not work: missing CAP_BPF and CAP_PERFMON/);
  expect(stderr).toContain('`npm run doctor`');
  expect(stderr).toMatch(/\nERR_SPILLWAY_SELECTOR_UNAVAILABLE\n$/);
  expect(stderr).not.toMatch(/^ +at /m);
});

test('the doctor finds cbpf working, ebpf not, and prints exact lines to change that', async () => {
  const report: DoctorReport = JSON.parse((await runSpillway('doctor', '--json')).stdout);
  expect(report).toMatchObject({ works: true, selector: 'cbpf' });
  expect(report.selectors.map(({ works }) => works)).toEqual([false, true, true]);
  expect(report.selectors[0]?.why).toBe('missing CAP_BPF and CAP_PERFMON');
  expect(report.machine.capabilities.effective).not.toContain('CAP_BPF');

  const { code, stdout } = await runSpillway('doctor');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^ {2}! ebpf {2}does not work: missing CAP_BPF and CAP_PERFMON$/m);
  expect(stdout).toContain('docker run --cap-add BPF --cap-add PERFMON');
  for (const { lines } of report.grants) for (const line of lines) expect(stdout).toContain(`    ${line}\n`);
});
