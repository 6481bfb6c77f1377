/** One master per name: a lock that the kernel takes back when its owner ends, however it ends. */
import { once } from 'node:events';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { SpillwayError, systemError } from '../errors.js';
import { native } from '../native.js';
import { descriptorOf } from '../serve/descriptor.js';
import { claimFolder, lockPath, socketPath } from './names.js';

/** Each further attempt takes another master that ended just then. */
const MOST_ATTEMPTS = 100;

const { O_CREAT, O_NOFOLLOW, O_RDWR } = constants;

export interface Peer {
  pid: number;
  uid: number;
}

/**
 * A name that is ours: the lock (flock(2)) of a file beside the control socket, in a folder where nobody else can put
 * or lock anything. The path of the control socket is free, and nobody else may use it.
 */
export class NameLock {
  /** Of the control socket. */
  readonly path: string;
  readonly #file: string;
  readonly #fd: number;
  #released = false;
  readonly #atExit = () => this.release();

  private constructor(path: string, file: string, fd: number) {
    this.path = path;
    this.#file = file;
    this.#fd = fd;
    process.once('exit', this.#atExit);
  }

  /**
   * Claims the name among the masters whose sockets are in that folder, and removes what a killed one has left there.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_NAME_TAKEN` with the process that has it, `ERR_SPILLWAY_CONTROL`,
   *   `ERR_SPILLWAY_OPTION_RANGE`
   */
  static async claim(folder: string, name: string): Promise<NameLock> {
    const path = socketPath(folder, name);
    claimFolder(folder);
    const file = lockPath(folder, name);
    const lock = new NameLock(path, file, hold(file, name));
    try {
      await removeStale(path, name);
    } catch (error) {
      lock.release();
      throw error;
    }
    return lock;
  }

  /** To be called when the socket file has been removed. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    process.off('exit', this.#atExit);
    // Before the lock goes: whoever opened the file meanwhile sees that it is not the one of that name any more.
    if (isAt(this.#file, this.#fd)) unlinkSync(this.#file);
    closeSync(this.#fd);
  }
}

/**
 * The open and locked file of that name, with our process id in it. A file that a killed master has left is as good as
 * a new one. Node opens every file close-on-exec, so that no child keeps the lock.
 */
function hold(file: string, name: string): number {
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    const fd = attempted(name, () => openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600));
    try {
      if (!attempted(name, () => native().lockFile(fd))) throw taken(name, ownerIn(fd));
      if (isAt(file, fd)) {
        attempted(name, () => {
          ftruncateSync(fd);
          writeSync(fd, `${process.pid}\n`, 0);
        });
        return fd;
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    // Its owner has ended and removed it since it was opened.
    closeSync(fd);
  }
  throw new SpillwayError(
    'ERR_SPILLWAY_CONTROL',
    `the name '${name}' cannot be claimed: ${file} never lasts`,
  );
}

function attempted<Result>(name: string, act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    if (error instanceof SpillwayError) throw error;
    throw systemError('ERR_SPILLWAY_CONTROL', `the name '${name}' cannot be claimed`, error);
  }
}

/** Whether that path leads to the open file. */
function isAt(file: string, fd: number): boolean {
  const there = lstatSync(file, { bigint: true, throwIfNoEntry: false });
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return there !== undefined && there.dev === dev && there.ino === ino;
}

/** Undefined in the moment between its taking the lock and its writing. */
function ownerIn(fd: number): number | undefined {
  const text = readFileSync(fd, 'latin1').trim();
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function taken(name: string, pid: number | undefined): SpillwayError {
  // 0 is what the kernel gives for a process that cannot be seen from here.
  const who = pid ? `: process ${pid}` : '';
  return new SpillwayError('ERR_SPILLWAY_NAME_TAKEN', `a master named '${name}' runs already${who}`, {
    hint: `\`spillway status ${name}\` shows it, \`spillway stop ${name}\` ends it; or start this one under another name with --name.`,
  });
}

/** A file that nobody listens on is what a killed master has left. Somebody can be there if the lock's file was removed. */
async function removeStale(path: string, name: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket()) {
    throw new SpillwayError('ERR_SPILLWAY_CONTROL', `${path} is not a socket, and was not made by Spillway`, {
      hint: 'Move it away, or start the master under another name with --name.',
    });
  }
  const owner = await ownerAt(path, name);
  if (owner) throw taken(name, owner.pid);
  unlinkSync(path);
}

/** Who listens there; undefined if nobody does. */
async function ownerAt(path: string, name: string): Promise<{ pid: number | undefined } | undefined> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return peerOf(socket);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return undefined;
    // Its accept queue is full.
    if (code === 'EAGAIN') return { pid: undefined };
    throw systemError('ERR_SPILLWAY_CONTROL', `the name '${name}' cannot be claimed`, error);
  } finally {
    socket.destroy();
  }
}

/** Who is at the other end of a connected Unix socket, as the kernel noted at its connect() or listen(). */
export function peerOf(socket: Socket): Peer {
  return native().peerCredentials(descriptorOf(socket));
}
