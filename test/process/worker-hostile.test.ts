/** What a worker writes into its IPC channel may end the worker, but not its master. */
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { Master, type MasterEvents } from '../../lib/serve/master.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { ask, askMany, descriptorCount, program, startMaster } from '../support/serving.js';
import { until } from '../support/until.js';

const script = program('hostile.mjs');

describe('a worker that writes into its channel', () => {
  for (const [deed, what] of [
    ['garbage', 'what is no JSON'],
    ['acknowledge', 'an answer to nothing'],
    ['type', 'a handle of an unknown type'],
    ['server', 'a connection as if it were a server'],
  ] as const) {
    test(`${what} is killed, and another follows`, async () => {
      const master = await startMaster({ script, minUptime: 0 });
      const exits: MasterEvents['worker:exit'][0][] = [];
      master.on('worker:exit', (exit) => exits.push(exit));
      const { pid } = await ask(master, `/${deed}`);
      await until('the worker has gone', () => exits.length === 1);
      expect(exits[0]).toMatchObject({
        pid,
        signal: 'SIGKILL',
        expected: false,
        reason: 'was killed: it wrote what is no message into its IPC channel',
      });
      await until('another is ready', () => master.workers.every(({ state }) => state === 'running'));
      expect(await askMany(master, 10)).toHaveLength(10);
    });
  }

  test('what makes no sense in messages of the kind that masters heed is not believed', async () => {
    const start = Master.start({
      script,
      args: ['nothing'],
      workers: 1,
      stdio: 'ignore',
      startTimeout: 1000,
      killTimeout: 100,
    });
    const eight = Array.from({ length: 8 }, (_, index) => `port ${index + 1}`).join(', ');
    await expect(start).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_WORKER',
      message: expect.stringMatching(
        new RegExp(`^worker 0 \\(process \\d+\\) does not listen; it asked for ${eight} instead$`),
      ),
    });
  });

  test('such messages goes on serving', async () => {
    const master = await startMaster({ script, workers: 1 });
    await ask(master, '/nothing');
    await ask(master);
    expect(master.workers.map(({ state }) => state)).toEqual(['running']);
  });
});

describe('a connection that a worker sends to its master', () => {
  test('is closed when nobody listens for messages', async () => {
    const master = await startMaster({ script, workers: 1 });
    const [worker] = master.workers as [Worker];
    await ask(master);
    const before = descriptorCount();
    await ask(master, '/handles');
    // Node sends one after the other has been received.
    await until('all have been sent', async () => (await ask(master)).sent === 50);
    await until('none is left', () => descriptorCount() <= before);
    expect(worker.state).toBe('running');
  });

  test("is the listener's, and its error is nobody's end", async () => {
    const master = await startMaster({ script, workers: 1 });
    const handles: unknown[] = [];
    master.on('worker:message', (_worker, message, handle) => {
      if (typeof message === 'number') handles.push(handle);
    });
    await ask(master, '/handles');
    await until('all have come', () => handles.length === 50);
    for (const handle of handles as Socket[]) handle.destroy(new Error('reset'));
  });
});
