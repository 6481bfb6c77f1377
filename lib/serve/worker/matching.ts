/** Whether a call of `server.listen(…)` means an inherited listener. Pure: no socket, no name service. */
import { isIP, isIPv4, SocketAddress } from 'node:net';
import type { InheritedListener } from '../protocol.js';

/** A call of `listen()` that asks for a TCP port. */
export interface ListenRequest {
  port: number;
  host: string | undefined;
  ipv6Only: boolean;
  /** The program wants a port of its own. */
  exclusive: boolean;
  signal: AbortSignal | undefined;
  callback: (() => void) | undefined;
}

/**
 * Reads the arguments the way `net.Server` does. Undefined for everything that is no request for a TCP port (a path, a
 * descriptor, a handle) and for what `net.Server` is going to refuse.
 */
export function readRequest(args: readonly unknown[]): ListenRequest | undefined {
  const options = readOptions(args);
  if (options._handle || options.handle || (typeof options.fd === 'number' && options.fd >= 0))
    return undefined;
  const port = readPort(options.port);
  const { host } = options;
  if (port === undefined || (host && typeof host !== 'string')) return undefined;
  const last = args.at(-1);
  return {
    port,
    host: host ? (host as string) : undefined,
    ipv6Only: options.ipv6Only === true,
    exclusive: Boolean(options.exclusive),
    signal: options.signal as AbortSignal | undefined,
    callback: typeof last === 'function' ? (last as () => void) : undefined,
  };
}

/** No port at all, by `listen()`, `listen(callback)` or a `port` that is null or undefined, means any: port 0. */
function readOptions(args: readonly unknown[]): Record<string, unknown> {
  const [first, second] = args;
  if (args.length === 0 || typeof first === 'function') return { port: 0 };
  if (typeof first !== 'object' || first === null)
    return { port: first ?? 0, host: typeof second === 'string' ? second : undefined };
  const options = first as Record<string, unknown>;
  const any = 'port' in options && (options.port === undefined || options.port === null);
  if (!any) return options;
  const { fd, handle, _handle, host, ipv6Only, exclusive, signal } = options;
  return { fd, handle, _handle, host, ipv6Only, exclusive, signal, port: 0 };
}

/** Ports may be strings, also hexadecimal ones. */
function readPort(port: unknown): number | undefined {
  if (typeof port !== 'number' && (typeof port !== 'string' || port.trim() === '')) return undefined;
  const value = Number(port);
  return Number.isInteger(value) && value >= 0 && value <= 65535 ? value : undefined;
}

/**
 * The addresses a host stands for, as far as that is known without asking anybody; undefined for a name that has to be
 * resolved. Without a host Node listens on `::`. `localhost` is loopback in both families (RFC 6761, section 6.3).
 */
export function knownAddresses(host: string | undefined): string[] | undefined {
  if (host === undefined) return ['::'];
  if (isIP(host) !== 0) return [host];
  return /^(.+\.)?localhost\.?$/i.test(host) ? ['127.0.0.1', '::1'] : undefined;
}

/**
 * Whether a listener serves what a program asked for: the same address, a wildcard that includes the listener's, or an
 * address that the listener's own wildcard includes. Which addresses are reachable is thus decided by whoever started
 * the master, not by the program.
 */
export function serves(listener: InheritedListener, address: string, ipv6Only: boolean): boolean {
  const asked = canonical(address);
  const bound = canonical(listener.address);
  const takesIpv4 = listener.family === 4 || (bound === '::' && !listener.v6Only);
  if (ipv6Only && listener.family === 4) return false;
  if (asked === bound || asked === '::') return true;
  if (asked === '0.0.0.0') return takesIpv4;
  if (bound === '0.0.0.0') return isIPv4(asked);
  return bound === '::' && (takesIpv4 || !isIPv4(asked));
}

/** Whether a program that asked for its own machine alone is served to all of them. */
export function exposes({ address }: InheritedListener, host: string | undefined): boolean {
  const bound = canonical(address);
  const asked = host === undefined ? [] : (knownAddresses(host) ?? []);
  const isLoopback = (each: string) => each === '::1' || (isIPv4(each) && each.startsWith('127.'));
  return (
    (bound === '::' || bound === '0.0.0.0') && asked.length > 0 && asked.map(canonical).every(isLoopback)
  );
}

/** Whether plain Node could not have listened on both, on one port. */
export function overlap(
  one: { address: string; ipv6Only: boolean },
  other: { address: string; ipv6Only: boolean },
): boolean {
  const covers = ({ address, ipv6Only }: typeof one, asked: string) =>
    (address === '::' && !(ipv6Only && isIPv4(asked))) || (address === '0.0.0.0' && isIPv4(asked));
  const [a, b] = [canonical(one.address), canonical(other.address)];
  return a === b || covers({ ...one, address: a }, b) || covers({ ...other, address: b }, a);
}

/** One spelling per address: IPv6 as inet_ntop(3) writes it, IPv4-mapped addresses as IPv4. */
function canonical(address: string): string {
  if (isIPv4(address)) return address;
  const [bare = address, scope] = address.toLowerCase().split('%');
  const ipv6 = new SocketAddress({ address: bare, family: 'ipv6' }).address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(ipv6)?.[1];
  return mapped ?? (scope === undefined ? ipv6 : `${ipv6}%${scope}`);
}
