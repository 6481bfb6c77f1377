/**
 * A program that uses `node:cluster` itself.
 *
 * With the usual round robin its primary listens through net.Server like any program, accepts, and hands on. With
 * SCHED_NONE it binds a handle by itself and sends it to its workers, which accept from it: that handle is given the
 * listener here. Their listen() sets the limit of the queue to their own backlog then (511, unless they say other).
 *
 * During a drain the workers of such a primary are told to disconnect: they close their servers, end when their
 * connections have ended, and are waited for. A program that forks a new one for every one that ends should look at
 * `worker.exitedAfterDisconnect`, as the documentation of `node:cluster` says.
 */
import type { Cluster } from 'node:cluster';
import net from 'node:net';
import { closingOnError, type Handle, type Listeners } from './listeners.js';
import type { ListenRequest } from './matching.js';
import type { Obtain } from './obtain.js';
import { keepAlive } from './stand-in.js';

type Create = (
  address: string | null,
  port: number | null,
  family: number | string | null,
  fd: number | undefined,
  flags?: number,
) => Handle | number;

/** UV_TCP_IPV6ONLY in uv.h. */
const IPV6_ONLY = 1;

/** The function that a primary with SCHED_NONE calls, and nobody else; Node's own modules find it at this object. */
const owner = net as unknown as { _createServerHandle?: Create };

export function interceptClusterHandles(listeners: Listeners, obtain: Obtain, draining: () => boolean): void {
  const original = owner._createServerHandle;
  if (!original) return;
  owner._createServerHandle = (address, port, family, fd, flags = 0) => {
    const isPort = typeof port === 'number' && port >= 0 && !(typeof fd === 'number' && fd >= 0);
    if (!isPort || draining()) return original(address, port, family, fd, flags);
    const ipv6Only = Boolean(flags & IPV6_ONLY);
    const request = { port, host: address ?? undefined, ipv6Only } as ListenRequest;
    let listener: ReturnType<Obtain> | undefined;
    try {
      listener = obtain(request, address ? [address] : ['::']);
      const duplicate = listeners.duplicate(listener);
      if (!duplicate) return original(address, port, family, fd, flags);
      const handle = closingOnError(duplicate.fd, () => original(null, null, null, duplicate.fd));
      if (typeof handle === 'number') listeners.leave(listener);
      else listeners.occupy(listener, handle, { address: address ?? '::', ipv6Only });
      return handle;
    } catch (error) {
      if (listener) listeners.leave(listener);
      const { errno } = error as NodeJS.ErrnoException;
      if (errno === undefined) throw error;
      return errno;
    }
  };
}

/** Fulfilled when the cluster's workers have ended; undefined for a program without any. */
export function disconnectCluster(): Promise<void> | undefined {
  // net loads it for every server that listens, so that this costs nothing.
  const cluster = process.getBuiltinModule('node:cluster') as unknown as Cluster;
  if (!cluster.isPrimary || Object.keys(cluster.workers ?? {}).length === 0) return undefined;
  awaitSigterm();
  return new Promise((resolve) => cluster.disconnect(resolve));
}

/** The primary's own handles close with its workers: it would end before the SIGTERM that it has a handler for. */
function awaitSigterm(): void {
  // To listen where the program does not would take the signal's own effect away.
  if (process.listenerCount('SIGTERM') === 0) return;
  const holds = keepAlive();
  process.once('SIGTERM', () => clearInterval(holds));
}
