/** Start and end of a master and its workers: what they may do, what is left when something fails. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hasCapability } from '../../lib/group/capability.js';
import { packageRoot } from '../../lib/native.js';
import { Master } from '../../lib/serve/master.js';
import type { MasterOptions } from '../../lib/serve/options.js';
import {
  ask,
  children,
  descriptorCount,
  gone,
  program,
  startMaster,
  status,
  TIERS,
} from '../support/serving.js';
import { until } from '../support/until.js';

const none = '0000000000000000';

describe('a worker holds no privilege', () => {
  const CASES: { what: string; options: Partial<MasterOptions> }[] = [
    { what: 'a Node program', options: { script: program('esm-server.mjs') } },
    { what: 'any other program', options: { command: 'sleep', args: ['1000'] } },
  ];

  for (const { what, options } of CASES) {
    test(`${what} has no capability and gets none by running another program`, async () => {
      const master = await startMaster(options);
      for (const { pid } of master.workers) {
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) expect(status(pid!, set), set).toBe(none);
        expect(status(pid!, 'NoNewPrivs')).toBe('1');
      }
    });
  }

  const able = hasCapability('CAP_SETUID') && hasCapability('CAP_SETGID');
  test.skipIf(!able)('it runs as the user, group and groups that are asked for', async () => {
    const identity = { uid: 65_534, gid: 65_533, groups: [7, 8] };
    const master = await startMaster({ command: 'sleep', args: ['1000'], cwd: '/', ...identity });
    for (const { pid } of master.workers) {
      expect(status(pid!, 'Uid')).toBe('65534\t65534\t65534\t65534');
      expect(status(pid!, 'Gid')).toBe('65533\t65533\t65533\t65533');
      expect(status(pid!, 'Groups')?.trim()).toBe('7 8');
      expect(status(pid!, 'CapEff')).toBe(none);
      // The kernel forgets the parent when the user changes: it has to be told afterwards, and is.
      process.kill(pid!, 0);
    }
  });
});

describe('close()', () => {
  for (const { selector, missing } of TIERS) {
    test.skipIf(missing.length > 0)(`leaves no descriptor and no process, with ${selector}`, async () => {
      const run = async () => {
        const master = await Master.start({
          script: program('obedient.mjs'),
          workers: 3,
          host: '127.0.0.1',
          port: 0,
          stdio: 'pipe',
          selector,
        });
        const first = [...master.workers];
        first[0]?.kill('SIGKILL');
        await until('another has come', () => master.workers.length === 3 && master.workers[0] !== first[0]);
        await ask(master);
        await master.close();
        expect(first.map(({ state }) => state)).toEqual(['exited', 'exited', 'exited']);
        expect(master.workers).toEqual([]);
      };
      // The first run opens what Node and the addon keep.
      await run();
      const before = descriptorCount();
      const childrenBefore = children();
      for (let round = 0; round < 3; round++) await run();
      await until('no descriptor is left', () => descriptorCount() <= before);
      expect(children()).toEqual(childrenBefore);
    });
  }

  test('may be called twice, at once and later', async () => {
    const master = await startMaster({ script: program('esm-server.mjs') });
    await Promise.all([master.close(), master.close()]);
    await master.close();
  });

  test('kills what does not end on SIGTERM, after its timeout', async () => {
    const master = await startMaster({ script: program('stubborn.mjs') });
    const heard: unknown[] = [];
    const signals: unknown[] = [];
    master.on('worker:message', (_worker, message) => heard.push(message));
    master.on('worker:exit', ({ signal }) => signals.push(signal));
    await master.close({ timeout: 300 });
    expect(heard).toEqual(['I stay', 'I stay']);
    expect(signals).toEqual(['SIGKILL', 'SIGKILL']);
  });
});

describe('workers end with their master', () => {
  const ENTRY = join(packageRoot, 'dist/lib/index.js');
  const CASES = [
    { what: 'that is killed', script: 'esm-server.mjs', after: 'stay' },
    { what: 'that exits without closing', script: 'esm-server.mjs', after: 'exit' },
    { what: 'that is killed, also when they do not end on SIGTERM', script: 'stubborn.mjs', after: 'stay' },
  ];

  for (const { what, script, after } of CASES) {
    test(what, async () => {
      const master = fork(program('master.mjs'), [ENTRY, program(script), after], { execArgv: [] });
      const ended = once(master, 'exit');
      const [{ pids, port }] = (await once(master, 'message')) as [{ pids: number[]; port: number }];
      expect(pids).toHaveLength(2);
      if (after === 'stay') master.kill('SIGKILL');
      await ended;
      for (const pid of pids) await gone(pid);
      // Nobody holds the port any more.
      const server = createServer().listen(port, '127.0.0.1');
      await once(server, 'listening');
      server.close();
    });
  }
});

describe('a start that fails', () => {
  /** What start() rejects with; everything must be undone by then. */
  async function failure(options: Partial<MasterOptions>): Promise<unknown> {
    // The file systems and the name service have been used once.
    const before = descriptorCount();
    const childrenBefore = children();
    const error = await Master.start({
      host: '127.0.0.1',
      port: 0,
      workers: 3,
      stdio: 'ignore',
      ...options,
    } as MasterOptions).then(
      async (master) => {
        await master.close();
        throw new Error('the master started');
      },
      (reason: unknown) => reason,
    );
    expect(children()).toEqual(childrenBefore);
    await until('every descriptor is closed', () => descriptorCount() <= before);
    return error;
  }

  const CASES: { what: string; options: Partial<MasterOptions>; code: string; message: RegExp }[] = [
    {
      what: 'no such script',
      options: { script: 'no-such-program.js' },
      code: 'ERR_SPILLWAY_SCRIPT_MISSING',
      message: /no-such-program\.js/,
    },
    {
      what: 'no such command',
      options: { command: 'no-such-program' },
      code: 'ERR_SPILLWAY_SCRIPT_MISSING',
      message: /no-such-program.* PATH/,
    },
    {
      what: 'a command that is not executable',
      options: { command: program('listen-fds.py') },
      code: 'ERR_SPILLWAY_SCRIPT_MISSING',
      message: /listen-fds\.py cannot be executed/,
    },
    {
      what: 'neither script nor command',
      options: {},
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /script and command/,
    },
    {
      what: 'both script and command',
      options: { script: program('esm-server.mjs'), command: 'sleep' },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /script and command/,
    },
    {
      what: 'no workers',
      options: { script: program('esm-server.mjs'), workers: 0 },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /workers cannot be 0; it takes: integer, 1 to 1024/,
    },
    {
      what: 'a user without a group',
      options: { script: program('esm-server.mjs'), uid: 65_534 },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /uid needs gid/,
    },
    {
      what: 'a folder that is not there',
      options: { script: program('esm-server.mjs'), cwd: '/no/such/folder' },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /\/no\/such\/folder/,
    },
    {
      what: 'an unknown option',
      options: { script: program('esm-server.mjs'), wokers: 2 } as Partial<MasterOptions>,
      code: 'ERR_SPILLWAY_OPTION_UNKNOWN',
      message: /wokers/,
    },
    {
      what: 'an option of the group that is out of range',
      options: { script: program('esm-server.mjs'), backlog: 0 },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: /backlog/,
    },
    {
      what: 'a program that throws at its start',
      options: { script: program('throws.mjs'), args: ['0'], workers: 1 },
      code: 'ERR_SPILLWAY_WORKER',
      message: /worker 0 \(process \d+\) exited with code 1 before it listened/,
    },
    {
      what: 'a program that ends without listening',
      options: { script: program('listen-forms.mjs') },
      code: 'ERR_SPILLWAY_WORKER',
      message: /exited with code 0 before it listened/,
    },
    {
      what: 'a program whose interpreter is not there',
      options: { command: program('no-interpreter') },
      code: 'ERR_SPILLWAY_WORKER',
      message: /cannot run '.*no-interpreter': No such file or directory/,
    },
    {
      what: 'a program that listens on another port only',
      options: { script: program('elsewhere.mjs'), args: ['0'], workers: 1, startTimeout: 1500 },
      code: 'ERR_SPILLWAY_WORKER',
      message: /worker 0 .* does not listen; it asked for any free port \(0\) instead/,
    },
    {
      what: 'an argument that is too long for the system',
      options: { script: program('esm-server.mjs'), args: ['x'.repeat(200_000)] },
      code: 'ERR_SPILLWAY_WORKER',
      message: /worker 0 cannot be started: spawn E2BIG/,
    },
  ];

  for (const { what, options, code, message } of CASES) {
    test(`${what}: ${code}, and nothing is left`, async () => {
      const error = await failure(options);
      expect(error).toMatchObject({ name: 'SpillwayError', code, message: expect.stringMatching(message) });
    });
  }

  test('a program that asks for another port, which is taken: the message names it', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const error = await failure({ script: program('elsewhere.mjs'), args: [String(port)], workers: 1 });
    expect(error).toMatchObject({
      code: 'ERR_SPILLWAY_WORKER',
      message: expect.stringMatching(
        new RegExp(`exited with code 1 before it listened; it asked for port ${port} instead`),
      ),
    });
    server.close();
  });

  for (const options of [undefined, null, 'app.js', 4n]) {
    test(`no object of options but ${options}: ERR_SPILLWAY_OPTION_RANGE`, async () => {
      await expect(Master.start(options as never)).rejects.toMatchObject({
        code: 'ERR_SPILLWAY_OPTION_RANGE',
        message: expect.stringContaining('they are an object with script or command'),
      });
    });
  }

  test('a value that has no JSON: ERR_SPILLWAY_OPTION_RANGE', async () => {
    await expect(Master.start({ script: 'app.js', workers: 4n as never })).rejects.toMatchObject({
      code: 'ERR_SPILLWAY_OPTION_RANGE',
      message: 'workers cannot be 4n; it takes: integer, 1 to 1024, or { min, max } of them',
    });
  });

  test('a port that is taken: ERR_SPILLWAY_ADDRESS_IN_USE, before any worker is started', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const error = await failure({ script: program('esm-server.mjs'), port });
    expect(error).toMatchObject({ code: 'ERR_SPILLWAY_ADDRESS_IN_USE' });
    server.close();
  });
});
