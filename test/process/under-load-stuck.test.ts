/** One of four workers is stopped under load and goes on three seconds later: it is passed by meanwhile. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { heldConnections, Notes } from '../support/apps/counted.js';
import { Load, monotonic } from '../support/load.js';
import { startMaster, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

const STUCK_AFTER = 200;
/** Milliseconds until a connection comes that the worker does not take, and that timers are late on a busy machine. */
const SLACK = 800;
/** Milliseconds in which it must have been noticed. */
const NOTICED = STUCK_AFTER + 100 + SLACK;
/** Milliseconds that the worker is stopped for. */
const STOPPED = 3000;
/** Milliseconds in which a worker that is free answers, on a machine that has other things to do as well. */
const PROMPT = 250;

// Without a selector the kernel goes on giving it its share: nothing can be passed by.
for (const { selector, missing } of TIERS.filter((tier) => tier.selector !== 'none')) {
  test.skipIf(missing.length > 0)(`a stopped worker is passed by, with ${selector}`, async () => {
    const notes = new Notes();
    const master = await startMaster({
      ...notes.program,
      workers: 4,
      selector,
      // By the connection's hash it would get its share.
      policy: 'hash',
      stuckAfter: STUCK_AFTER,
    });
    const { port } = master.group.address;
    const changes: { pid: number | undefined; stuck: boolean; at: number }[] = [];
    master.on('worker:stuck', ({ pid }, stuck) => changes.push({ pid, stuck, at: monotonic() }));
    const load = await Load.start({ port, mode: 'per-request', rate: 250 });
    await load.goesOn(50);

    const victim = master.workers[2]!;
    await stop(victim.pid!);
    const stoppedAt = monotonic();
    const held = heldConnections(victim.pid!, port);
    await delay(STOPPED);
    const goesOnAt = monotonic();
    const accepted = notes.of('accepted', victim.pid).length;
    victim.kill('SIGCONT');
    await until('it takes connections again', () => notes.of('accepted', victim.pid).length > accepted + 3);
    await load.goesOn(50);
    const { records, failures } = await load.stop();

    expect(failures).toEqual([]);
    const [noticed, back, ...more] = changes;
    expect(more).toEqual([]);
    expect(noticed).toMatchObject({ pid: victim.pid, stuck: true });
    expect(noticed!.at - stoppedAt).toBeLessThan(NOTICED);
    expect(back).toMatchObject({ pid: victim.pid, stuck: false });
    expect(back!.at).toBeGreaterThan(goesOnAt);
    expect(back!.at - goesOnAt).toBeLessThan(1000);

    const meanwhile = records.filter(({ started }) => started > stoppedAt && started < goesOnAt);
    expect(meanwhile.length).toBeGreaterThan(500);
    // What came after it was stopped is served by others; nobody waits for it to go on.
    expect(meanwhile.filter(({ pid }) => pid === victim.pid)).toEqual([]);
    const slow = (limit: number) => records.filter(({ started, ended }) => ended - started > limit);
    const waited = slow(PROMPT).filter(({ port: client }) => !held.has(client));
    expect(waited.filter(({ started }) => started > stoppedAt + NOTICED)).toEqual([]);
    expect(waited.filter(({ started, ended }) => ended - started > NOTICED + PROMPT)).toEqual([]);
    // What it held when it was stopped is its own, and answered in the end; there is not much of it.
    for (const record of slow(NOTICED + PROMPT)) expect(record.pid).toBe(victim.pid);
    // And it is one of four again.
    const later = records.filter(({ started }) => started > back!.at);
    expect(later.filter(({ pid }) => pid === victim.pid).length).toBeGreaterThan(3);
  });
}
