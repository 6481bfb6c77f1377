/** The files that `spillway init` writes, from its answers. Pure. */
import { resolve } from 'node:path';
import { splitWords } from '../start/values.js';
import { type Answers, addressOf } from './questions.js';

/** Commands and paths that the files speak of. */
export interface Surroundings {
  /** Of the config file. */
  config: string;
  /** Of the compiled command line. */
  cli: string;
  /** The working directory. */
  folder: string;
}

interface Line {
  key: string;
  value: unknown;
  comment: string;
}

export function configText(answers: Answers): string {
  const lines = settingsOf(answers);
  const width = Math.max(...lines.map(({ key, value }) => written(key, value).length));
  const body = lines.map(({ key, value, comment }) => `  ${written(key, value).padEnd(width)} // ${comment}`);
  return `// What \`spillway start\` runs. Every key, with its range and default: docs/config.md of the package spillway.
export default {
${body.join('\n')}
};
`;
}

function written(key: string, value: unknown): string {
  return `${key}: ${JSON.stringify(value)},`;
}

function settingsOf(answers: Answers): Line[] {
  const { host, ports, monitor } = answers;
  const [port = '8080', ...more] = ports.split(',').map((each) => each.trim());
  const address = addressOf(host);
  const lines: (Line | undefined)[] = [
    { key: 'name', value: answers.name, comment: 'what `spillway status` and the others call it' },
    { key: 'script', value: answers.script, comment: 'relative to this file' },
    address ? { key: 'host', value: address, comment: commentOnHost(host) } : undefined,
    { key: 'port', value: Number(port), comment: 'open before the program asks for it' },
    more.length > 0
      ? {
          key: 'listen',
          value: more.map((each) => (address ? `${bracketed(address)}:${each}` : Number(each))),
          comment: 'further ports',
        }
      : undefined,
    {
      key: 'instances',
      value: numberOr(answers.instances),
      comment: 'workers; max: the CPUs of the machine',
    },
    optional('maxConnections', answers['max-connections'], 'that a worker has open at most', Number),
    answers.overflow === 'drop'
      ? undefined
      : { key: 'overflow', value: answers.overflow, comment: 'what happens to who finds no room' },
    optional('placement', answers.placement, 'processors of the workers', placesOf),
    monitor === 'yes'
      ? { key: 'monitor', value: true, comment: 'another master follows one that has died' }
      : undefined,
    optional('keeperPlacement', answers['keeper-placement'], 'processors of the process that keeps it alive'),
    optional('logs', answers.logs, 'folder of the output of the workers'),
    nodeArguments(answers),
    optional('env', answers.env, 'variables of the workers', (text) =>
      Object.fromEntries(
        text
          .split(/\s+/)
          .map((each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]),
      ),
    ),
  ];
  return lines.filter((line) => line !== undefined);
}

function commentOnHost(host: string): string {
  return addressOf(host) === host ? 'where the ports are opened' : `the first address of ${host}`;
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function numberOr(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function placesOf(text: string): string | string[] {
  return text === 'auto' ? text : text.split(',');
}

function optional(
  key: string,
  answer: string,
  comment: string,
  value: (text: string) => unknown = (text) => text,
): Line | undefined {
  return answer === '' ? undefined : { key, value: value(answer), comment };
}

function nodeArguments(answers: Answers): Line | undefined {
  const heap = [
    answers['initial-heap'] === '' ? [] : [`--initial-heap-size=${answers['initial-heap']}`],
    answers['max-heap'] === '' ? [] : [`--max-old-space-size=${answers['max-heap']}`],
  ].flat();
  const value = [...(splitWords(answers['node-args']) ?? []), ...heap];
  return value.length > 0
    ? { key: 'nodeArgs', value, comment: 'options of Node for the workers' }
    : undefined;
}

/** What the kernel has to allow: programs in it, and ports below 1024. */
export function capabilitiesFor(answers: Answers): string[] {
  const isLow = answers.ports.split(',').some((port) => Number(port) > 0 && Number(port) < 1024);
  return ['CAP_BPF', 'CAP_PERFMON', ...(isLow ? ['CAP_NET_BIND_SERVICE'] : [])];
}

export function unitText(answers: Answers, { config, cli, folder }: Surroundings): string {
  const capabilities = capabilitiesFor(answers).join(' ');
  const [user, group] = answers.user.split(':');
  const identity = user ? [`User=${user}`, ...(group ? [`Group=${group}`] : [])] : ['DynamicUser=yes'];
  const writable = answers.logs === '' ? [] : [`ReadWritePaths=${resolve(folder, answers.logs)}`];
  // systemd plays the keeper: it holds what must outlive the master, and starts the next one. Any other KillMode would
  // have it kill the workers as soon as their master has gone; they end when it gives up what it holds.
  const keeping =
    answers.monitor === 'yes'
      ? ['FileDescriptorStoreMax=8192', 'Restart=always', 'RestartSec=100ms', 'KillMode=process']
      : ['Restart=on-failure'];
  return `[Unit]
Description=${answers.name}, served by Spillway
Wants=network-online.target
After=network-online.target

[Service]
Type=notify-reload
# Before systemd 253 (Debian 12 has 252), in its place:
# Type=notify
# ExecReload=/bin/kill -HUP $MAINPID
ExecStart=${quoted(answers.node)} ${quoted(cli)} start --config ${quoted(config)}
WorkingDirectory=${folder}
WatchdogSec=5
TimeoutStopSec=60
LimitNOFILE=1048576
RuntimeDirectory=spillway-${answers.name}
Environment=XDG_RUNTIME_DIR=%t/spillway-${answers.name}
${keeping.join('\n')}

# Nothing but what it takes to load its programs into the kernel${capabilities.includes('BIND') ? ' and to open its ports' : ''}. Workers have none of it.
${identity.join('\n')}
AmbientCapabilities=${capabilities}
CapabilityBoundingSet=${capabilities}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
${writable.map((line) => `${line}\n`).join('')}
[Install]
WantedBy=multi-user.target
`;
}

function quoted(path: string): string {
  return /\s/.test(path) ? `"${path}"` : path;
}
