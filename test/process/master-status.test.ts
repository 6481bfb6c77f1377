/** What `status()` tells of workers that do not come, while they do not. */
import { describe, expect, test } from 'vitest';
import type { MasterOptions } from '../../lib/serve/options.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { tell } from '../support/apps/client.js';
import { ownNetwork } from '../support/network.js';
import { program, startMaster, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

ownNetwork();

/** Ports that the program asks for; nobody else is in this network. */
const PORTS = [4001, 4002] as const;

/** What the program asks for is all there is. */
const UNDECLARED = { host: undefined, port: undefined } as unknown as Partial<MasterOptions>;

/** Connections, of which a stopped worker gets its share by their hash: that it gets none has odds of (2/3)^60. */
const COUNT = 60;

/** Nobody does anything about whoever is stuck but by rescues, and nobody takes the place of whoever has gone. */
const LEFT_ALONE = { policy: 'hash', stuckAfter: 60_000, autoRestart: false } as const;

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    test('a worker that does not come is late, and what others take from its queue counts as rescues of that port', async () => {
      const master = await startMaster({
        script: program('opens.mjs'),
        args: [`at=${PORTS.join()}`],
        ...UNDECLARED,
        waitReady: true,
        workers: 3,
        selector,
        ...LEFT_ALONE,
      });
      const ports = async () => (await master.status()).ports;
      const readiness = async (port: number) => (await ports())[port]?.sockets.map((each) => each.readiness);
      /** What is known under `ebpf`; nothing is below. */
      const known = <What>(what: What) => (selector === 'ebpf' ? what : null);
      const are = (...wanted: string[]) =>
        until(`they are ${wanted}`, async () => {
          const seen = await Promise.all(PORTS.map((_, port) => readiness(port)));
          return seen.every((each) => each?.join() === wanted.map(known).join());
        });
      expect((await ports()).map(({ port }) => port)).toEqual(PORTS);
      await are('idle', 'idle', 'idle');
      expect((await ports()).map(({ rescues }) => rescues)).toEqual([0, 0]);

      const [stuck, ...others] = master.workers as [Worker, ...Worker[]];
      await stop(stuck.pid!);
      await are('late', 'idle', 'idle');

      const free = others.map(({ slot }) => slot);
      const answers = await Promise.all(
        Array.from({ length: COUNT }, () => tell({ host: '127.0.0.1', port: PORTS[1] }, 'http')),
      );
      for (const { slot } of answers) expect(free).toContain(Number(slot));
      const [first, second] = (await ports()).map(({ rescues }) => rescues);
      expect(first).toBe(0);
      expect(second).toBeGreaterThan(0);

      stuck.kill('SIGCONT');
      await are('idle', 'idle', 'idle');
    });
  });
}

test('while slots are scaled away each worker is listed once', async () => {
  const master = await startMaster({ script: program('esm-server.mjs'), workers: 3 });
  const scaled = master.scale(1);
  const seen: number[][] = [];
  master.on('worker:drain', () => seen.push(master.workers.map(({ slot }) => slot)));
  await scaled;
  expect(seen).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ]);
});
