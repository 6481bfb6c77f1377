/** What lines are written to: files, and the terminal, pipe or socket that is our own output. */
import { closeSync, constants, fstatSync, openSync, write } from 'node:fs';
import { Socket } from 'node:net';
import { dirname } from 'node:path';
import { isatty, WriteStream } from 'node:tty';
import { makeFolder } from '../../control/make-folder.js';
import { systemError } from '../../errors.js';
import type { Sink } from './destination.js';

type Done = (error?: NodeJS.ErrnoException) => void;

const NEWLINE = 0x0a;

/** Appends to a descriptor that never makes one wait for long: a file, /dev/null. */
class DescriptorWriter {
  /** The last write ended within a line: what follows must not be glued to it. */
  #torn = false;

  write(fd: number, bytes: Buffer, done: Done): void {
    const whole = this.#torn ? Buffer.concat([Buffer.of(NEWLINE), bytes]) : bytes;
    const from = (at: number): void => {
      write(fd, whole, at, whole.length - at, null, (error, written) => {
        if (error) {
          if (at > 0) this.#torn = whole[at - 1] !== NEWLINE;
          done(error);
        } else if (at + written < whole.length) from(at + written);
        else {
          this.#torn = false;
          done();
        }
      });
    };
    from(0);
  }
}

/** A log file. Whatever goes wrong may be repaired: a full disk, a file system that was mounted read-only. */
export class FileSink implements Sink {
  readonly path: string;
  readonly #writer = new DescriptorWriter();
  #fd: number;
  /** The descriptor of before a reopen, while it is being written to. */
  #former: number | undefined;
  #writing = false;
  #closed = false;

  /** @throws {SpillwayError} `ERR_SPILLWAY_LOGS` */
  constructor(path: string) {
    this.path = path;
    this.#fd = openLog(path);
  }

  write(bytes: Buffer, done: Done): void {
    this.#writing = true;
    this.#writer.write(this.#fd, bytes, (error) => {
      this.#writing = false;
      this.#closeFormer();
      if (this.#closed) closeSync(this.#fd);
      done(error);
    });
  }

  isFinal(): boolean {
    return false;
  }

  /**
   * Opens the file of that name anew, after somebody has moved the old one away.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_LOGS`; the old file stays in use then.
   */
  reopen(): void {
    if (this.#closed) return;
    const fd = openLog(this.path);
    if (this.#former === undefined) this.#former = this.#fd;
    else closeSync(this.#fd);
    this.#fd = fd;
    if (!this.#writing) this.#closeFormer();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#writing) closeSync(this.#fd);
  }

  #closeFormer(): void {
    if (this.#former !== undefined) closeSync(this.#former);
    this.#former = undefined;
  }
}

/** Programs may log what others shall not read. */
const LOG_MODE = 0o640;

function openLog(path: string): number {
  try {
    makeFolder(dirname(path));
    return openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, LOG_MODE);
  } catch (error) {
    throw systemError('ERR_SPILLWAY_LOGS', `the log file ${path} cannot be written`, error);
  }
}

/** A terminal, pipe or socket. Once its reader has gone, it has gone for good. */
class StreamSink implements Sink {
  readonly #stream: Socket | WriteStream;
  #done: Done | undefined;

  constructor(stream: Socket | WriteStream) {
    this.#stream = stream;
    stream.on('error', (error) => this.#finish(error));
    // Closed by itself, without an error: as good as one.
    stream.on('close', () =>
      this.#finish(Object.assign(new Error('the output is closed'), { code: 'EPIPE' })),
    );
  }

  write(bytes: Buffer, done: Done): void {
    this.#done = done;
    if (this.#stream.destroyed)
      this.#finish(Object.assign(new Error('the output is closed'), { code: 'EPIPE' }));
    else this.#stream.write(bytes, (error) => this.#finish(error ?? undefined));
  }

  isFinal(): boolean {
    return true;
  }

  close(): void {
    this.#stream.destroy();
  }

  #finish(error?: NodeJS.ErrnoException): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(error);
  }
}

/** Our own stdout or stderr when it is a file. Nobody can reopen it for us. */
class OwnFileSink implements Sink {
  readonly #writer = new DescriptorWriter();
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Buffer, done: Done): void {
    this.#writer.write(this.#fd, bytes, done);
  }

  isFinal({ code }: NodeJS.ErrnoException): boolean {
    return code === 'EBADF' || code === 'EPIPE';
  }

  close(): void {}
}

/** Takes everything and writes nothing. */
const NOWHERE: Sink = { write: (_bytes, done) => setImmediate(done), isFinal: () => true, close: () => {} };

/**
 * The sink for our own stdout (1) or stderr (2), which never makes the event loop wait for a slow reader.
 *
 * Node's own streams write to pipes and terminals synchronously. Making the descriptor non-blocking would change it for
 * everybody who shares it, so pipes are opened anew (proc_pid_fd(5)), as libuv does with terminals.
 */
export function ownOutput(fd: 1 | 2): Sink {
  try {
    if (isatty(fd)) {
      const terminal = new WriteStream(fd);
      (terminal as unknown as { _handle: { setBlocking(on: boolean): void } })._handle.setBlocking(false);
      return new StreamSink(terminal);
    }
    const stat = fstatSync(fd);
    if (stat.isFIFO()) {
      return new StreamSink(new Socket({ fd: openedAgain(fd), readable: false, writable: true }));
    }
    if (stat.isSocket()) return new StreamSink(new Socket({ fd, readable: false, writable: true }));
    return new OwnFileSink(fd);
  } catch {
    // Closed, or its reader has gone already (ENXIO): the workers serve all the same.
    return NOWHERE;
  }
}

/** The same pipe by an open file of our own; the one that others share where it belongs to another user (`sudo -u`). */
function openedAgain(fd: 1 | 2): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENXIO') throw error;
    return fd;
  }
}

/** Whether stdout and stderr are the same open thing: then lines of both must go through one destination. */
export function isOneOutput(): boolean {
  try {
    const [out, err] = [fstatSync(1), fstatSync(2)];
    return out.dev === err.dev && out.ino === err.ino;
  } catch {
    return false;
  }
}
