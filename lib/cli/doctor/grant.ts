/** How to grant what the `ebpf` selector needs, as lines to type or to write down. Pure: the machine may be made up. */
import {
  CAPABILITIES,
  type CapabilityName,
  EBPF_KERNEL,
  EBPF_NEEDS,
  kernelAtLeast,
  missingCapabilities,
} from '../../group/capability.js';
import type { Machine } from '../../group/probe.js';

export interface Grant {
  way: 'once' | 'systemd' | 'setcap-copy' | 'setcap' | 'docker' | 'kubernetes';
  title: string;
  /** Exactly what to type, or to write into the file that the title names. */
  lines: string[];
  /** What else it does, or needs; null when nothing. */
  note: string | null;
}

function maskOf(names: readonly CapabilityName[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(CAPABILITIES[name])), 0n);
}

/** The capabilities that the `ebpf` selector needs and this process does not have. */
export function missingForEbpf({ capabilities }: Machine): CapabilityName[] {
  return missingCapabilities(EBPF_NEEDS, maskOf(capabilities.effective));
}

/**
 * The ways that lead to the `ebpf` selector on this machine, the most fitting first. Empty when no capability is
 * missing, or when capabilities would not help, for want of a new enough kernel or of its types.
 *
 * @param command how this program was called: Node's path, the script's path.
 */
export function grantsFor(machine: Machine, command: readonly string[]): Grant[] {
  if (missingForEbpf(machine).length === 0) return [];
  if (!machine.btf || !kernelAtLeast(EBPF_KERNEL, machine.kernel)) return [];

  // Outside the bounding set nothing that is done on this side can give a capability.
  const obtainable = EBPF_NEEDS.every((name) => machine.capabilities.obtainable.includes(name));
  const containers = [docker(machine), kubernetes(machine)];
  const units = machine.container === null || machine.systemd.running ? [systemd(machine)] : [];
  const byHand =
    obtainable && !machine.noNewPrivileges
      ? [once(machine, command), setcapOnCopy(machine), setcap(machine)]
      : [];
  return machine.container === null
    ? [...units, ...byHand, ...containers]
    : [...containers, ...units, ...byHand];
}

/** CAP_BPF, as setpriv, setcap and the containers write it: with another prefix and case. */
function named(style: 'bare' | 'BARE' | 'file'): string[] {
  return EBPF_NEEDS.map((name) => {
    if (style === 'file') return name.toLowerCase();
    const bare = name.replace(/^CAP_/, '');
    return style === 'bare' ? bare.toLowerCase() : bare;
  });
}

function once({ user }: Machine, command: readonly string[]): Grant {
  const plus = named('bare').map((name) => `+${name}`);
  return {
    way: 'once',
    title: 'Try it once; nothing stays',
    lines: [
      `sudo setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups \\`,
      `  --inh-caps=${plus} --ambient-caps=${plus} \\`,
      `  ${[...command, 'demo'].join(' ')}`,
    ],
    note: null,
  };
}

function systemd({ systemd: { unit } }: Machine): Grant {
  return {
    way: 'systemd',
    title: unit ? `systemd: \`systemctl edit ${unit}\`` : 'systemd, in the unit file',
    lines: [
      '[Service]',
      `AmbientCapabilities=${EBPF_NEEDS.join(' ')}`,
      `CapabilityBoundingSet=${EBPF_NEEDS.join(' ')}`,
    ],
    note: 'Add to both what else the service needs, such as CAP_NET_BIND_SERVICE for ports below 1024.',
  };
}

const COPY = '/usr/local/bin/node-spillway';

function setcapLine(path: string): string {
  return `setcap ${named('file').join()}=ep ${path}`;
}

function setcapOnCopy({ node: { path } }: Machine): Grant {
  return {
    way: 'setcap-copy',
    title: 'For a copy of Node that only your group may run',
    lines: [`sudo install -m 0750 -g "$(id -gn)" ${path} ${COPY}`, `sudo ${setcapLine(COPY)}`],
    note: 'Run Spillway with it. It is a copy: after an update of Node, do it again. Node ignores NODE_OPTIONS then.',
  };
}

function setcap({ node: { path } }: Machine): Grant {
  return {
    way: 'setcap',
    title: 'For every program that anybody runs with this Node binary',
    lines: [`sudo ${setcapLine(path)}`, `sudo setcap -r ${path}   # takes them away again`],
    note: 'Mind that: it is not for Spillway alone. Node ignores NODE_OPTIONS then, and an update of Node ends it.',
  };
}

/** A user other than root gets nothing effective from a container's list: the binary must carry the capabilities too. */
function inTheImage({ container, user, node }: Machine): string[] {
  if (container === null || user.uid === 0) return [];
  return ['# and, as this is not root, in the Dockerfile:', `RUN ${setcapLine(node.path)}`];
}

function docker(machine: Machine): Grant {
  const options = named('BARE').map((name) => `--cap-add ${name}`);
  const image = inTheImage(machine);
  return {
    way: 'docker',
    title: 'Docker, Podman',
    lines: [`docker run ${options.join(' ')} …`, ...image],
    note: image.length > 0 ? 'This Node then starts only in containers that have both.' : null,
  };
}

function kubernetes(machine: Machine): Grant {
  return {
    way: 'kubernetes',
    title: 'Kubernetes, in the description of the container',
    lines: [
      'securityContext:',
      '  capabilities:',
      `    add: [${named('BARE').join(', ')}]`,
      ...inTheImage(machine),
    ],
    note: null,
  };
}
