/** What a running master tells of itself. */
import type { SocketStats } from '../group/group.js';
import type { SelectorName } from '../group/options.js';
import type { Port } from './port.js';
import type { Usage } from './process-usage.js';
import type { Slot } from './slot.js';
import type { WorkerProcess, WorkerState } from './worker-process.js';

export type MasterState = 'starting' | 'running' | 'reloading' | 'stopping' | 'stopped';

export interface WorkerStatus {
  slot: number;
  pid: number | null;
  /** Besides the worker's own states: `stuck`; and of a slot without a worker: `restarting`, `failed`, `stopped`. */
  state: WorkerState | 'stuck' | 'restarting' | 'failed' | 'stopped';
  /** Milliseconds since its start. */
  uptime: number | null;
  /** How often the slot's worker has been started again by itself. */
  restarts: number;
  /** Percent of one CPU. */
  cpu: number | null;
  /** Resident bytes. */
  memory: number | null;
  /** Connections that it has open on all ports, those in its accept queues included; null where they are not counted. */
  connections: number | null;
  /** Why the slot's last worker has gone, or could not start. */
  reason: string | null;
}

export interface SocketStatus {
  slot: number;
  /** Connections that wait to be accepted. */
  queue: number;
  limit: number;
  enabled: boolean;
  /** Connections it was given, those of leaving siblings included; null below `ebpf`. */
  chosen: number | null;
  /** How soon its worker is likely to take what comes, as in {@link SocketStats}; null below `ebpf`. */
  readiness: SocketStats['readiness'];
  /** How many connections its worker may have; 0: as many as come. */
  maxConnections: number;
}

export interface PortStatus {
  address: string;
  family: 4 | 6;
  port: number;
  selector: SelectorName;
  /** Why not a better selector. */
  notice: string | null;
  /** Whether the owner of the master asked for it, and not the program. */
  declared: boolean;
  /** Null below `ebpf`. */
  redirected: number | null;
  dropped: number | null;
  reset: number | null;
  /** Connections that were put on the waiting list. */
  waited: number | null;
  /** Of those, who waits now, and for how many milliseconds the first; null without a waiting list. */
  waiting: { length: number; age: number } | null;
  migrated: number;
  /** Times a free worker was sent to take from the queue of one that did not come, since the start of the master. */
  rescues: number;
  sockets: SocketStatus[];
}

export interface MasterStatus {
  pid: number;
  state: MasterState;
  /** Milliseconds. */
  uptime: number;
  /** How many workers there are to be. */
  wanted: number;
  workers: WorkerStatus[];
  ports: PortStatus[];
}

/** A slot without a worker. */
function slotStatus(slot: Slot): WorkerStatus {
  const { number, isRestarting, failed, restarts, lastReason } = slot;
  const state = isRestarting ? 'restarting' : failed ? 'failed' : 'stopped';
  return {
    slot: number,
    pid: null,
    state,
    uptime: null,
    restarts,
    cpu: null,
    memory: null,
    connections: null,
    reason: failed?.message ?? lastReason ?? null,
  };
}

/** A slot's workers, or the slot itself while nobody works there, unless it has been scaled away. */
export function slotRows(
  slot: Slot,
  isRetired: boolean,
  usage: ReadonlyMap<number, Usage>,
  ports: readonly Port[],
): WorkerStatus[] {
  const living = slot.workers.filter(({ state }) => state !== 'exited');
  if (living.length === 0 && !isRetired) return [slotStatus(slot)];
  return living.map((worker) => workerStatus(worker, slot, usage.get(worker.pid ?? 0), ports));
}

function connectionsOf(pid: number | undefined, ports: readonly Port[]): number | null {
  const counts = ports.flatMap(({ group }) => (pid === undefined ? [] : (group.connectionsOf(pid) ?? [])));
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

function workerStatus(
  worker: WorkerProcess,
  slot: Slot,
  usage: Usage | undefined,
  ports: readonly Port[],
): WorkerStatus {
  return {
    slot: worker.slot,
    pid: worker.pid ?? null,
    state: worker.stuck && worker.state === 'running' ? 'stuck' : worker.state,
    uptime: performance.now() - worker.startedAt,
    restarts: slot.restarts,
    cpu: usage?.cpu ?? null,
    memory: usage?.memory ?? null,
    connections: connectionsOf(worker.pid, ports),
    reason: slot.lastReason ?? null,
  };
}

export function portStatus({ group, declared }: Port, rescues: number): PortStatus {
  const { address, selector, redirected, dropped, reset, waited, waiting, migrated, sockets } = group.stats();
  return {
    ...address,
    selector,
    notice: group.notice ?? null,
    declared,
    redirected,
    dropped,
    reset,
    waited,
    waiting: waiting && { length: waiting.length, age: waiting.age },
    migrated,
    rescues,
    sockets: sockets.map(({ slot, queue, limit, enabled, chosen, readiness, maxConnections }) => ({
      slot,
      queue,
      limit,
      enabled,
      chosen: chosen ? chosen.syn + chosen.cookieAck + chosen.migration : null,
      readiness,
      maxConnections,
    })),
  };
}
