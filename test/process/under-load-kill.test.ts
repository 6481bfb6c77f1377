/**
 * A worker is killed under load, again and again. What it had accepted dies with it; what waited in its queue, and all
 * that comes afterwards, is served. Which was which is not estimated: the worker is stopped first, its descriptors tell
 * what it holds, and then it is killed in its stopped state.
 *
 * As a service comes, there may be nothing in the queue of a stopped worker: it is passed by, and what waits there is
 * rescued. So that something is left in the queues of those that are killed, there is also a service without either.
 */
import { expect, test } from 'vitest';
import type { Master } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import { heldConnections, Notes } from '../support/apps/counted.js';
import { Load, monotonic, type RequestRecord } from '../support/load.js';
import { startMaster, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

const WORKERS = 3;
const KILLS = 14;
/** Milliseconds that a stopped worker is left until something waits in its queue; the selector may well pass it by. */
const PATIENCE = 40;

interface Kill {
  pid: number;
  at: number;
  /** Client ports of the connections it held. */
  held: Set<number>;
  queued: number;
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);

const running = (master: Master) => master.workers.filter(({ state }) => state === 'running');

async function kill(master: Master, pid: number, slot: number): Promise<Kill> {
  const { port } = master.group.address;
  const queue = () => master.group.stats().sockets.find((socket) => socket.slot === slot)?.queue ?? 0;
  await stop(pid);
  const patience = monotonic() + PATIENCE;
  await until('something waits in its queue', () => queue() > 0 || monotonic() > patience);
  const held = heldConnections(pid, port);
  const queued = queue();
  const at = monotonic();
  process.kill(pid, 'SIGKILL');
  return { pid, at, held, queued };
}

/** The kill that explains why a request failed: its connection was held by the worker that died. */
function reasonOf(record: RequestRecord, kills: readonly Kill[]): Kill | undefined {
  return kills.find(
    ({ at, held }) =>
      held.has(record.port) &&
      record.ended >= at &&
      // A port comes back to another connection only after this one has ended.
      (record.reused || (record.connected ?? record.started) <= at),
  );
}

/** How a service is set up, and how many connections at least are queued at those that are killed, all in all. */
const SETTINGS: [name: string, options: Partial<MasterOptions>, queued: number][] = [
  ['as it comes', {}, 0],
  ['by hash, without rescues', { policy: 'hash', rescue: 0 }, KILLS / 2],
];
const CASES = TIERS.flatMap(({ selector, missing }) =>
  SETTINGS.map(([name, options, queued]) => ({ selector, missing, name, options, queued })),
);

for (const { selector, missing, name, options, queued } of CASES) {
  test.skipIf(missing.length > 0)(
    `only what a killed worker held is lost, with ${selector}, ${name}`,
    async () => {
      const notes = new Notes();
      const master = await startMaster({
        ...notes.program,
        workers: WORKERS,
        selector,
        ...options,
        minUptime: 1,
        restartDelay: 1,
      });
      const { port } = master.group.address;
      const loads = await Promise.all([
        Load.start({ name: 'new', port, mode: 'per-request', rate: 200 }),
        Load.start({ name: 'kept', port, mode: 'keep-alive', rate: 100, connections: 20 }),
      ]);

      const kills: Kill[] = [];
      for (let count = 0; count < KILLS; count++) {
        const victim = running(master)[count % WORKERS]!;
        kills.push(await kill(master, victim.pid!, victim.slot));
        await until('its successor serves', () => {
          const now = running(master);
          return now.length === WORKERS && !now.includes(victim);
        });
      }
      await loads[0].goesOn(50);
      const results = await Promise.all(loads.map((load) => load.stop()));

      const failures = results.flatMap((result) => result.failures);
      // Not held by the dead: nobody may have lost these.
      expect(failures.filter((record) => !reasonOf(record, kills))).toEqual([]);
      // Whoever lost one had not answered it.
      const answered = new Set(notes.of('answered'));
      expect(failures.filter(({ id }) => answered.has(id))).toEqual([]);
      for (const { totals } of results) {
        expect(totals).toMatchObject({ refused: 0, timedOut: 0, wrong: 0, other: 0, unprocessed: 0 });
      }
      // Of the requests that the dead had begun with and not answered, those that came back were just being answered.
      const victims = new Set(kills.map(({ pid }) => pid));
      const lost = new Set(failures.map(({ id }) => id));
      for (const pid of victims) {
        const done = new Set(notes.of('answered', pid));
        const inHand = notes.of('began', pid).filter((id) => !done.has(id));
        const records = results.flatMap((result) => result.records).filter(({ id }) => inHand.includes(id));
        for (const record of records) expect(lost.has(record.id) || record.pid === pid).toBe(true);
      }
      // The kills met what they were to meet.
      expect(victims.size).toBe(KILLS);
      expect(sum(kills.map((each) => each.queued))).toBeGreaterThanOrEqual(queued);
      expect(failures.length).toBeGreaterThan(0);
    },
  );
}
