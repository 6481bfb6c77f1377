/** The launcher by itself: how it fails, and what the program it becomes is left with. */
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, copyFileSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EBPF_NEEDS, effectiveCapabilities, missingCapabilities } from '../../lib/group/capability.js';
import { packageRoot } from '../../lib/native.js';
import { program } from '../support/serving.js';

const LAUNCHER = join(packageRoot, 'build/Release/spillway-launch');

function launch(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  // Descriptor 3 is the report's; 4 and 5 are there to be passed on, or not.
  const nothing = openSync('/dev/null', 'r');
  const { status, output } = spawnSync(LAUNCHER, args, {
    // Folders that everybody may search: in one that is closed to us a program may be, or not.
    env: { PATH: '/usr/bin:/bin', ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', nothing, nothing],
  });
  closeSync(nothing);
  const [, stdout, stderr, report] = output;
  return { status, stdout, stderr, report };
}

describe('a launch that fails', () => {
  const CASES = [
    {
      what: 'a program that is not there',
      args: ['--', 'no-such-program'],
      status: 127,
      says: "'no-such-program': No such",
    },
    {
      what: 'a file that is no program',
      args: ['--', program('listen-fds.py')],
      status: 126,
      says: 'Permission denied',
    },
    { what: 'no program', args: [], status: 125, says: 'no program is given' },
    { what: 'an unknown option', args: ['--uiid', '3', '--', 'true'], status: 125, says: 'unknown option' },
    { what: 'an option without its value', args: ['--uid'], status: 125, says: 'missing value' },
    { what: 'a user by name', args: ['--uid', 'daemon', '--', 'true'], status: 125, says: "not 'daemon'" },
    { what: 'a negative user', args: ['--uid=-1', '--', 'true'], status: 125, says: "not '-1'" },
    {
      what: 'a parent that has gone',
      args: [`--die-with-parent=${process.ppid}`, '--', 'true'],
      status: 125,
      says: `process ${process.ppid}, has gone`,
    },
  ];

  for (const { what, args, status, says } of CASES) {
    test(`${what}: exit code ${status}, and the reason on stderr and in the report`, () => {
      const end = launch(['--report-fd=3', ...args]);
      expect(end).toMatchObject({ status, stdout: '' });
      expect(end.stderr).toMatch(/^spillway-launch: .*\n$/);
      expect(end.stderr).toContain(says);
      // What cannot be read as options may come before the report is known.
      if (args.includes('--')) expect(`spillway-launch: ${end.report}\n`).toBe(end.stderr);
    });
  }
});

describe('the program', () => {
  test('keeps its arguments, and its exit code is passed on', () => {
    const end = launch(['--', 'sh', '-c', 'printf "%s|" "$@"; exit 7', 'sh', '--uid', '', 'a b']);
    expect(end).toMatchObject({ status: 7, stdout: '--uid||a b|', stderr: '' });
  });

  test('finds LISTEN_PID to be its own where descriptors are passed, and not otherwise', () => {
    const show = ['--', 'sh', '-c', 'echo $$ $LISTEN_PID'];
    expect(launch(show, { LISTEN_FDS: '1', LISTEN_PID: '1' }).stdout).toMatch(/^(\d+) \1\n$/);
    expect(launch(show).stdout).toMatch(/^\d+ ?\n$/);
  });

  /** Prints process id and process group (proc_pid_stat(5)). */
  const showGroup = [
    '--',
    'sh',
    '-c',
    'read -r pid name state parent group rest </proc/$$/stat; echo $pid $group',
  ];

  test('is in the process group of who starts it, or with --own-group leads one', () => {
    const [pid, group] = launch(showGroup).stdout!.trim().split(' ');
    expect(group).not.toBe(pid);
    expect(launch(['--own-group', ...showGroup]).stdout).toMatch(/^(\d+) \1\n$/);
  });

  test('goes on leading its process group where it leads a session, whose leader cannot leave it', () => {
    const end = spawnSync('setsid', ['--wait', LAUNCHER, '--own-group', ...showGroup], { encoding: 'utf8' });
    expect(end).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/^(\d+) \1\n$/) });
  });

  test('is left with the descriptors that were meant for it', () => {
    const show = ['--', 'sh', '-c', 'for fd in 0 1 2 3 4 5 6; do [ -e /proc/$$/fd/$fd ] && printf $fd; done'];
    expect(launch(show).stdout).toBe('012345');
    expect(launch(['--report-fd=3', ...show]).stdout).toBe('01245');
    expect(launch(['--report-fd=3', '--close-from=5', ...show]).stdout).toBe('0124');
  });
});

describe('a program with file capabilities', () => {
  /** `cap_bpf,cap_perfmon=ep` as the kernel keeps it: struct vfs_cap_data, revision 2, in linux/capability.h. */
  const GRANT = `
import os, struct, sys
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, 0, 0, 1 << 38 - 32 | 1 << 39 - 32, 0))
`;
  const CAP_SETFCAP = 31n;
  const able =
    process.getuid?.() === 0 &&
    ((effectiveCapabilities() >> CAP_SETFCAP) & 1n) === 1n &&
    missingCapabilities(EBPF_NEEDS).length === 0;

  for (const { who, as } of [
    { who: 'user 0', as: [] },
    { who: 'another user', as: ['--uid=65534', '--gid=65534'] },
  ]) {
    test.skipIf(!able)(`runs as ${who}, and without them`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'spillway-'));
      try {
        const cat = join(folder, 'cat');
        copyFileSync('/bin/cat', cat);
        chmodSync(folder, 0o755);
        expect(spawnSync('python3', ['-c', GRANT, cat], { stdio: 'inherit' }).status).toBe(0);
        const { status, stdout, stderr } = launch([...as, '--', cat, '/proc/self/status']);
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
        const sets = [...stdout!.matchAll(/^Cap(?:Inh|Prm|Eff|Amb):\t(.*)$/gm)].map(([, set]) => set);
        expect(sets).toEqual(Array(4).fill('0000000000000000'));
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
