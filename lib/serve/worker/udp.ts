/**
 * UDP: Spillway distributes TCP connections. N workers cannot each hold one UDP port, and if the first one held it the
 * program would work until that worker is replaced; so a bind() to a port that nobody shares is refused at once.
 *
 * dgram is loaded in every process with an IPC channel (node:child_process needs it), so that patching it costs nothing.
 */
import type { Socket } from 'node:dgram';
import { SpillwayError } from '../../errors.js';

/** What Node keeps in the socket. */
interface State {
  handle: unknown;
  reuseAddr?: boolean;
  reusePort?: boolean;
}

export function refuseUnsharedUdp(): void {
  const { Socket } = process.getBuiltinModule('node:dgram') as unknown as { Socket: { prototype: Socket } };
  const original = Socket.prototype.bind as (this: Socket, ...args: unknown[]) => Socket;

  function bind(this: Socket, ...args: unknown[]): Socket {
    const state = stateOf(this);
    const port = portOf(args[0]);
    // A socket that has been closed is the original's to deal with, as is port 0, by which send() and connect() bind.
    if (port === undefined || !state?.handle || state.reuseAddr || state.reusePort)
      return original.apply(this, args);
    const error = new SpillwayError(
      'ERR_SPILLWAY_UDP',
      `UDP port ${port} cannot be bound: Spillway distributes TCP connections, and every worker would need that port`,
    );
    // dgram resolves the address first and tells by this event that it could not bind; the callback is never called.
    process.nextTick(() => {
      if (state.handle) this.emit('error', error);
    });
    return this;
  }

  Socket.prototype.bind = bind as Socket['bind'];
}

/** The port of a bind() that is not shared by its own arguments. */
function portOf(first: unknown): number | undefined {
  const options =
    typeof first === 'object' && first !== null ? (first as Record<string, unknown>) : undefined;
  // An open descriptor or handle has been bound by whoever made it.
  if (options && (options.exclusive || options.fd !== undefined || 'recvStart' in options)) return undefined;
  return Number(options ? options.port : first) || undefined;
}

function stateOf(socket: Socket): State | undefined {
  const symbol = Object.getOwnPropertySymbols(socket).find(
    ({ description }) => description === 'state symbol',
  );
  return symbol && (socket as unknown as Record<symbol, State>)[symbol];
}
