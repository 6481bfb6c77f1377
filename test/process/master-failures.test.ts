/** What a master does about workers that it cannot replace or cannot end. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { hasCapability } from '../../lib/group/capability.js';
import { SocketGroup } from '../../lib/group/group.js';
import { packageRoot } from '../../lib/native.js';
import { Master } from '../../lib/serve/master.js';
import type { Worker } from '../../lib/serve/worker-process.js';
import { program, startMaster } from '../support/serving.js';
import { until } from '../support/until.js';

afterEach(() => vi.restoreAllMocks());

describe('a worker whose socket cannot leave the group', () => {
  const refusal = new Error('EMFILE: too many open files');

  function refuseToLeave() {
    return (['replace', 'remove'] as const).map((way) =>
      vi.spyOn(SocketGroup.prototype, way).mockRejectedValue(refusal),
    );
  }

  /** Kills a worker of a group that cannot let it go; the others serve on, and the master can be closed. */
  async function loseOne(prepare: (master: Master) => void): Promise<void> {
    const master = await startMaster({ script: program('esm-server.mjs'), autoRestart: false });
    refuseToLeave();
    prepare(master);
    const [victim, other] = master.workers as [Worker, Worker];
    victim.kill('SIGKILL');
    await until('the master has heard of it', () => victim.state === 'exited');
    await master.close();
    expect(other.state).toBe('exited');
    expect(master.workers).toEqual([]);
    expect(() => master.group.stats()).toThrow(expect.objectContaining({ code: 'ERR_SPILLWAY_CLOSED' }));
  }

  test("is reported by 'error'", async () => {
    const errors: Error[] = [];
    await loseOne((master) => master.on('error', (error) => errors.push(error)));
    expect(errors).toEqual([refusal]);
  });

  test("is a warning where nobody listens for 'error'", async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    await loseOne(() => {});
    expect(warn.mock.calls).toEqual([[refusal]]);
  });

  test('is not asked to leave while the master starts: the whole start has failed', async () => {
    const leaving = refuseToLeave();
    const start = Master.start({
      script: program('throws.mjs'),
      args: ['0'],
      workers: 1,
      host: '127.0.0.1',
      port: 0,
      stdio: 'ignore',
    });
    await expect(start).rejects.toMatchObject({ code: 'ERR_SPILLWAY_WORKER' });
    for (const way of leaving) expect(way).not.toHaveBeenCalled();
  });
});

describe('workers that the master may not end', () => {
  test('are not started: ERR_SPILLWAY_PERMISSION names CAP_KILL', async () => {
    const wasRoot = process.geteuid?.() === 0;
    // The effective capabilities go with the effective user.
    if (wasRoot) process.seteuid?.(65_534);
    const start = Master.start({ script: program('esm-server.mjs'), uid: 65_533, gid: 65_533 });
    if (wasRoot) process.seteuid?.(0);
    await expect(start).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_PERMISSION',
      message: expect.stringMatching(/uid cannot be 65533: without CAP_KILL/),
    });
  });

  const able = (['CAP_SETUID', 'CAP_SETGID', 'CAP_KILL'] as const).every((name) => hasCapability(name));
  test.skipIf(!able)('make close() fail once the right is given up, and the group is closed', async () => {
    const master = fork(program('gives-up.mjs'), [join(packageRoot, 'dist/lib/index.js')], { execArgv: [] });
    const messages: Record<string, unknown>[] = [];
    master.on('message', (message) => messages.push(message as Record<string, unknown>));
    const ended = once(master, 'exit');
    try {
      await until('it has told how it ended', () => messages.length === 2);
      expect(messages[1]).toEqual({
        error: {
          code: 'ERR_SPILLWAY_WORKER',
          message: expect.stringMatching(/^worker 0 \(process \d+\) cannot be ended: kill EPERM$/),
        },
        use: 'ERR_SPILLWAY_CLOSED',
      });
    } finally {
      master.kill('SIGKILL');
      for (const pid of (messages[0]?.pids ?? []) as number[]) process.kill(pid, 'SIGKILL');
      await ended;
    }
  });
});
