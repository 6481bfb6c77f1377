/**
 * The handle of a server whose connections are accepted by the addon and not by libuv: later in the turn of the event
 * loop (native/acceptor.h). To Node and the program it is a TCP handle like any other.
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { type NativeAcceptor, type NativeError, type NativeWaitingList, native } from '../../native.js';
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
  const socket = new Socket({ fd: duplicateOf(fd), readable: false, writable: false });
  known = (socket as unknown as { _handle: { constructor: TcpClass } })._handle.constructor;
  socket.destroy();
  return known;
}

function duplicateOf(fd: number): number {
  return new (native().Socket)('duplicate', fd).release();
}

export interface Accepting {
  handle: ListeningHandle;
  acceptor: NativeAcceptor;
  /**
   * The handle gets what it has room for from the waiting list as well (−1: there is none), and asks the kernel for the room by
   * the claims (−1: there is always room). It owns the descriptors, and may be given others later.
   */
  wait(listener: number, sender: number, receiver: number): void;
}

/**
 * A handle for a listener that listens already, to be given to `server.listen({ handle })`.
 *
 * @param fd is the handle's from then on, unless this throws.
 * @throws the addon's errors, and those of the system as Node writes them.
 */
export function acceptingHandle(fd: number): Accepting {
  const TCP = tcpClass(fd);
  const handle = new TCP(SERVER);
  let list: NativeWaitingList | undefined;
  const take = (client: number) => deliver(handle, client, TCP, list && (() => list?.room()));
  const acceptor = new (native().Acceptor)(fd, take);
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
      list?.close();
      list = undefined;
      return close.apply(this, args);
    },
  });
  return {
    handle,
    acceptor,
    wait(listener, sender, receiver) {
      list?.close();
      list = undefined;
      const own: number[] = [];
      try {
        // The acceptor has its own: it asks for what it takes from others.
        if (sender >= 0) own.push(duplicateOf(sender), duplicateOf(receiver));
      } catch (error) {
        for (const fd of [listener, sender, receiver, ...own]) if (fd >= 0) closeSync(fd);
        throw error;
      }
      const [first = -1, second = -1] = own;
      acceptor.claim(first, second);
      if (listener < 0) {
        for (const fd of [sender, receiver]) if (fd >= 0) closeSync(fd);
        return;
      }
      list = new (native().WaitingList)(listener, sender, receiver, take);
      list.start();
    },
  };
}

/**
 * As libuv does with what it has accepted (ConnectionWrap::OnConnection in src/connection_wrap.cc).
 *
 * @param freed is called when the connection has been closed here: there may be room for another one.
 */
function deliver(server: Handle, client: number, TCP: TcpClass, freed: (() => void) | undefined): void {
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
    if (freed) tellWhenClosed(handle, freed);
    server.onconnection?.(0, handle);
  }
}

/** Later than the kernel, for which it is closed within close(): when the program has been told. */
function tellWhenClosed(handle: Handle, tell: () => void): void {
  const { close } = handle;
  handle.close = function (this: Handle, closed) {
    close.call(this, () => {
      closed?.();
      tell();
    });
  };
}
