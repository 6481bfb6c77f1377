/**
 * The handle of a server whose connections are accepted by the addon and not by libuv: later in the turn of the event
 * loop (native/acceptor.h). To Node and the program it is a TCP handle like any other.
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { type NativeAcceptor, type NativeError, native } from '../../native.js';
import type { Handle } from './listeners.js';
import type { TcpHandle } from './stand-in.js';

/** TCPWrap::SocketType in src/tcp_wrap.h. */
const SOCKET = 0;
const SERVER = 1;

export interface ListeningHandle extends TcpHandle {
  open(fd: number): number;
  listen(backlog: number): number;
}

type TcpClass = new (type: number) => ListeningHandle;

let known: TcpClass | undefined;

/** Node has no public name for it: the class is that of the handle of a socket of the kind. */
function tcpClass(fd: number): TcpClass {
  if (known) return known;
  const duplicate = new (native().Socket)('duplicate', fd).release();
  const socket = new Socket({ fd: duplicate, readable: false, writable: false });
  known = (socket as unknown as { _handle: { constructor: TcpClass } })._handle.constructor;
  socket.destroy();
  return known;
}

/**
 * A handle for a listener that listens already, to be given to `server.listen({ handle })`.
 *
 * @param fd is the handle's from then on, unless this throws.
 * @throws the addon's errors, and those of the system as Node writes them.
 */
export function acceptingHandle(fd: number): { handle: ListeningHandle; acceptor: NativeAcceptor } {
  const TCP = tcpClass(fd);
  const handle = new TCP(SERVER);
  const acceptor = new (native().Acceptor)(fd, (client) => deliver(handle, client, TCP));
  const status = handle.open(fd);
  if (status < 0) {
    acceptor.close();
    const code = process.getBuiltinModule('node:util').getSystemErrorName(status);
    throw Object.assign(new Error('the listener cannot be opened'), { code, errno: status, syscall: 'open' });
  }
  const { close } = handle;
  Object.assign(handle, {
    // The limit of the queue is the master's: it listens already.
    listen() {
      try {
        acceptor.start();
        return 0;
      } catch (error) {
        return (error as NativeError).errno;
      }
    },
    ref: () => acceptor.ref(),
    unref: () => acceptor.unref(),
    hasRef: () => acceptor.hasRef(),
    close(this: Handle, ...args: Parameters<Handle['close']>) {
      acceptor.close();
      return close.apply(this, args);
    },
  });
  return { handle, acceptor };
}

/** As libuv does with what it has accepted (ConnectionWrap::OnConnection in src/connection_wrap.cc). */
function deliver(server: Handle, client: number, TCP: TcpClass): void {
  if (client < 0) {
    server.onconnection?.(client, undefined);
    return;
  }
  const handle = new TCP(SOCKET);
  const status = handle.open(client);
  if (status < 0) {
    closeSync(client);
    server.onconnection?.(status, undefined);
  } else {
    server.onconnection?.(0, handle);
  }
}
