/** Where a group listens: from what the user wrote to a numeric address, and who else is there. */
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { SpillwayError, systemError } from '../errors.js';
import { type Endpoint, type ListedSocket, type NativeError, native } from '../native.js';
import { socketsInProc } from './proc-net.js';

/** `[::1]:80` or `127.0.0.1:80`. */
export function describe({ address, family, port }: Endpoint): string {
  return family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

function hasIpv6(): boolean {
  try {
    return readFileSync('/proc/thread-self/net/if_inet6', 'utf8').length > 0;
  } catch {
    return false;
  }
}

/**
 * The address a host stands for. Without one all of the machine's: `::`, or `0.0.0.0` where there is no IPv6, as
 * `net.Server` has it. Of a name's addresses the first one counts.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_HOST_UNKNOWN`, `ERR_SPILLWAY_OPTION_RANGE` (port)
 */
export async function resolveEndpoint(host: string | undefined, port: number): Promise<Endpoint> {
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `port cannot be ${port}; it takes: integer, 0 to 65535`,
    );
  }
  if (host === undefined || host === '') {
    return hasIpv6() ? { address: '::', family: 6, port } : { address: '0.0.0.0', family: 4, port };
  }
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(bare);
  if (family !== 0) return { address: bare, family: family as 4 | 6, port };
  try {
    const found = await lookup(bare, { verbatim: true });
    return { address: found.address, family: found.family as 4 | 6, port };
  } catch (cause) {
    throw systemError('ERR_SPILLWAY_HOST_UNKNOWN', `host '${host}'`, cause);
  }
}

/** Numbers of TCP states (include/net/tcp_states.h), the same on every architecture. */
const SYN_RECV = 3;
const LISTEN = 10;

/**
 * The kernel has no inet_diag, or what confines the process (seccomp, a security module) keeps it from asking: systemd's
 * RestrictAddressFamilies= without AF_NETLINK, for example, gives EAFNOSUPPORT.
 */
const CANNOT_ASK = new Set(['EAFNOSUPPORT', 'EPROTONOSUPPORT', 'EOPNOTSUPP', 'ENOENT', 'EACCES', 'EPERM']);

/** Sockets on exactly this address (an empty one: on all) and port, in the order the kernel lists them: the same in both ways of asking. */
function listed(endpoint: Endpoint, state: number): ListedSocket[] {
  const { address, port, family } = endpoint;
  try {
    return native().socketsAt(address, port, family, 1 << state);
  } catch (error) {
    if (!CANNOT_ASK.has((error as NativeError).code)) throw error;
    return socketsInProc(endpoint, state);
  }
}

/**
 * The listeners on exactly this address and port, in the order they joined the kernel's group, as long as none has
 * left: the kernel puts a new one in front of the others for IPv4 and behind them for IPv6
 * (net/ipv4/inet_hashtables.c, `__inet_hash`).
 */
export function listenersAt(endpoint: Endpoint): ListedSocket[] {
  const found = listed(endpoint, LISTEN);
  return endpoint.family === 6 ? found : found.reverse();
}

const WILDCARDS = new Set(['0.0.0.0', '::']);

/**
 * The half-open connections of the listeners on an address and port. Those of a listener on all addresses carry the
 * concrete address the client called, so they are found by the port, and so are those of another service that listens
 * on one of the addresses alone. A dual-stack listener has IPv4 clients as well, which the kernel lists in its family,
 * as mapped addresses; both families are asked, as no document promises that.
 */
export function halfOpenAt(endpoint: Endpoint, v6Only = false): ListedSocket[] {
  if (!WILDCARDS.has(endpoint.address)) return listed(endpoint, SYN_RECV);
  const everywhere = { ...endpoint, address: '' };
  const found = listed(everywhere, SYN_RECV);
  if (endpoint.family === 4 || v6Only) return found;
  return [...found, ...listed({ ...everywhere, family: 4 }, SYN_RECV)];
}
