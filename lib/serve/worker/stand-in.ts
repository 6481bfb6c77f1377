/**
 * What a server of the program has in the place of its listening handle once the worker takes no new connections: a
 * handle of the same kind that was never opened, so that all a program or Node may do with one still can be done.
 *
 * It answers for the address, and like the listener it keeps the process alive, unless the program does not want that
 * (`unref()`): otherwise a program with nothing else to do would end before the SIGTERM that it has a handler for.
 */
import type { Handle } from './listeners.js';

export interface TcpHandle extends Handle {
  constructor: new (type: number) => TcpHandle;
  ref(): void;
  unref(): void;
  hasRef(): boolean;
}

/** `constants.SERVER` of the binding (TCPWrap::SocketType in src/tcp_wrap.h). */
const SERVER = 1;

/** The longest that a timer can have, in milliseconds. */
const LONG = 2 ** 31 - 1;

/** Keeps the process alive until it is cleared, or not referred to any more. */
export const keepAlive = (): NodeJS.Timeout => setInterval(() => {}, LONG);

/** To be called while the handle is open. */
export function standInFor(handle: TcpHandle): TcpHandle {
  const name = {};
  handle.getsockname(name);
  const holds = keepAlive();
  if (!handle.hasRef()) holds.unref();
  const standIn = new handle.constructor(SERVER);
  const { close } = standIn;
  return Object.assign(standIn, {
    getsockname(into: object) {
      Object.assign(into, name);
      return 0;
    },
    ref: () => void holds.ref(),
    unref: () => void holds.unref(),
    hasRef: () => holds.hasRef(),
    close(callback?: () => void) {
      clearInterval(holds);
      close.call(standIn, callback);
    },
  });
}
