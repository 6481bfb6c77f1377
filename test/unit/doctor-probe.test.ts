/** The doctor's facts, read from made-up files. */
import { expect, test } from 'vitest';
import { containerKind, type Files, readLimits, readMachine, serviceUnit } from '../../lib/group/probe.js';

function files(content: Record<string, string>): Files {
  return { text: (path) => content[path], exists: (path) => path in content };
}

test.each([
  ['a plain machine', { '/proc/1/cgroup': '0::/init.scope\n' }, null],
  ['Docker', { '/.dockerenv': '' }, 'docker'],
  ['Podman', { '/run/.containerenv': 'engine="podman"' }, 'podman'],
  ['a container of systemd', { '/run/systemd/container': 'systemd-nspawn\n' }, 'systemd-nspawn'],
  [
    'Docker with cgroups v1',
    { '/proc/1/cgroup': '2:cpu:/docker/0123\n1:name=systemd:/docker/0123\n' },
    'docker',
  ],
  ['LXC', { '/proc/1/cgroup': '0::/lxc.payload/web\n' }, 'lxc'],
  [
    'Kubernetes, on Docker',
    { '/.dockerenv': '', '/var/run/secrets/kubernetes.io/serviceaccount': '' },
    'kubernetes',
  ],
  ['Kubernetes by its cgroups', { '/proc/1/cgroup': '0::/kubepods/burstable/pod1\n' }, 'kubernetes'],
])('%s is recognised', (_, content, kind) => {
  expect(containerKind(files(content as Record<string, string>))).toBe(kind);
});

test.each([
  ['a service', '0::/system.slice/shop.service\n', 'shop.service'],
  ['an instance of one', '0::/system.slice/system-web.slice/web@1.service\n', 'web@1.service'],
  ['a session', '0::/user.slice/user-1000.slice/session-2.scope\n', null],
  ['a terminal of a desktop', '0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n', null],
  [
    "a user's own service",
    '0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n',
    'shop.service',
  ],
])('the unit of %s', (_, cgroup, unit) => {
  expect(serviceUnit(cgroup)).toBe(unit);
});

test('limits are read from the table of proc(5), unlimited as null', () => {
  const text = [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    'Max open files            1024                 524288               files     ',
    'Max locked memory         8388608              unlimited            bytes     ',
  ].join('\n');
  expect(readLimits(text)).toEqual({
    openFiles: { soft: 1024, hard: 524_288 },
    lockedMemory: { soft: 8_388_608, hard: null },
  });
});

test('capabilities, no_new_privs and seccomp come from the status of the thread', () => {
  const status = (caps: string, bounding: string, flag: number) =>
    [`CapEff:\t${caps}`, `CapBnd:\t${bounding}`, `NoNewPrivs:\t${flag}`, `Seccomp:\t${flag * 2}`, ''].join(
      '\n',
    );
  const machineWith = (text: string) => readMachine(files({ '/proc/thread-self/status': text }));
  expect(machineWith(status('000000c000000000', '000000c000001000', 1))).toMatchObject({
    capabilities: {
      effective: ['CAP_PERFMON', 'CAP_BPF'],
      obtainable: ['CAP_NET_ADMIN', 'CAP_PERFMON', 'CAP_BPF'],
    },
    noNewPrivileges: true,
    seccomp: true,
  });
  expect(machineWith(status('0000000000000000', '0000000000000000', 0))).toMatchObject({
    capabilities: { effective: [], obtainable: [] },
    noNewPrivileges: false,
    seccomp: false,
  });
});

test('what cannot be read is unknown, and nothing fails over it', () => {
  const machine = readMachine(files({}));
  expect(Object.values(machine.parameters)).toEqual(new Array(8).fill(null));
  expect(machine).toMatchObject({ btf: false, container: null, systemd: { running: false, unit: null } });
});
