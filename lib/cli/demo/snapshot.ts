/** What is going on in the demo at one moment: the facts that the table, the lines and the JSON object show. */
import type { GroupStats } from '../../group/group.js';
import type { SelectorName } from '../../group/options.js';
import type { LoadCounts } from './load-protocol.js';

/** What is known without the kernel's counters. */
export interface WorkerReading {
  slot: number;
  pid: number | null;
  alive: boolean;
  /** Milliseconds that every request blocks it. */
  slow: number;
  /** Requests it has answered, as it says itself. */
  served: number;
}

export interface WorkerFacts extends WorkerReading {
  /** Requests it has answered in the last second. */
  servedPerSecond: number;
  /** Connections in its accept queue, and how many that holds; null when its socket has left the group. */
  queue: number | null;
  places: number | null;
  /** Connections it was chosen for, first choice or not; null below the selector `ebpf`, as the next two. */
  chosen: number | null;
  redirectedIn: number | null;
  redirectedOut: number | null;
}

export interface Snapshot {
  /** Seconds since the demo was ready. */
  seconds: number;
  selector: SelectorName;
  workers: WorkerFacts[];
  connectionsPerSecond: number;
  redirected: number | null;
  redirectedPerSecond: number | null;
  dropped: number | null;
  /** What the kernel dropped by itself, at full queues. */
  kernelDrops: number;
  load: LoadCounts & { rate: number | null; underWay: number };
}

/** What a snapshot is made of. */
export interface Reading extends Pick<Snapshot, 'seconds' | 'load'> {
  stats: GroupStats;
  workers: WorkerReading[];
}

/** Makes snapshots of readings; remembers the last second for the rates. */
export class Observer {
  #past: Snapshot[] = [];

  observe({ seconds, stats, workers, load }: Reading): Snapshot {
    const since = this.#secondBefore(seconds);
    const perSecond = (now: number, then: number) =>
      since && seconds > since.seconds ? Math.round((now - then) / (seconds - since.seconds)) : 0;
    const sockets = new Map(stats.sockets.map((socket) => [socket.slot, socket]));
    const facts = workers.map((worker) => {
      const socket = sockets.get(worker.slot);
      const before = since?.workers.find(({ slot }) => slot === worker.slot);
      return {
        ...worker,
        servedPerSecond: perSecond(worker.served, before?.served ?? 0),
        queue: socket?.queue ?? null,
        // listen(2): a queue with the limit n holds n + 1.
        places: socket ? socket.limit + 1 : null,
        chosen: socket?.chosen ? socket.chosen.syn + socket.chosen.cookieAck : null,
        redirectedIn: socket?.redirectedIn ?? null,
        redirectedOut: socket?.redirectedOut ?? null,
      };
    });
    const snapshot: Snapshot = {
      seconds,
      selector: stats.selector,
      workers: facts,
      connectionsPerSecond: facts.reduce((sum, { servedPerSecond }) => sum + servedPerSecond, 0),
      redirected: stats.redirected,
      redirectedPerSecond:
        stats.redirected === null ? null : perSecond(stats.redirected, since?.redirected ?? 0),
      dropped: stats.dropped,
      kernelDrops: stats.kernelDrops,
      load: { ...load, byWorker: { ...load.byWorker } },
    };
    this.#past.push(snapshot);
    return snapshot;
  }

  /** The youngest snapshot that is at least a second old, or the oldest there is. Older ones are forgotten. */
  #secondBefore(seconds: number): Snapshot | undefined {
    while ((this.#past[1]?.seconds ?? Number.POSITIVE_INFINITY) <= seconds - 1) this.#past.shift();
    return this.#past[0];
  }
}

/** What `spillway demo --json` prints when it ends; docs/cli.md describes it field by field. */
export interface DemoResult
  extends Pick<Snapshot, 'seconds' | 'selector' | 'redirected' | 'dropped' | 'kernelDrops'> {
  notice: string | null;
  port: number;
  workers: (Pick<WorkerFacts, 'slot' | 'pid' | 'served' | 'redirectedIn' | 'redirectedOut' | 'queue'> & {
    backlog: number | null;
  })[];
  load: LoadCounts;
}

/** @param last the moment when the load ended; `final` the one when everything under way had come to an end. */
export function resultOf(
  last: Snapshot,
  final: Snapshot,
  { port, notice }: { port: number; notice: string | undefined },
): DemoResult {
  const { rate: _rate, underWay: _underWay, ...load } = final.load;
  return {
    selector: final.selector,
    notice: notice ?? null,
    port,
    workers: final.workers.map(({ slot, pid, served, redirectedIn, redirectedOut }) => {
      const then = last.workers.find((worker) => worker.slot === slot);
      return {
        slot,
        pid,
        served,
        redirectedIn,
        redirectedOut,
        queue: then?.queue ?? null,
        backlog: then?.places ? then.places - 1 : null,
      };
    }),
    redirected: final.redirected,
    dropped: final.dropped,
    kernelDrops: final.kernelDrops,
    load,
    seconds: Math.round(last.seconds * 10) / 10,
  };
}
