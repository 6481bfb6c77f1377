/** Workers are replaced and their number changes under load: nobody is refused, nothing is reset, no request is lost. */
import { describe, expect, test } from 'vitest';
import type { Master } from '../../lib/serve/master.js';
import { Notes } from '../support/apps/counted.js';
import { Load, type LoadResult, totalsOf } from '../support/load.js';
import { startMaster, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

const RELOADS = 20;

function startLoads(master: Master): Promise<Load[]> {
  const { port } = master.group.address;
  return Promise.all([
    Load.start({ name: 'new', port, mode: 'per-request', rate: 120 }),
    Load.start({ name: 'kept', port, mode: 'keep-alive', rate: 100, connections: 30 }),
  ]);
}

async function stopAll(loads: readonly Load[]): Promise<LoadResult[]> {
  await loads[0]!.goesOn(30);
  return Promise.all(loads.map((load) => load.stop()));
}

function expectNothingLost(results: readonly LoadResult[]): void {
  for (const { totals, failures, connections } of results) {
    expect(failures).toEqual([]);
    expect(totals).toEqual({ ...totalsOf([]), sent: totals.sent, answered: totals.sent });
    expect(connections.reset).toBe(0);
  }
}

function pidsOf(master: Master): number[] {
  return master.workers.filter(({ state }) => state === 'running').map(({ pid }) => pid!);
}

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    test(`${RELOADS} reloads in a row lose nothing`, async () => {
      const notes = new Notes();
      const master = await startMaster({ ...notes.program, selector });
      const loads = await startLoads(master);
      const generations = new Set(pidsOf(master));
      for (let count = 0; count < RELOADS; count++) {
        await master.reload({ together: count % 2 === 1 });
        for (const pid of pidsOf(master)) generations.add(pid);
      }
      const results = await stopAll(loads);
      expectNothingLost(results);
      // Everybody is another one; which of the two at the end the last few connections met is chance.
      expect(generations.size).toBe(2 * (RELOADS + 1));
      const last = pidsOf(master);
      for (const { byPid } of results) expect(last.some((pid) => byPid.has(pid))).toBe(true);
      await until('only the last two are left', () => master.workers.length === 2);
    });

    test('scaling from 2 to 8 and to 1 loses nothing', async () => {
      const notes = new Notes();
      const master = await startMaster({ ...notes.program, selector });
      const loads = await startLoads(master);
      await master.scale(8);
      const eight = pidsOf(master);
      expect(eight).toHaveLength(8);
      const answered = (pid: number) => notes.of('answered', pid).length > 0;
      await until('all eight have answered', () => eight.every(answered));
      await master.scale(1);
      const [last, ...others] = pidsOf(master);
      expect(others).toEqual([]);
      await until('the others have gone', () => master.workers.length === 1);
      const before = notes.of('answered', last).length;
      const results = await stopAll(loads);
      expectNothingLost(results);
      expect(notes.of('answered', last).length).toBeGreaterThan(before);
    });

    test('at the limit idle connections are closed, and only requests that meet that are lost', async () => {
      const notes = new Notes();
      const master = await startMaster({ ...notes.program, selector, drainTimeout: 200 });
      const { port } = master.group.address;
      // Every connection is idle for a second at a time.
      const load = await Load.start({ port, mode: 'keep-alive', rate: 40, connections: 40 });
      await load.goesOn(40);
      for (let count = 0; count < 5; count++) await master.reload();
      await load.goesOn(40);
      const { totals, failures, connections } = await load.stop();
      expect({ ...totals, answered: 0, idleRace: 0 }).toEqual({ ...totalsOf([]), sent: totals.sent });
      expect(totals.answered + totals.idleRace).toBe(totals.sent);
      // The program never saw them: nothing was begun and not finished.
      const began = new Set(notes.of('began'));
      expect(failures.filter(({ id }) => began.has(id))).toEqual([]);
      // The limit was met.
      expect(connections.ended + connections.reset).toBeGreaterThan(0);
    });
  });
}
