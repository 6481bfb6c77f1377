/** What is known of the workers that run counted.mjs, from their own notes and from the kernel. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { app } from './client.js';

type Event = 'accepted' | 'began' | 'answered';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** The notes of all workers of a test. */
export class Notes {
  readonly #file: string;

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'spillway-counted-'));
    folders.push(folder);
    this.#file = join(folder, 'notes');
  }

  /** Options of the master whose workers write them. */
  get program(): { script: string; env: Record<string, string> } {
    return { script: app('counted.mjs'), env: { COUNT_LOG: this.#file } };
  }

  /** What was noted under an event, of one worker or of all: client ports of `accepted`, else ids of requests. */
  of(event: Event, pid?: number): string[] {
    const lines = readFileSync(this.#file, 'utf8').split('\n').slice(0, -1);
    return lines.flatMap((line) => {
      const [noted, by, what = ''] = line.split(' ');
      return noted === event && (pid === undefined || Number(by) === pid) ? [what] : [];
    });
  }
}

/**
 * The client ports of the connections to `port` that a process has accepted and not closed, by its descriptors. Exact only
 * while it is stopped.
 */
export function heldConnections(pid: number, port: number): Set<number> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const inode = /^socket:\[(\d+)\]$/.exec(targetOf(`/proc/${pid}/fd/${fd}`))?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  const held = new Set<number>();
  const lines = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    readFileSync(file, 'latin1').split('\n').slice(1, -1),
  );
  for (const line of lines) {
    // proc_net(5): sl local_address rem_address st … inode.
    const [, local = '', remote = '', , , , , , , inode = ''] = line.trim().split(/\s+/);
    const clientPort = portOf(remote);
    if (inodes.has(inode) && portOf(local) === port && clientPort !== 0) held.add(clientPort);
  }
  return held;
}

/** What a descriptor is; nothing if it has just been closed. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return '';
  }
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}
