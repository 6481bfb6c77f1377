/** The doctor's judgement of made-up machines: what it warns of, and which way to more privileges it advises. */

import pc from 'picocolors';
import { describe, expect, test } from 'vitest';
import { grantsFor } from '../../lib/cli/doctor/grant.js';
import { type Check, judge } from '../../lib/cli/doctor/judge.js';
import { printReport } from '../../lib/cli/doctor/print.js';
import type { SelectorName } from '../../lib/group/options.js';
import type { Machine, ParameterName, Trial } from '../../lib/group/probe.js';

/** A machine on which nothing is missing. */
const good: Machine = {
  platform: 'linux',
  kernel: '6.1.0-13-amd64',
  architecture: 'x64',
  node: { version: '20.19.0', path: '/usr/bin/node' },
  user: { uid: 1000, gid: 100 },
  btf: true,
  addon: { loaded: true, problem: null },
  queueReading: 'cast',
  capabilities: { effective: ['CAP_BPF', 'CAP_PERFMON'], obtainable: ['CAP_BPF', 'CAP_PERFMON'] },
  noNewPrivileges: false,
  seccomp: false,
  parameters: {
    'net.core.somaxconn': 4096,
    'net.ipv4.tcp_max_syn_backlog': 4096,
    'net.ipv4.tcp_syncookies': 1,
    'net.ipv4.tcp_abort_on_overflow': 0,
    'net.ipv4.tcp_migrate_req': 0,
    'net.ipv4.tcp_fastopen': 3,
    'net.ipv4.ip_unprivileged_port_start': 0,
    'kernel.unprivileged_bpf_disabled': 2,
  },
  limits: { openFiles: { soft: 1024, hard: 524_288 }, lockedMemory: { soft: 8192, hard: null } },
  container: null,
  systemd: { running: true, unit: null },
};
const poor: Machine = { ...good, capabilities: { ...good.capabilities, effective: [] } };

const command = ['/usr/bin/node', '/app/main.js'];
const trials = (...working: SelectorName[]): Trial[] =>
  (['ebpf', 'cbpf', 'none'] as const).map((selector) => {
    const works = working.includes(selector);
    return works
      ? { selector, works, why: null, detail: null, code: null, hint: null }
      : { selector, works, why: 'it is late', detail: null, code: 'ERR_X', hint: 'Try tomorrow.' };
  });
const reportOn = (machine: Machine, ...working: SelectorName[]) =>
  judge('1.2.3', machine, trials(...working), command);
const checksOf = (machine: Machine) => reportOn(machine, 'none').checks;
const remarkable = (machine: Machine) => checksOf(machine).filter(({ state }) => state !== 'ok');

function withParameter(
  name: ParameterName,
  value: number | null,
  more: Partial<Machine['parameters']> = {},
): Machine {
  return { ...good, parameters: { ...good.parameters, ...more, [name]: value } };
}

test('on a machine where nothing is missing every check is ok', () => {
  expect(remarkable(good)).toEqual([]);
  expect(reportOn(good, 'ebpf', 'cbpf', 'none')).toMatchObject({ works: true, selector: 'ebpf', grants: [] });
});

describe('kernel parameters', () => {
  const CASES: [what: string, machine: Machine, state: Check['state'], advice: string][] = [
    [
      'somaxconn below the default backlog caps the queues',
      withParameter('net.core.somaxconn', 510),
      'warning',
      'sysctl -w net.core.somaxconn=',
    ],
    [
      'without SYN cookies a flood shuts everybody out',
      withParameter('net.ipv4.tcp_syncookies', 0),
      'warning',
      'sysctl -w net.ipv4.tcp_syncookies=1',
    ],
    [
      'SYN cookies for everybody',
      withParameter('net.ipv4.tcp_syncookies', 2),
      'warning',
      'decided about twice',
    ],
    [
      'tcp_abort_on_overflow resets clients',
      withParameter('net.ipv4.tcp_abort_on_overflow', 1),
      'warning',
      'sysctl -w net.ipv4.tcp_abort_on_overflow=0',
    ],
    ['tcp_migrate_req', withParameter('net.ipv4.tcp_migrate_req', 1), 'note', 'moves the queue'],
    ['no fast open for servers', withParameter('net.ipv4.tcp_fastopen', 1), 'note', 'needs 3'],
    [
      'privileged ports',
      withParameter('net.ipv4.ip_unprivileged_port_start', 1024),
      'note',
      'CAP_NET_BIND_SERVICE',
    ],
    [
      'BPF for everybody',
      withParameter('kernel.unprivileged_bpf_disabled', 0),
      'note',
      'sysctl -w kernel.unprivileged_bpf_disabled=2',
    ],
  ];
  test.each(CASES)('%s', (_, machine, state, advice) => {
    expect(remarkable(machine)).toEqual([
      expect.objectContaining({ state, advice: expect.stringContaining(advice) }),
    ]);
  });

  test('the default backlog is just let through', () => {
    expect(remarkable(withParameter('net.core.somaxconn', 511))).toEqual([]);
  });

  test('tcp_max_syn_backlog matters only without SYN cookies', () => {
    const name = 'net.ipv4.tcp_max_syn_backlog';
    expect(remarkable(withParameter(name, 128))).toEqual([]);
    const names = remarkable(withParameter(name, 128, { 'net.ipv4.tcp_syncookies': 0 })).map(
      (check) => check.name,
    );
    expect(names).toContain(name);
  });

  test('who may bind them anyway is not told about privileged ports', () => {
    const machine = withParameter('net.ipv4.ip_unprivileged_port_start', 1024);
    machine.capabilities = {
      ...machine.capabilities,
      effective: [...machine.capabilities.effective, 'CAP_NET_BIND_SERVICE'],
    };
    expect(remarkable(machine)).toEqual([]);
  });

  test('a parameter the kernel does not have is left out', () => {
    const name = 'net.ipv4.tcp_migrate_req';
    expect(checksOf(withParameter(name, null)).map((check) => check.name)).not.toContain(name);
  });
});

describe('the machine', () => {
  const CASES: [
    what: string,
    machine: Partial<Machine>,
    name: string,
    state: Check['state'],
    advice: string,
  ][] = [
    ['an old kernel', { kernel: '5.16.20' }, 'kernel', 'warning', '5.17'],
    ['a kernel without types', { btf: false }, 'kernel types (BTF)', 'warning', 'CONFIG_DEBUG_INFO_BTF'],
    ['a kernel without bpf_rdonly_cast', { queueReading: 'probe' }, 'queues read by', 'note', '6.2'],
    ['no_new_privs', { noNewPrivileges: true }, 'no new privileges', 'note', 'setcap'],
    [
      'no capabilities',
      { capabilities: { effective: [], obtainable: [] } },
      'capabilities',
      'warning',
      'CAP_BPF and CAP_PERFMON',
    ],
    [
      'half of the capabilities',
      { capabilities: { effective: ['CAP_BPF'], obtainable: [] } },
      'capabilities',
      'warning',
      'missing CAP_PERFMON',
    ],
    [
      'an addon that is not built',
      { addon: { loaded: false, problem: 'the native addon could not be loaded from /x' } },
      'native addon',
      'failed',
      'could not be loaded from /x. Build it: `npm run setup`',
    ],
    [
      'few open files',
      { limits: { ...good.limits, openFiles: { soft: 1024, hard: 1024 } } },
      'open files (soft, hard)',
      'warning',
      'LimitNOFILE=',
    ],
  ];
  test.each(CASES)('%s is told', (_, difference, name, state, advice) => {
    expect(remarkable({ ...good, ...difference })).toEqual([
      expect.objectContaining({ name, state, advice: expect.stringContaining(advice) }),
    ]);
  });

  test('CAP_SYS_ADMIN stands in for both capabilities', () => {
    const machine = { ...good, capabilities: { effective: ['CAP_SYS_ADMIN' as const], obtainable: [] } };
    expect(remarkable(machine)).toEqual([]);
    expect(grantsFor(machine, command)).toEqual([]);
  });

  test('a low soft limit of open files is none: Node raises it to the hard one; unlimited is not few', () => {
    const limits = { ...good.limits, openFiles: { soft: 1024, hard: null } };
    expect(remarkable({ ...good, limits })).toEqual([]);
  });
});

describe('how to grant what is missing', () => {
  const ways = (difference: Partial<Machine>) =>
    grantsFor({ ...poor, ...difference }, command).map(({ way }) => way);

  test.each([
    [
      'on a plain machine: everything, containers last',
      {},
      ['systemd', 'once', 'setcap-copy', 'setcap', 'docker', 'kubernetes'],
    ],
    [
      'in a container: the container first, and no unit file',
      { container: 'docker', systemd: { running: false, unit: null } },
      ['docker', 'kubernetes', 'once', 'setcap-copy', 'setcap'],
    ],
    [
      'outside the bounding set: not by hand',
      { capabilities: { effective: [], obtainable: ['CAP_BPF' as const] } },
      ['systemd', 'docker', 'kubernetes'],
    ],
    ['under no_new_privs: not by hand', { noNewPrivileges: true }, ['systemd', 'docker', 'kubernetes']],
    ['with a kernel that is too old: not at all', { kernel: '5.10.0' }, []],
    ['without kernel types: not at all', { btf: false }, []],
  ])('%s', (_, difference, expected) => {
    expect(ways(difference)).toEqual(expected);
  });

  test('the lines are exact', () => {
    const lines = Object.fromEntries(grantsFor(poor, command).map((grant) => [grant.way, grant.lines]));
    expect(lines).toMatchObject({
      once: [
        'sudo setpriv --reuid=1000 --regid=100 --clear-groups \\',
        '  --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon \\',
        '  /usr/bin/node /app/main.js demo',
      ],
      systemd: [
        '[Service]',
        'AmbientCapabilities=CAP_BPF CAP_PERFMON',
        'CapabilityBoundingSet=CAP_BPF CAP_PERFMON',
      ],
      setcap: [
        'sudo setcap cap_bpf,cap_perfmon=ep /usr/bin/node',
        'sudo setcap -r /usr/bin/node   # takes them away again',
      ],
      docker: ['docker run --cap-add BPF --cap-add PERFMON …'],
      kubernetes: ['securityContext:', '  capabilities:', '    add: [BPF, PERFMON]'],
    });
  });

  test('setcap on the Node binary is said to be for every program', () => {
    const setcap = grantsFor(poor, command).find(({ way }) => way === 'setcap');
    expect(setcap?.title).toContain('every program that anybody runs');
  });

  test('a unit that the process belongs to is named', () => {
    const grants = grantsFor({ ...poor, systemd: { running: true, unit: 'shop.service' } }, command);
    expect(grants[0]?.title).toContain('systemctl edit shop.service');
  });

  test('in a container, a user other than root needs them in the image as well; root does not', () => {
    const linesFor = (uid: number) =>
      grantsFor({ ...poor, container: 'docker', user: { uid, gid: uid } }, command)[0]?.lines.join('\n');
    expect(linesFor(1000)).toContain('RUN setcap cap_bpf,cap_perfmon=ep /usr/bin/node');
    expect(linesFor(0)).not.toContain('setcap');
  });
});

describe('the text', () => {
  const plain = pc.createColors(false);

  test('marks the selectors: what auto takes, what a better one would need, what fails', () => {
    const text = printReport(reportOn(good, 'cbpf', 'none'), 80, plain);
    expect(text).toContain('  ! ebpf  does not work: it is late\n          Try tomorrow.\n');
    expect(text).toMatch(/ {2}✓ cbpf {2}works: .*\(taken by 'auto'\)\n/);
    expect(text).toMatch(/ {2}✓ none {2}works: .*[^)]\n/);
    expect(printReport(reportOn(good), 80, plain)).toMatch(/ {2}✗ none {2}does not work: it is late\n/);
  });

  test('puts the values below each other, and breaks nothing but sentences at the width', () => {
    const machine = { ...poor, limits: { ...good.limits, openFiles: { soft: 1, hard: 1 } } };
    const report = reportOn(machine, 'cbpf', 'none');
    const text = printReport(report, 60, plain);
    const columns = report.checks
      .filter(({ about }) => about === 'limits')
      .map(({ name, value }) =>
        text
          .split('\n')
          .find((line) => line.includes(` ${name} `))
          ?.indexOf(`  ${value}`),
      );
    expect(new Set(columns.map((column) => column! > 0)).has(false)).toBe(false);
    const commands = new Set(report.grants.flatMap(({ lines }) => lines.map((line) => `    ${line}`)));
    const long = text.split('\n').filter((line) => line.length > 60 && !commands.has(line));
    expect(long).toEqual([]);
  });

  test('has colours only when asked for', () => {
    const report = reportOn(good, 'ebpf');
    expect(printReport(report, 80, plain)).not.toContain('\u001b');
    expect(printReport(report, 80, pc.createColors(true))).toContain('\u001b[32m✓');
  });
});
