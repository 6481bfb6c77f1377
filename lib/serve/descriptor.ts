import type { Socket } from 'node:net';

/** The descriptor of a socket, which stays the socket's; −1 when it has been closed. Node has no public name for it. */
export function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd: number } })._handle?.fd ?? -1;
}
