/** The master ends gracefully under load: whoever got a connection gets an answer, whoever comes later is refused. */
import { expect, test } from 'vitest';
import { Notes } from '../support/apps/counted.js';
import { Load, monotonic, totalsOf } from '../support/load.js';
import { startMaster, TIERS } from '../support/serving.js';

for (const { selector, missing } of TIERS) {
  test.skipIf(missing.length > 0)(
    `a graceful stop answers what it has taken in, with ${selector}`,
    async () => {
      const notes = new Notes();
      const master = await startMaster({ ...notes.program, workers: 3, selector });
      const { port } = master.group.address;
      const loads = await Promise.all([
        Load.start({ name: 'new', port, mode: 'per-request', rate: 300 }),
        Load.start({ name: 'kept', port, mode: 'keep-alive', rate: 100, connections: 20 }),
      ]);
      await loads[0].goesOn(100);
      const pids = master.workers.map(({ pid }) => pid!);
      await master.close();
      const closedAt = monotonic();
      await loads[0].goesOn(120);
      const [fresh, kept] = await Promise.all(loads.map((load) => load.stop()));

      // A connection that was there was answered; one that was not was refused, and nothing else.
      expect(fresh!.failures.filter(({ outcome }) => outcome !== 'refused')).toEqual([]);
      expect(fresh!.failures.filter(({ connected }) => connected !== undefined)).toEqual([]);
      const { sent, answered, refused } = fresh!.totals;
      expect(answered).toBeGreaterThan(90);
      expect(refused).toBeGreaterThan(40);
      expect(answered + refused).toBe(sent);
      // Afterwards everybody is refused.
      const later = fresh!.records.filter(({ started }) => started > closedAt);
      expect(later.length).toBeGreaterThan(40);
      expect(totalsOf(later)).toMatchObject({ sent: later.length, refused: later.length });

      // Of the kept ones an idle connection may have been closed while a request was leaving; none was begun with.
      const { idleRace } = kept!.totals;
      expect(kept!.totals.answered + kept!.totals.refused + idleRace).toBe(kept!.totals.sent);
      const raced = new Set(
        kept!.failures.flatMap(({ outcome, id }) => (outcome === 'idleRace' ? [id] : [])),
      );
      expect(notes.of('began').filter((id) => raced.has(id))).toEqual([]);
      // Whatever a worker began with it has answered.
      for (const pid of pids)
        expect(new Set(notes.of('began', pid))).toEqual(new Set(notes.of('answered', pid)));
    },
  );
}
