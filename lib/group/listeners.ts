/** Opens and adopts the listeners of a group: N sockets on one address and port, or a list of existing ones. */
import { fstatSync } from 'node:fs';
import { SpillwayError, systemError } from '../errors.js';
import { type Endpoint, type NativeError, type NativeSocket, native } from '../native.js';
import { describe, listenersAt } from './endpoint.js';
import { type BoundOptions, prepareListener, readBoundOptions } from './listener-options.js';
import type { AskedOptions } from './options.js';

/** The inode of an open socket, the same for all descriptors that name it. */
export function inodeOf(socket: NativeSocket): number {
  return fstatSync(socket.fd).ino;
}

export function closeAll(sockets: readonly NativeSocket[]): void {
  for (const socket of sockets) socket.close();
}

/** Puts the reason into a SpillwayError that says what it was about; errors of Spillway itself pass. */
export function explain(error: unknown, about: string): SpillwayError {
  if (error instanceof SpillwayError) return error;
  switch ((error as NativeError).code) {
    case 'EADDRINUSE':
      return systemError('ERR_SPILLWAY_ADDRESS_IN_USE', about, error);
    case 'EADDRNOTAVAIL':
    case 'ENODEV':
    case 'EAFNOSUPPORT':
      return systemError('ERR_SPILLWAY_ADDRESS_UNAVAILABLE', about, error);
    case 'EACCES':
      return systemError(
        'ERR_SPILLWAY_PERMISSION',
        about,
        error,
        'Ports below net.ipv4.ip_unprivileged_port_start (1024) need CAP_NET_BIND_SERVICE.',
      );
    case 'EPERM':
      return systemError('ERR_SPILLWAY_PERMISSION', about, error);
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOMEM':
    case 'ENOBUFS':
    case 'ENOSPC':
      return systemError('ERR_SPILLWAY_LIMIT', about, error);
    default:
      return systemError('ERR_SPILLWAY_SYSTEM', about, error);
  }
}

/** A socket bound to the endpoint that shares it with its siblings and does not listen yet. The caller owns it. */
export function openSocket(endpoint: Endpoint, asked: AskedOptions): NativeSocket {
  const { SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT } = native().constants as Record<string, number>;
  let socket: NativeSocket | undefined;
  try {
    socket = new (native().Socket)('create', endpoint.family);
    socket.setInt(SOL_SOCKET as number, SO_REUSEADDR as number, 1);
    socket.setInt(SOL_SOCKET as number, SO_REUSEPORT as number, 1);
    prepareListener(socket, endpoint.family, asked);
    socket.bind(endpoint.address, endpoint.port, endpoint.family);
    return socket;
  } catch (error) {
    socket?.close();
    throw explain(error, `cannot open a socket on ${describe(endpoint)}`);
  }
}

function taken(endpoint: Endpoint, uid: number | undefined): SpillwayError {
  const whose = uid === undefined ? '' : ` of user ${uid}`;
  return new SpillwayError(
    'ERR_SPILLWAY_ADDRESS_IN_USE',
    `${describe(endpoint)} is taken: another service${whose} listens there and shares the port (SO_REUSEPORT)`,
  );
}

/**
 * Opens `count` listeners on one endpoint; port 0 becomes one port for all of them.
 *
 * A service that shares the port would take part of the connections, and its program and ours would replace each
 * other. The kernel allows that to one user, so it is looked for before anything listens, and again afterwards, for
 * two that start at one moment.
 */
export function openListeners(
  wanted: Endpoint,
  count: number,
  asked: AskedOptions,
  backlog: number,
): { endpoint: Endpoint; sockets: NativeSocket[] } {
  const sockets: NativeSocket[] = [];
  let endpoint = wanted;
  // A listener that was bound to port 0 itself would come back on another port after shutdown() and listen(): one
  // that never listens reserves the port for the others, who bind it by its number.
  const reservation = wanted.port === 0 ? openSocket(wanted, asked) : undefined;
  try {
    if (reservation) endpoint = { ...wanted, port: reservation.localEndpoint().port };
    const before = listenersAt(endpoint)[0];
    for (let index = 0; index < count; index++) sockets.push(openSocket(endpoint, asked));
    if (before) throw taken(endpoint, before.uid);
    for (const socket of sockets) socket.listen(backlog);
    const ours = new Set(sockets.map(inodeOf));
    const foreign = listenersAt(endpoint).find(({ inode }) => !ours.has(inode));
    if (foreign) throw taken(endpoint, foreign.uid);
    // The numeric form the kernel gives the address is the one everybody will see.
    return { endpoint: sockets[0]?.localEndpoint() ?? endpoint, sockets };
  } catch (error) {
    closeAll(sockets);
    throw explain(error, `cannot listen on ${describe(endpoint)}`);
  } finally {
    reservation?.close();
  }
}

/** Sockets with other devices or families are other groups to the kernel, even on one address and port. */
function sameBinding(one: BoundOptions, other: BoundOptions): boolean {
  return Boolean(one.v6Only) === Boolean(other.v6Only) && one.bindToDevice === other.bindToDevice;
}

/**
 * Duplicates a list of listening sockets. They must share one address and port, each given once; with `like`, those of
 * the listeners that are there already.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_BAD_FD` naming the descriptor and what is wrong with it; nothing is kept then.
 */
export function adoptListeners(
  fds: readonly number[],
  like: { endpoint?: Endpoint; bound?: BoundOptions } = {},
): {
  endpoint: Endpoint;
  sockets: NativeSocket[];
  bound: BoundOptions;
} {
  const sockets: NativeSocket[] = [];
  const byInode = new Map<number, number>();
  let { endpoint, bound } = like;
  const bad = (fd: number, why: string) =>
    new SpillwayError('ERR_SPILLWAY_BAD_FD', `descriptor ${fd} ${why}`);
  try {
    if (!Array.isArray(fds) || fds.length === 0) {
      throw new SpillwayError('ERR_SPILLWAY_BAD_FD', 'the list of sockets is empty');
    }
    for (const fd of fds) {
      if (!Number.isInteger(fd) || fd < 0) throw bad(fd, 'is not a descriptor');
      const kind = native().socketKind(fd);
      if (!kind.isSocket) throw bad(fd, 'is not a socket');
      if (!kind.isTcp) throw bad(fd, 'is not a TCP socket');
      if (!kind.listening) throw bad(fd, 'does not listen');
      if (!kind.reusePort) throw bad(fd, 'was not bound with SO_REUSEPORT');
      const socket = new (native().Socket)('duplicate', fd);
      sockets.push(socket);
      const inode = inodeOf(socket);
      const twin = byInode.get(inode);
      if (twin !== undefined) throw bad(fd, `is the same socket as descriptor ${twin}`);
      byInode.set(inode, fd);
      const here = socket.localEndpoint();
      endpoint ??= here;
      if (describe(here) !== describe(endpoint)) {
        throw bad(fd, `listens on ${describe(here)}, the others on ${describe(endpoint)}`);
      }
      const how = readBoundOptions(socket, here.family);
      bound ??= how;
      if (!sameBinding(how, bound)) {
        throw bad(fd, `is bound differently: ${JSON.stringify(how)}, the others ${JSON.stringify(bound)}`);
      }
    }
    return { endpoint: endpoint as Endpoint, sockets, bound: bound as BoundOptions };
  } catch (error) {
    closeAll(sockets);
    throw explain(error, 'cannot take over the sockets');
  }
}
