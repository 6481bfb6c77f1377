/**
 * What the processes of a service use, from proc(5). A process may end at any time: then it counts as nothing, and
 * nothing here throws.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Clock ticks per second in /proc/PID/stat: USER_HZ, 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Fields of /proc/PID/stat as proc(5) numbers them. */
const STAT = {
  state: 3,
  parent: 4,
  session: 6,
  userTime: 14,
  systemTime: 15,
  childrenSystemTime: 17,
} as const;

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** A field of /proc/PID/stat by its number from 3 on; undefined when the process has gone. */
function stat(pid: number): ((field: number) => string) | undefined {
  const text = read(`/proc/${pid}/stat`);
  // The second field is the name in parentheses, which may hold anything, parentheses and spaces too.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return text === '' ? undefined : (field) => fields[field - 3] ?? '';
}

function childrenOf(pid: number): number[] {
  return list(`/proc/${pid}/task`).flatMap((thread) =>
    read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  );
}

/** Whether it still runs; a zombie does not. */
export function runs(pid: number): boolean {
  const field = stat(pid);
  if (!field) return false;
  // While threads of an exiting process still run, its first one is a zombie already.
  return field(STAT.state) !== 'Z' || list(`/proc/${pid}/task`).length > 1;
}

/** The process and all its descendants that run, parents first. */
export function treeOf(pid: number): number[] {
  const found: number[] = [];
  for (const queue = [pid]; queue.length > 0; ) {
    const next = queue.shift() as number;
    if (runs(next)) found.push(next);
    queue.push(...childrenOf(next));
  }
  return found;
}

/** The processes of a session (setsid(2)) that run, also those whose parent has gone. */
export function sessionOf(leader: number): number[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => stat(pid)?.(STAT.session) === String(leader) && runs(pid));
}

/**
 * Processor time that the process, its descendants and those of them that have ended and been waited for have used so
 * far: milliseconds, in steps of 10 per process.
 */
export function processorTime(pid: number): number {
  let ticks = 0;
  for (const each of treeOf(pid)) {
    const field = stat(each);
    if (!field) continue;
    // Own and of children that were waited for, which include their own such children; in user and system mode.
    for (let number = STAT.userTime; number <= STAT.childrenSystemTime; number++)
      ticks += Number(field(number));
  }
  return (ticks * 1000) / TICKS_PER_SECOND;
}

/** Of that, what the process itself has used, without any other: milliseconds, in steps of 10. */
export function ownTime(pid: number): number {
  const field = stat(pid);
  if (!field) return 0;
  return ((Number(field(STAT.userTime)) + Number(field(STAT.systemTime))) * 1000) / TICKS_PER_SECOND;
}

/** Processor time of the process's threads that run now: milliseconds, from schedstat's nanoseconds. */
export function runTime(pid: number): number {
  const nanoseconds = list(`/proc/${pid}/task`).map((thread) =>
    Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0]),
  );
  return nanoseconds.reduce((sum, time) => sum + time, 0) / 1e6;
}

/** Proportional share of the process's memory (PSS), bytes: pages that several processes share count in parts. */
export function memory(pid: number): number {
  const kilobytes = /^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1];
  return Number(kilobytes ?? 0) * 1024;
}

/** Open descriptors of the process. */
export function descriptors(pid: number): number {
  return list(`/proc/${pid}/fd`).length;
}

/** Whether one of the processes has a socket that listens on this IPv4 port, whatever its address. */
export function listensOn(pids: readonly number[], port: number): boolean {
  // As /proc/net/tcp writes it: the local port in four hexadecimal digits, and the state TCP_LISTEN.
  const row = new RegExp(
    `^\\s*\\d+: [0-9A-F]{8}:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ 0A (?:\\S+\\s+){5}(\\d+)`,
    'gm',
  );
  return pids.some((pid) => {
    const inodes = new Set([...read(`/proc/${pid}/net/tcp`).matchAll(row)].map(([, inode]) => inode));
    if (inodes.size === 0) return false;
    return list(`/proc/${pid}/fd`).some((fd) => {
      const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1];
      return inode !== undefined && inodes.has(inode);
    });
  });
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
