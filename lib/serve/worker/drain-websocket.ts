/**
 * WebSockets during a drain: a close frame tells the client that it should connect again, and to whom it belongs to end
 * the connection from there.
 *
 * The frame is written to the socket below whatever library the program has. Between two turns of the event loop that
 * is safe: libraries write a frame whole within one turn, and a control frame may come between any two frames, also
 * between the fragments of a message (RFC 6455, section 5.4). The library meets the client's answer, takes it for a
 * close that the client began, answers in turn and ends the connection; what it sends meanwhile the client ignores
 * (section 5.5.1). It is not safe where the program does not write frames but passes bytes on, as a proxy does: what is
 * piped into such a socket may be in the middle of a frame, so it is left alone.
 */
import type { DrainReason } from '../protocol.js';
import type { OpenSocket } from './connections.js';

/** Service Restart (the registry of RFC 6455, section 11.7): reconnect after a moment. Going Away: section 7.4.1. */
const SERVICE_RESTART = 1012;
const GOING_AWAY = 1001;

/** Milliseconds between two looks whether an upgrade has been answered. */
const LOOK_AGAIN = 50;

const told = new WeakSet<OpenSocket>();

/** Tells the client, as soon as its upgrade has been answered: `written` is what had been sent before that. */
export function closeWebSocket(socket: OpenSocket, written: number, reason: DrainReason): void {
  if (told.has(socket) || isPipedInto(socket) || !socket.writable) return;
  if (socket.bytesWritten === written) {
    // Nobody tells when the answer is written. It keeps nothing alive; the socket does.
    setTimeout(() => closeWebSocket(socket, written, reason), LOOK_AGAIN).unref();
    return;
  }
  told.add(socket);
  const code = reason === 'stop' ? GOING_AWAY : SERVICE_RESTART;
  // FIN and opcode 8, no mask, and two bytes: the code.
  socket.write(Buffer.from([0x88, 2, code >> 8, code & 0xff]));
}

/** pipe() and pipeline() listen at the stream they write to. */
const isPipedInto = (socket: OpenSocket): boolean => socket.listenerCount('unpipe') > 0;
