/** What the facts about a machine mean for Spillway, and what to do about them. Pure: the machine may be made up. */
import { CAPABILITIES, EBPF_KERNEL, KERNEL_BTF, kernelAtLeast } from '../../group/capability.js';
import { OPTIONS, type SelectorName } from '../../group/options.js';
import type { Limit, Machine, ParameterName, Trial } from '../../group/probe.js';
import { type Grant, grantsFor, missingForEbpf } from './grant.js';

/**
 * `ok`: as it should be; `note`: worth knowing, nothing to do; `warning`: something is lost, the advice says what;
 * `failed`: Spillway cannot work like this.
 */
export type CheckState = 'ok' | 'note' | 'warning' | 'failed';

export interface Check {
  about: 'machine' | 'limits';
  name: string;
  state: CheckState;
  value: string;
  /** What it means and what to do; null where the value says everything. */
  advice: string | null;
}

/** What `spillway doctor --json` prints. */
export interface DoctorReport {
  /** Version of Spillway. */
  spillway: string;
  /** Whether some selector works; the exit code is 0 then, otherwise 1. */
  works: boolean;
  /** The selector that `selector: 'auto'` takes; null when none works. */
  selector: SelectorName | null;
  /** The facts as they were read. */
  machine: Machine;
  /** Every selector, best first, really tried with a connection over loopback. */
  selectors: Trial[];
  /** The facts judged. */
  checks: Check[];
  /** Ways to grant the capabilities that `ebpf` is missing, the most fitting first; empty when none is missing. */
  grants: Grant[];
}

/** @param command how this program was called, for lines that call it again: Node's path, the script's path. */
export function judge(
  spillway: string,
  machine: Machine,
  selectors: readonly Trial[],
  command: readonly string[],
): DoctorReport {
  const best = selectors.find(({ works }) => works);
  return {
    spillway,
    works: best !== undefined,
    selector: best?.selector ?? null,
    machine,
    selectors: [...selectors],
    checks: [...aboutMachine(machine), ...aboutLimits(machine)],
    grants: grantsFor(machine, command),
  };
}

function aboutMachine(machine: Machine): Check[] {
  const check = (name: string, state: CheckState, value: string, advice: string | null = null): Check => ({
    about: 'machine',
    name,
    state,
    value,
    advice,
  });
  const { kernel, btf, addon, queueReading, parameters } = machine;
  const unprivileged = parameters['kernel.unprivileged_bpf_disabled'];
  return [
    addon.loaded
      ? check('native addon', 'ok', 'loaded')
      : check(
          'native addon',
          'failed',
          'not there (ERR_SPILLWAY_ADDON)',
          `${addon.problem}. Build it: \`npm run setup\` in a checkout, \`npm rebuild spillway\` where it is installed.`,
        ),
    kernelAtLeast(EBPF_KERNEL, kernel)
      ? check('kernel', 'ok', kernel)
      : check(
          'kernel',
          'warning',
          kernel,
          `The selector 'ebpf' needs Linux ${EBPF_KERNEL.join('.')} or newer.`,
        ),
    btf
      ? check('kernel types (BTF)', 'ok', KERNEL_BTF)
      : check(
          'kernel types (BTF)',
          'warning',
          'missing',
          `The selector 'ebpf' needs ${KERNEL_BTF}: a kernel built with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted in the container.`,
        ),
    ...(queueReading === 'cast' ? [check('queues read by', 'ok', 'bpf_rdonly_cast')] : []),
    ...(queueReading === 'probe'
      ? [
          check(
            'queues read by',
            'note',
            'the fallback',
            'Linux before 6.2 has no bpf_rdonly_cast; reading the queues costs some nanoseconds more.',
          ),
        ]
      : []),
    capabilities(machine, check),
    ...(unprivileged === 0
      ? [
          check(
            'unprivileged BPF',
            'note',
            'allowed to everybody',
            'Spillway does not need that: `sysctl -w kernel.unprivileged_bpf_disabled=2` closes it for users without CAP_BPF.',
          ),
        ]
      : []),
    ...(machine.noNewPrivileges
      ? [
          check(
            'no new privileges',
            'note',
            'in force',
            'Neither setcap nor sudo has an effect on programs started here.',
          ),
        ]
      : []),
  ];
}

function capabilities(
  machine: Machine,
  check: (name: string, state: CheckState, value: string, advice?: string) => Check,
): Check {
  const { effective } = machine.capabilities;
  const names = (Object.keys(CAPABILITIES) as (keyof typeof CAPABILITIES)[]).filter((name) =>
    effective.includes(name),
  );
  const value = names.length > 0 ? names.reverse().join(' ') : 'none';
  const missing = missingForEbpf(machine);
  if (missing.length === 0) return check('capabilities', 'ok', value);
  return check('capabilities', 'warning', value, `'ebpf' is missing ${missing.join(' and ')}`);
}

function aboutLimits(machine: Machine): Check[] {
  const judged = Object.entries(PARAMETER_RULES).flatMap(([name, rule]) => {
    const value = machine.parameters[name as ParameterName];
    if (value === null) return [];
    const [state, advice] = rule(value, machine);
    return [{ about: 'limits' as const, name, state, value: String(value), advice }];
  });
  return [...judged, openFiles(machine.limits.openFiles)];
}

type Verdict = [state: CheckState, advice: string | null];
type Rule = (value: number, machine: Machine) => Verdict;
const ok: Verdict = ['ok', null];

const BACKLOG = OPTIONS.backlog.default as number;

/** Sources: Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl/net.rst. */
const PARAMETER_RULES: Partial<Record<ParameterName, Rule>> = {
  'net.core.somaxconn': (value) =>
    value >= BACKLOG
      ? ok
      : [
          'warning',
          `The kernel caps every accept queue at it; the default backlog is ${BACKLOG}. Raise it: \`sysctl -w net.core.somaxconn=4096\`.`,
        ],
  'net.ipv4.tcp_max_syn_backlog': (value, { parameters }) =>
    // With SYN cookies on, the kernel does not look at it (net/ipv4/tcp_input.c, tcp_conn_request).
    parameters['net.ipv4.tcp_syncookies'] !== 0 || value >= BACKLOG
      ? ok
      : [
          'warning',
          `Without SYN cookies, new clients are dropped when three quarters of it are half-open. Raise it: \`sysctl -w net.ipv4.tcp_max_syn_backlog=4096\`.`,
        ],
  'net.ipv4.tcp_syncookies': (value) => {
    if (value === 0) {
      return [
        'warning',
        'Without SYN cookies a flood of SYNs shuts everybody out. Turn them on: `sysctl -w net.ipv4.tcp_syncookies=1`.',
      ];
    }
    if (value === 1) return ok;
    return [
      'warning',
      'Always sending SYN cookies is for tests: every connection is decided about twice, and half-open ones are not seen. `sysctl -w net.ipv4.tcp_syncookies=1`.',
    ];
  },
  'net.ipv4.tcp_abort_on_overflow': (value) =>
    value === 0
      ? ok
      : [
          'warning',
          'A client whose handshake ends at a full queue is reset, though it believed to be connected. Turn it off: `sysctl -w net.ipv4.tcp_abort_on_overflow=0`.',
        ],
  'net.ipv4.tcp_migrate_req': (value) =>
    value === 0
      ? ok
      : [
          'note',
          "Below the selector 'ebpf' the kernel itself moves the queue of a leaving socket, to any of its siblings.",
        ],
  'net.ipv4.tcp_fastopen': (value) =>
    (value & 2) !== 0 ? ok : ['note', 'clients only; the option `fastOpen` needs 3'],
  'net.ipv4.ip_unprivileged_port_start': (value, { capabilities }) =>
    value === 0 || capabilities.effective.includes('CAP_NET_BIND_SERVICE')
      ? ok
      : ['note', `lower ports need CAP_NET_BIND_SERVICE`],
};

/** Below it a moderately busy worker runs out: every connection takes a descriptor. */
const FEW_FILES = 4096;

/** The hard limit counts: Node raises the soft one to it when it starts (src/node.cc, `PlatformInit`). */
function openFiles({ soft, hard }: Limit): Check {
  const show = (limit: number | null) => (limit === null ? 'unlimited' : String(limit));
  const few = hard !== null && hard < FEW_FILES;
  return {
    about: 'limits',
    name: 'open files (soft, hard)',
    state: few ? 'warning' : 'ok',
    value: `${show(soft)}, ${show(hard)}`,
    advice: few
      ? 'Every connection takes one. Raise it: `ulimit -Hn 65536` as root, LimitNOFILE=65536 in a systemd unit, `docker run --ulimit nofile=65536`.'
      : null,
  };
}
