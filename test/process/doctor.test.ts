/** `spillway doctor` and the command line around it, as this user; unprivileged/cli.test.ts has the other one. */
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { DoctorReport } from '../../lib/cli/doctor.js';
import { EBPF_NEEDS, hasCapability, missingCapabilities } from '../../lib/group/capability.js';
import { packageRoot } from '../../lib/native.js';
import { CLI, Run, runSpillway, undescribed } from '../support/cli.js';
import { TIERS } from '../support/serving.js';

test('--json gives one object that agrees with what is known about this process', async () => {
  const { code, stdout, stderr } = await runSpillway('doctor', '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const report: DoctorReport = JSON.parse(stdout);
  expect(report.works).toBe(true);
  expect(report.selectors.map(({ selector, works }) => ({ selector, works }))).toEqual(
    TIERS.map(({ selector, missing }) => ({ selector, works: missing.length === 0 })),
  );
  expect(report.selector).toBe(report.selectors.find(({ works }) => works)?.selector);
  expect(report.machine).toMatchObject({
    platform: 'linux',
    node: { version: process.versions.node },
    user: { uid: process.getuid?.() },
    addon: { loaded: true, problem: null },
  });
  expect(report.machine.parameters['net.core.somaxconn']).toBeGreaterThan(0);
  expect(report.checks.filter(({ state }) => state === 'failed')).toEqual([]);
  // Grants are not there for root: a made-up one stands for them.
  const grants = [{ way: 'once', title: '', lines: [], note: null }];
  expect(undescribed('doctor', { ...report, grants })).toEqual([]);
  expect(report.grants.length > 0).toBe(TIERS.some(({ missing }) => missing.length > 0));
});

test('the text names the selectors with a mark, and has no colours where there is no terminal', async () => {
  const { code, stdout } = await runSpillway('doctor');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^spillway \d/);
  expect(stdout).toMatch(/^ {2}✓ none {2}works/m);
  expect(stdout).toMatch(/^ {2}✓ native addon +loaded/m);
  expect(stdout).toMatch(/^ {2}[✓!] net\.core\.somaxconn +\d+/m);
  expect(stdout).not.toContain('\u001b');
});

test('the command can be called by its path, as npx and links in PATH do', async () => {
  const run = new Run(CLI, ['--version']);
  expect(await run.ended).toEqual([0, null]);
});

const canDrop = hasCapability('CAP_SETPCAP') && missingCapabilities(EBPF_NEEDS).length === 0;
test.skipIf(!canDrop)('what the doctor says to grant is enough: with that alone ebpf works', async () => {
  const only = EBPF_NEEDS.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`).join();
  const run = new Run('setpriv', [`--bounding-set=-all,${only}`, process.execPath, CLI, 'doctor', '--json']);
  await run.ended;
  const report: DoctorReport = JSON.parse(run.stdout);
  expect(report.machine.capabilities.effective.toSorted()).toEqual([...EBPF_NEEDS].sort());
  expect(report.selectors[0]).toMatchObject({ selector: 'ebpf', works: true, why: null });
});

describe('without the addon built', () => {
  /** The package as it is when the build has not been run. */
  async function unbuilt(
    ...args: string[]
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const folder = mkdtempSync(join(tmpdir(), 'spillway-unbuilt-'));
    try {
      for (const part of ['dist', 'package.json']) {
        cpSync(join(packageRoot, part), join(folder, part), { recursive: true });
      }
      symlinkSync(join(packageRoot, 'node_modules'), join(folder, 'node_modules'));
      const run = new Run(process.execPath, [join(folder, 'dist/lib/cli/main.js'), ...args]);
      const [code] = await run.ended;
      return { code, stdout: run.stdout, stderr: run.stderr };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  test('the doctor says so as a failed check, and ends with 1', async () => {
    const { code, stdout, stderr } = await unbuilt('doctor');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toMatch(/^ {2}✗ native addon +not there \(ERR_SPILLWAY_ADDON\)/m);
    expect(stdout).toContain('npm run setup');
    const report: DoctorReport = JSON.parse((await unbuilt('doctor', '--json')).stdout);
    expect(report).toMatchObject({ works: false, selector: null });
    expect(report.selectors.map(({ code: why }) => why)).toEqual(new Array(3).fill('ERR_SPILLWAY_ADDON'));
  });

  test('the demo ends with 1, the reason, the hint and the code, but no stack trace', async () => {
    const { code, stdout, stderr } = await unbuilt('demo');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^spillway: .*\n.*npm run setup.*\nERR_SPILLWAY_ADDON\n$/);
  });
});

test.each([
  ['--version', ['--version'], 0, /^\d+\.\d+\.\d+\n$/, /^$/],
  ['--help', ['--help'], 0, /Usage: spillway.*demo.*doctor/s, /^$/],
  ['no command', [], 2, /^$/, /Usage: spillway/],
  ['an unknown command', ['serve'], 2, /^$/, /^error: unknown command 'serve'/],
  ['an unknown option', ['doctor', '--cure'], 2, /^$/, /^error: unknown option '--cure'/],
  ['an argument too many', ['doctor', 'who'], 2, /^$/, /^error: too many arguments/],
])('%s', async (_, args, expected, out, err) => {
  const { code, stdout, stderr } = await runSpillway(...args);
  expect(code).toBe(expected);
  expect(stdout).toMatch(out);
  expect(stderr).toMatch(err);
});
