import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach } from 'vitest';
import { type CommonOptions, type GroupStats, type OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { Clients } from './clients.js';
import { type ListenerOptions, type Target, testing } from './testing.js';
import { until } from './until.js';

/** Both ways in which the kernel program can read a listener; what holds for one must hold for the other. */
export const READ_BY = ['cast', 'probe'] as const;
export type ReadBy = (typeof READ_BY)[number];

/** Where the descriptors of a group or a connection point to: sockets, BPF objects with their types, epoll sets. */
const OF_A_GROUP = /^(socket:|anon_inode:\[?(bpf|btf|eventpoll))/;

/** Descriptors of this process that a group or a connection may be behind, with what they are. */
export function openDescriptors(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${name}`);
      if (OF_A_GROUP.test(target)) found.set(Number(name), target);
    } catch (error) {
      // The descriptor of the listing itself is gone by now.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}

/** Everything a test opens. It is closed after the test, and then no descriptor may be left that was not there before. */
export class Scene {
  readonly #groups = new Set<SocketGroup>();
  readonly #clients: Clients[] = [];
  readonly #fds = new Set<number>();

  async open(options: Partial<OpenOptions> = {}): Promise<SocketGroup> {
    const group = await SocketGroup.open({ host: '127.0.0.1', sockets: 4, ...options });
    this.#groups.add(group);
    return group;
  }

  async of(fds: readonly number[], options?: CommonOptions): Promise<SocketGroup> {
    const group = await SocketGroup.of(fds, options);
    this.#groups.add(group);
    return group;
  }

  connect(to: SocketGroup | Target, count: number): Clients {
    const clients = Clients.connect(to, count);
    this.#clients.push(clients);
    return clients;
  }

  /** A socket that is not a group's; listens with a backlog of 100 unless told otherwise. */
  listener(options: Partial<ListenerOptions> = {}): number {
    return this.own(
      testing().openListener({
        address: '127.0.0.1',
        family: 4,
        port: 0,
        backlog: 100,
        reusePort: true,
        ...options,
      }),
    );
  }

  /** A descriptor to be closed after the test. */
  own(fd: number): number {
    this.#fds.add(fd);
    return fd;
  }

  /** Closes such a descriptor now. */
  close(fd: number): void {
    this.#fds.delete(fd);
    testing().closeMany([fd]);
  }

  /** Takes everything that waits at a listener. */
  accept(listener: number): number[] {
    return testing()
      .acceptMany(listener)
      .map((fd) => this.own(fd));
  }

  /** Takes everything that waits in a group; by slot. */
  acceptAll(group: SocketGroup): number[][] {
    const taken: number[][] = [];
    for (const { slot, fd } of group.stats().sockets) taken[slot] = this.accept(fd);
    return taken;
  }

  /** Closes all clients and whatever else is not a group. */
  endConnections(): void {
    for (const clients of this.#clients) clients.close();
    testing().closeMany([...this.#fds]);
    this.#clients.length = 0;
    this.#fds.clear();
  }

  end(): void {
    for (const group of this.#groups) group.close();
    this.#groups.clear();
    this.endConnections();
  }
}

/** A scene for every test of the file; to be called once, at its top. */
export function useScene(): Scene {
  const scene = new Scene();
  let before = 0;
  beforeEach(() => {
    before = openDescriptors().size;
  });
  afterEach(async () => {
    scene.end();
    // Handles of the event loop are closed at its next turn.
    await until(`no descriptor is left over (there were ${before})`, () => openDescriptors().size <= before);
  });
  return scene;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

/** Queue lengths by slot, as far as slots have a socket. */
export function queues(group: SocketGroup): number[] {
  return group.stats().sockets.map(({ queue }) => queue);
}

/** Decisions of one kind that gave the connection to a slot. */
export function taken(stats: GroupStats, kind: 'syn' | 'cookieAck' | 'migration'): number {
  const { first, redirected } = stats.decisions![kind];
  return first + redirected;
}

/** Turns every slot off but one, for as long as `during` runs: whatever connects then goes there. */
export async function onlySlot<T>(
  group: SocketGroup,
  slot: number,
  during: () => T | Promise<T>,
): Promise<T> {
  const before = group.stats().sockets;
  group.setOption('enabled', true, slot);
  for (const other of before) if (other.slot !== slot) group.setOption('enabled', false, other.slot);
  try {
    return await during();
  } finally {
    for (const other of before) group.setOption('enabled', other.enabled, other.slot);
  }
}
