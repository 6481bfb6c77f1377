/**
 * A process that another master has started, as if it were a child of this one: what a {@link WorkerProcess} needs of a
 * ChildProcess.
 *
 * Its channel is Node's own (child_process): a message is a line of JSON, and a handle travels with a message around it.
 * What the worker sends with a handle comes without it.
 */
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { type NativeProcessWatch, native } from '../native.js';

export interface AdoptedEnds {
  /** Of Node's channel; undefined for a program without one. */
  ipc: number | undefined;
  /** Of its output, as far as that comes to the master. */
  stdout: number | undefined;
  stderr: number | undefined;
}

export class AdoptedProcess extends EventEmitter {
  readonly pid: number;
  readonly stdin: Writable | null = null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  readonly stdio: readonly undefined[] = [];
  readonly #channel: Socket | undefined;
  readonly #channelFd: number | undefined;
  readonly #watch: NativeProcessWatch;
  #hasHeard = false;

  /**
   * Owns the descriptors, unless this throws.
   *
   * @throws the addon's errors: ESRCH when the process has gone.
   */
  constructor(pid: number, { ipc, stdout, stderr }: AdoptedEnds) {
    super();
    this.pid = pid;
    this.#watch = new (native().ProcessWatch)(pid, () => this.#gone());
    this.#channelFd = ipc;
    this.#channel = ipc === undefined ? undefined : this.#open(ipc);
    this.stdout = stdout === undefined ? null : new Socket({ fd: stdout, writable: false });
    this.stderr = stderr === undefined ? null : new Socket({ fd: stderr, writable: false });
  }

  get connected(): boolean {
    return this.#channel !== undefined && !this.#channel.destroyed;
  }

  get channelFd(): number | undefined {
    return this.#channelFd;
  }

  /** As of a child; a handle is that of a TCP connection, and stays the caller's. */
  send(message: unknown, handle?: unknown, told?: (error: Error | null) => void): boolean {
    const callback = typeof handle === 'function' ? (handle as typeof told) : told;
    const channel = this.#channel;
    if (!channel || channel.destroyed || this.#channelFd === undefined) {
      process.nextTick(() => callback?.(new Error('the channel is closed')));
      return false;
    }
    const { fd } = (typeof handle === 'object' ? (handle ?? {}) : {}) as { fd?: number };
    if (fd === undefined) {
      channel.write(`${JSON.stringify(message)}\n`, (error) => callback?.(error ?? null));
      return true;
    }
    const line = JSON.stringify({ cmd: 'NODE_HANDLE', type: 'net.Native', msg: message });
    try {
      native().sendWithDescriptor(this.#channelFd, Buffer.from(`${line}\n`), fd);
      callback?.(null);
      return true;
    } catch (error) {
      callback?.(error as Error);
      return false;
    }
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): boolean {
    try {
      return process.kill(this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') this.emit('error', error);
      return false;
    }
  }

  #open(fd: number): Socket {
    const channel = new Socket({ fd });
    let text = '';
    channel.setEncoding('utf8');
    channel.on('error', () => {});
    channel.on('data', (part: string) => {
      text += part;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        this.#hear(line);
      }
    });
    channel.on('close', () => this.emit('disconnect'));
    return channel;
  }

  #hear(line: string): void {
    const isFirst = !this.#hasHeard;
    this.#hasHeard = true;
    let message: { cmd?: unknown } | null;
    try {
      message = JSON.parse(line);
    } catch {
      // The master before may have read its beginning.
      if (isFirst) return;
      // Whoever writes what is no message into its channel is killed, as a child is (channel-guard.ts).
      this.kill('SIGKILL');
      return;
    }
    const isInternal = typeof message?.cmd === 'string' && message.cmd.startsWith('NODE_');
    this.emit(isInternal ? 'internalMessage' : 'message', message);
  }

  /** Its parent is somebody else: how it has ended is not known. */
  #gone(): void {
    this.#watch.close();
    this.emit('exit', null, null);
    this.#channel?.end();
  }
}

/** When a process was started, in ticks since the machine was (proc(5)): with the id it names a process for good. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(/\) /);
    return fields.split(' ')[19];
  } catch {
    return undefined;
  }
}
