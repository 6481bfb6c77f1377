/**
 * What a worker writes into its IPC channel is read by Node itself, which trusts it: a line that is no JSON, an answer to
 * nothing, or a handle that is not what the message says ends the process that reads it. A worker may do as it likes to
 * itself, but not to its master and its siblings.
 *
 * Node's own listener for internal messages is put behind a guard. The reading of the lines has no public name; it is found
 * under the symbol that Node keeps the channel's pipe under. Where there is none, garbage ends the master as it does any
 * parent.
 */
import type { ChildProcess } from 'node:child_process';
import type { EventEmitter } from 'node:events';
import { native } from '../native.js';

/** The name of the symbol under which Node keeps the pipe of the channel. */
const CHANNEL = 'kChannelHandle';

interface Pipe {
  readonly fd: number;
  onread: ((this: Pipe, data?: ArrayBuffer) => void) | undefined;
}

/** A handle as it comes with a message: what Node made of it, or the raw one. */
interface Handle {
  readonly fd?: number;
  close?(): void;
  destroy?(): void;
}

type Listener = (message: { cmd: string; type?: unknown }, handle?: Handle) => void;

/**
 * To be called before anybody else listens for internal messages.
 *
 * @param broken is called instead of the exception, perhaps more than once. The channel is of no use then.
 */
export function guardChannel(child: ChildProcess, broken: () => void): void {
  guardReading(child, broken);
  const messages = child as EventEmitter;
  for (const listener of messages.listeners('internalMessage') as Listener[]) {
    messages.off('internalMessage', listener);
    messages.on('internalMessage', (message, handle) => {
      try {
        assertServer(message, handle);
        listener.call(child, message, handle);
      } catch {
        closeHandle(handle);
        broken();
      }
    });
  }
}

/** Of a handle that came with a message and that nobody wants. */
export function closeHandle(handle: unknown): void {
  const { destroy, close } = (handle ?? {}) as Handle;
  (destroy ?? close)?.call(handle);
}

/** Descriptor of the master's end of a child's channel, which stays Node's; undefined where there is none. */
export function channelFdOf(child: ChildProcess): number | undefined {
  const fd = pipeOf(child)?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

function pipeOf(child: ChildProcess): Pipe | undefined {
  const symbol = Object.getOwnPropertySymbols(child).find(({ description }) => description === CHANNEL);
  return symbol && (child as unknown as Record<symbol, Pipe | undefined>)[symbol];
}

function guardReading(child: ChildProcess, broken: () => void): void {
  const pipe = pipeOf(child);
  const read = pipe?.onread;
  if (!pipe || typeof read !== 'function') return;
  pipe.onread = function (this: Pipe, ...data) {
    try {
      read.apply(this, data);
    } catch {
      broken();
    }
  };
}

/** Node calls listen() for what is said to be a server, and tells an error only later, when nobody can hear it. */
function assertServer({ cmd, type }: Parameters<Listener>[0], handle?: Handle): void {
  if (cmd !== 'NODE_HANDLE' || type !== 'net.Server' || !handle) return;
  if (!native().socketKind(handle.fd ?? -1).listening) throw new TypeError('the handle is no listener');
}
