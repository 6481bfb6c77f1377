/** How the options of scope `listener` are set on, and read from, a socket. Accepted connections inherit them. */
import { SpillwayError, systemError } from '../errors.js';
import { type NativeError, type NativeSocket, native } from '../native.js';
import { type AskedOptions, type GroupOptions, type ListenerOptionName, optionRow } from './options.js';

interface Access<Name extends ListenerOptionName> {
  get(socket: NativeSocket, family: 4 | 6): GroupOptions[Name];
  set(socket: NativeSocket, value: GroupOptions[Name], family: 4 | 6): void;
}

/** A number as the kernel names it: level and option. */
type Constant = readonly [level: string, name: string];

function number(...[level, name]: Constant): {
  get(socket: NativeSocket): number;
  set(socket: NativeSocket, value: number): void;
} {
  const at = () => [native().constants[level] as number, native().constants[name] as number] as const;
  return {
    get: (socket) => socket.getInt(...at()),
    set: (socket, value) => socket.setInt(...at(), value),
  };
}

function flag(...constant: Constant) {
  const plain = number(...constant);
  return {
    get: (socket: NativeSocket) => plain.get(socket) !== 0,
    set: (socket: NativeSocket, value: boolean) => plain.set(socket, value ? 1 : 0),
  };
}

function text(...[level, name]: Constant) {
  const at = () => [native().constants[level] as number, native().constants[name] as number] as const;
  return {
    get: (socket: NativeSocket) => socket.getText(...at()),
    set: (socket: NativeSocket, value: string) => socket.setText(...at(), value),
  };
}

const keepAliveOn = flag('SOL_SOCKET', 'SO_KEEPALIVE');
const keepAliveIdle = number('IPPROTO_TCP', 'TCP_KEEPIDLE');
const keepAliveInterval = number('IPPROTO_TCP', 'TCP_KEEPINTVL');
const keepAliveCount = number('IPPROTO_TCP', 'TCP_KEEPCNT');
const tos4 = number('IPPROTO_IP', 'IP_TOS');
const tos6 = number('IPPROTO_IPV6', 'IPV6_TCLASS');
const freeBind4 = flag('IPPROTO_IP', 'IP_FREEBIND');
const freeBind6 = flag('IPPROTO_IPV6', 'IPV6_FREEBIND');
const v6Only = flag('IPPROTO_IPV6', 'IPV6_V6ONLY');

const ACCESS: { [Name in ListenerOptionName]: Access<Name> } = {
  noDelay: flag('IPPROTO_TCP', 'TCP_NODELAY'),
  keepAlive: {
    get: (socket) =>
      keepAliveOn.get(socket) && {
        idle: keepAliveIdle.get(socket),
        interval: keepAliveInterval.get(socket),
        count: keepAliveCount.get(socket),
      },
    set(socket, value) {
      if (value) {
        keepAliveIdle.set(socket, value.idle);
        keepAliveInterval.set(socket, value.interval);
        keepAliveCount.set(socket, value.count);
      }
      keepAliveOn.set(socket, value !== false);
    },
  },
  userTimeout: number('IPPROTO_TCP', 'TCP_USER_TIMEOUT'),
  receiveBuffer: number('SOL_SOCKET', 'SO_RCVBUF'),
  sendBuffer: number('SOL_SOCKET', 'SO_SNDBUF'),
  congestion: text('IPPROTO_TCP', 'TCP_CONGESTION'),
  notSentLowat: number('IPPROTO_TCP', 'TCP_NOTSENT_LOWAT'),
  deferAccept: number('IPPROTO_TCP', 'TCP_DEFER_ACCEPT'),
  fastOpen: number('IPPROTO_TCP', 'TCP_FASTOPEN'),
  v6Only: {
    get: (socket, family) => family === 6 && v6Only.get(socket),
    set: (socket, value, family) => family === 6 && v6Only.set(socket, value),
  },
  freeBind: {
    get: (socket, family) => (family === 6 ? freeBind6 : freeBind4).get(socket),
    set: (socket, value, family) => (family === 6 ? freeBind6 : freeBind4).set(socket, value),
  },
  bindToDevice: text('SOL_SOCKET', 'SO_BINDTODEVICE'),
  tos: {
    get: (socket, family) => (family === 6 ? tos6 : tos4).get(socket),
    set(socket, value, family) {
      // A dual-stack socket sends IPv4 too, with the IPv4 option.
      tos4.set(socket, value);
      if (family === 6) tos6.set(socket, value);
    },
  },
  busyPoll: number('SOL_SOCKET', 'SO_BUSY_POLL'),
};

export const LISTENER_OPTIONS = Object.keys(ACCESS) as ListenerOptionName[];

/** What the kernel has in force; buffers read back doubled, see socket(7). */
export function readListenerOption<Name extends ListenerOptionName>(
  socket: NativeSocket,
  family: 4 | 6,
  name: Name,
): GroupOptions[Name] {
  return ACCESS[name].get(socket, family);
}

/**
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` when the kernel does not know the value (a congestion algorithm),
 *   `ERR_SPILLWAY_ADDRESS_UNAVAILABLE` for an unknown interface, `ERR_SPILLWAY_PERMISSION` when a capability is missing.
 */
export function writeListenerOption<Name extends ListenerOptionName>(
  socket: NativeSocket,
  family: 4 | 6,
  name: Name,
  value: GroupOptions[Name],
): void {
  try {
    ACCESS[name].set(socket, value, family);
  } catch (cause) {
    const { code } = cause as NativeError;
    const about = `${name} ${JSON.stringify(value)}`;
    if (code === 'EPERM' || code === 'EACCES') {
      throw systemError(
        'ERR_SPILLWAY_PERMISSION',
        about,
        cause,
        'Grant CAP_NET_ADMIN (bindToDevice: CAP_NET_RAW).',
      );
    }
    if (code === 'ENODEV') throw systemError('ERR_SPILLWAY_ADDRESS_UNAVAILABLE', about, cause);
    if (['ENOENT', 'EINVAL', 'ENOPROTOOPT', 'EOPNOTSUPP', 'EDOM', 'ERANGE'].includes(code)) {
      throw systemError('ERR_SPILLWAY_OPTION_RANGE', about, cause);
    }
    throw systemError('ERR_SPILLWAY_SYSTEM', about, cause);
  }
}

/** The options that decide which kernel group a listener can join; they cannot be changed once it is bound. */
export type BoundOptions = Pick<AskedOptions, 'v6Only' | 'freeBind' | 'bindToDevice'>;

export function readBoundOptions(socket: NativeSocket, family: 4 | 6): BoundOptions {
  const bound: BoundOptions = {};
  if (readListenerOption(socket, family, 'v6Only')) bound.v6Only = true;
  if (readListenerOption(socket, family, 'freeBind')) bound.freeBind = true;
  const device = readListenerOption(socket, family, 'bindToDevice');
  if (device !== '') bound.bindToDevice = device;
  return bound;
}

/** Sets the options of a group on a listener that was bound by somebody else. */
export function applyLiveOptions(socket: NativeSocket, family: 4 | 6, asked: AskedOptions): void {
  for (const name of LISTENER_OPTIONS) {
    const value = asked[name];
    if (value !== undefined && optionRow(name).live) writeListenerOption(socket, family, name, value);
  }
}

/** Sets every option that was asked for on a socket that is not bound yet. */
export function prepareListener(socket: NativeSocket, family: 4 | 6, asked: AskedOptions): void {
  if (family === 6) writeListenerOption(socket, family, 'v6Only', asked.v6Only ?? false);
  else if (asked.v6Only) {
    throw new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', 'v6Only needs an IPv6 address');
  }
  for (const name of LISTENER_OPTIONS) {
    const value = asked[name];
    if (name !== 'v6Only' && value !== undefined) writeListenerOption(socket, family, name, value);
  }
}

/** Sets an option on all sockets, or on none: those already changed get back what they had. */
export function writeEverywhere<Name extends ListenerOptionName>(
  sockets: readonly NativeSocket[],
  family: 4 | 6,
  name: Name,
  value: GroupOptions[Name],
): void {
  const undo: (() => void)[] = [];
  try {
    for (const socket of sockets) {
      const before = readListenerOption(socket, family, name);
      // What reads back doubled must be halved to be as before; see SO_RCVBUF in socket(7).
      const doubled = name === 'receiveBuffer' || name === 'sendBuffer';
      const restore = (doubled ? (before as number) / 2 : before) as GroupOptions[Name];
      undo.push(() => writeListenerOption(socket, family, name, restore));
      writeListenerOption(socket, family, name, value);
    }
  } catch (error) {
    for (const restore of undo) {
      try {
        restore();
      } catch {
        // The first error tells what was wrong; the kernel's refusal to go back adds nothing to it.
      }
    }
    throw error;
  }
}
