/** One master per name: a lock that the kernel takes back when its owner ends, however it ends. */
import { once } from 'node:events';
import { lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { SpillwayError, systemError } from '../errors.js';
import { native } from '../native.js';
import { claimFolder, socketPath } from './names.js';

/** Bytes of an abstract name after its leading zero. A full one is the same whether or not it is padded with zeros. */
const ABSTRACT_LENGTH = 107;

export interface Peer {
  pid: number;
  uid: number;
}

/** A name that is ours. The path of its control socket is free, and nobody else may use it. */
export class NameLock {
  readonly path: string;
  readonly #server: Server;

  private constructor(path: string, server: Server) {
    this.path = path;
    this.#server = server;
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
    const server = await hold(lockName(folder, name), name);
    try {
      await removeStale(path, name);
    } catch (error) {
      server.close();
      throw error;
    }
    return new NameLock(path, server);
  }

  /** To be called when the socket file has been removed. */
  release(): void {
    this.#server.close();
  }
}

/**
 * An abstract socket's name (unix(7)) that stands for the folder itself, whatever path leads to it, and the name. Unlike
 * a file it cannot be left behind.
 */
function lockName(folder: string, name: string): string {
  const { dev, ino } = lstatSync(folder, { bigint: true });
  return `\0${`spillway/${dev}-${ino}/${name}/`.padEnd(ABSTRACT_LENGTH, '.')}`;
}

async function hold(lock: string, name: string): Promise<Server> {
  for (;;) {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    try {
      server.listen(lock);
      await once(server, 'listening');
      return server;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') {
        throw systemError('ERR_SPILLWAY_CONTROL', `the name '${name}' cannot be claimed`, error);
      }
    }
    const owner = await peerAt(lock);
    if (owner) throw taken(name, owner);
    // It has ended since.
  }
}

function taken(name: string, { pid, uid }: Peer): SpillwayError {
  const foreign = uid !== process.getuid?.() ? ` of the user with id ${uid}` : '';
  return new SpillwayError(
    'ERR_SPILLWAY_NAME_TAKEN',
    `a master named '${name}' runs already: process ${pid}${foreign}`,
    {
      hint: `\`spillway status ${name}\` shows it, \`spillway stop ${name}\` ends it; or start this one under another name with --name.`,
    },
  );
}

/** A file that nobody listens on is what a killed master has left. An owner can be there still: in another network namespace, where our lock is not seen. */
async function removeStale(path: string, name: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket()) {
    throw new SpillwayError('ERR_SPILLWAY_CONTROL', `${path} is not a socket, and was not made by Spillway`, {
      hint: 'Move it away, or start the master under another name with --name.',
    });
  }
  const owner = await peerAt(path);
  if (owner) throw taken(name, owner);
  unlinkSync(path);
}

/** Who listens there: what the kernel noted when listen() was called. Undefined if nobody does. */
async function peerAt(path: string): Promise<Peer | undefined> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return peerOf(socket);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return undefined;
    throw error;
  } finally {
    socket.destroy();
  }
}

/** Who is at the other end of a connected Unix socket. */
export function peerOf(socket: Socket): Peer {
  // Node gives the descriptor of a socket in no other way.
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  return native().peerCredentials(fd);
}
