/** What a machine gives to a socket group: facts read from it, without judgement, and every selector really tried. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { connect } from 'node:net';
import { arch, release } from 'node:os';
import { SpillwayError, systemError } from '../errors.js';
import { native } from '../native.js';
import { CAPABILITIES, type CapabilityName, hasCapability, KERNEL_BTF } from './capability.js';
import { SocketGroup } from './group.js';
import { SELECTORS, type SelectorName } from './options.js';
import { whyNotEbpf } from './why.js';

/** Kernel parameters that decide about accept queues and handshakes; see ip-sysctl.rst and sysctl/net.rst. */
export const PARAMETERS = [
  'net.core.somaxconn',
  'net.ipv4.tcp_max_syn_backlog',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.tcp_abort_on_overflow',
  'net.ipv4.tcp_migrate_req',
  'net.ipv4.tcp_fastopen',
  'net.ipv4.ip_unprivileged_port_start',
  'kernel.unprivileged_bpf_disabled',
] as const;

export type ParameterName = (typeof PARAMETERS)[number];

/** A limit of getrlimit(2); null is "unlimited". */
export interface Limit {
  soft: number | null;
  hard: number | null;
}

/** The facts. Nothing here depends on what Spillway makes of them. */
export interface Machine {
  platform: string;
  /** As `uname -r` has it. */
  kernel: string;
  /** As Node names it: x64, arm64, … */
  architecture: string;
  node: {
    version: string;
    /** The binary itself, symbolic links resolved. */
    path: string;
  };
  user: { uid: number; gid: number };
  /** Whether the kernel tells its types (/sys/kernel/btf/vmlinux). */
  btf: boolean;
  /** The native addon: loaded, or why not. */
  addon: { loaded: boolean; problem: string | null };
  /** How the kernel program would read a queue: `cast` by bpf_rdonly_cast, `probe` by the fallback; null: not known. */
  queueReading: 'cast' | 'probe' | null;
  /** Names of capabilities(7), of those that matter here. */
  capabilities: {
    effective: CapabilityName[];
    /** What a program started from here could get at all, be it by setcap or sudo (the bounding set). */
    obtainable: CapabilityName[];
  };
  /** Whether PR_SET_NO_NEW_PRIVS is in force: setcap and sudo then have no effect. */
  noNewPrivileges: boolean;
  /** Whether a seccomp filter is in force, which may refuse bpf(2). */
  seccomp: boolean;
  /** null where the kernel does not have the parameter. */
  parameters: Record<ParameterName, number | null>;
  limits: { openFiles: Limit; lockedMemory: Limit };
  /** The container's kind (`docker`, `podman`, `kubernetes`, `systemd-nspawn`, …, or `unknown`); null outside of any. */
  container: string | null;
  /** Whether systemd runs the machine, and the service unit this process belongs to, if any. */
  systemd: { running: boolean; unit: string | null };
}

/** One selector, tried out on this machine. */
export interface Trial {
  selector: SelectorName;
  works: boolean;
  /** Why it does not work, in a sentence; null when it does. */
  why: string | null;
  /** What the kernel or libbpf had to say about it besides, in lines; null when nothing. */
  detail: string | null;
  /** The code of the error, as in docs/errors.md; null when it works. */
  code: string | null;
  /** What to do; null when it works. */
  hint: string | null;
}

/** Where facts are read from: the machine's files, or made-up ones in a test. */
export interface Files {
  /** Undefined if the file cannot be read. */
  text(path: string): string | undefined;
  exists(path: string): boolean;
}

const machineFiles: Files = {
  text(path) {
    try {
      return readFileSync(path, 'latin1');
    } catch {
      return undefined;
    }
  },
  exists: existsSync,
};

/** Collects the facts about this process and the machine under it. Needs no privilege and changes nothing. */
export function readMachine(files: Files = machineFiles): Machine {
  const status = files.text('/proc/thread-self/status') ?? '';
  const addon = loadAddon();
  return {
    platform: process.platform,
    kernel: release(),
    architecture: arch(),
    node: { version: process.versions.node, path: realpathSync(process.execPath) },
    user: { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 },
    btf: files.exists(KERNEL_BTF),
    addon,
    queueReading: addon.loaded ? queueReading() : null,
    capabilities: {
      effective: capabilitiesIn(status, 'CapEff'),
      obtainable: capabilitiesIn(status, 'CapBnd'),
    },
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
    seccomp: /^Seccomp:\s*[12]$/m.test(status),
    parameters: Object.fromEntries(
      PARAMETERS.map((name) => [name, numberIn(files.text(`/proc/sys/${name.replaceAll('.', '/')}`))]),
    ) as Record<ParameterName, number | null>,
    limits: readLimits(files.text('/proc/thread-self/limits') ?? ''),
    container: containerKind(files),
    systemd: {
      running: files.text('/proc/1/comm')?.trim() === 'systemd',
      unit: serviceUnit(files.text('/proc/thread-self/cgroup') ?? ''),
    },
  };
}

/** The names in one of the sets of proc(5) status. */
function capabilitiesIn(status: string, set: 'CapEff' | 'CapBnd'): CapabilityName[] {
  const [, bits = '0'] = new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status) ?? [];
  const mask = BigInt(`0x${bits}`);
  return (Object.keys(CAPABILITIES) as CapabilityName[]).filter((name) => hasCapability(name, mask));
}

function numberIn(text: string | undefined): number | null {
  const number = Number.parseInt(text ?? '', 10);
  return Number.isNaN(number) ? null : number;
}

/** The rows of proc(5) limits that matter. Node raises the soft limit of open files to the hard one when it starts. */
export function readLimits(text: string): Machine['limits'] {
  const row = (title: string): Limit => {
    const [, soft, hard] = new RegExp(`^${title}\\s+(\\S+)\\s+(\\S+)`, 'm').exec(text) ?? [];
    return { soft: numberIn(soft), hard: numberIn(hard) };
  };
  return { openFiles: row('Max open files'), lockedMemory: row('Max locked memory') };
}

/**
 * The kind of container by the marks its manager leaves (systemd's container interface, the files of Docker and
 * Podman, the service account of Kubernetes).
 */
export function containerKind({ text, exists }: Files): string | null {
  if (exists('/var/run/secrets/kubernetes.io/serviceaccount')) return 'kubernetes';
  const named = text('/run/systemd/container')?.trim();
  if (named) return named;
  if (exists('/.dockerenv')) return 'docker';
  if (exists('/run/.containerenv')) return 'podman';
  const [, kind] = /(?:^|\/)(docker|libpod|kubepods|lxc)[/.-]/m.exec(text('/proc/1/cgroup') ?? '') ?? [];
  if (kind === undefined) return null;
  return { libpod: 'podman', kubepods: 'kubernetes' }[kind] ?? kind;
}

/** The innermost .service in the control-group path, except for the one that only holds a user's session. */
export function serviceUnit(cgroup: string): string | null {
  const units = [...cgroup.matchAll(/\/([^/\n]+\.service)(?=\/|$)/gm)].map(([, unit]) => unit as string);
  const unit = units.filter((name) => !name.startsWith('user@')).at(-1);
  return unit ?? null;
}

function loadAddon(): Machine['addon'] {
  try {
    native();
    return { loaded: true, problem: null };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return { loaded: false, problem: error.message };
  }
}

function queueReading(): Machine['queueReading'] {
  try {
    return native().kernelHasCast() ? 'cast' : 'probe';
  } catch {
    // Without BTF there is nothing to look it up in.
    return null;
  }
}

/** Milliseconds for a connection over loopback, which takes none where nothing is in its way. */
const CONNECT_LIMIT = 3000;

/** Tries every selector on a throw-away group on loopback. Leaves nothing behind. */
export async function trySelectors(): Promise<Trial[]> {
  const trials: Trial[] = [];
  // In turn: two groups at once could fail of each other.
  for (const selector of SELECTORS) trials.push(await trySelector(selector));
  return trials;
}

async function trySelector(selector: SelectorName): Promise<Trial> {
  try {
    const group = await SocketGroup.open({ host: '127.0.0.1', port: 0, sockets: 2, backlog: 1, selector });
    try {
      await connectThrough(group);
    } finally {
      group.close();
    }
    return { selector, works: true, why: null, detail: null, code: null, hint: null };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    const { code, hint, cause } = error;
    // The selector's name is known here, so the sentence alone tells it better than the message.
    const message = code === 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE' ? whyNotEbpf(cause).sentence : error.message;
    const [why = '', ...lines] = message.split('\n');
    const kernelLog = lines.join('\n') || (cause as { detail?: string } | undefined)?.detail?.trimEnd();
    return { selector, works: false, why, detail: kernelLog || null, code, hint };
  }
}

/** Makes a connection and looks for it in the group's queues. */
async function connectThrough(group: SocketGroup): Promise<void> {
  const { address, port } = group.address;
  const socket = connect({ host: address, port });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.setTimeout(CONNECT_LIMIT, () => reject(new Error('no answer')));
      socket.on('connect', resolve);
      socket.on('error', reject);
    });
    const queued = group.stats().sockets.reduce((sum, { queue }) => sum + queue, 0);
    if (queued !== 1) throw new Error(`it is not in a queue of the group (${queued} are)`);
  } catch (error) {
    throw systemError(
      'ERR_SPILLWAY_SYSTEM',
      'a connection over loopback failed',
      error,
      'Look whether the loopback interface is up (`ip link set lo up`) and no firewall rule is in the way.',
    );
  } finally {
    socket.destroy();
  }
}
