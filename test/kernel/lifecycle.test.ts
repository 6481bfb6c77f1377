/**
 * Nothing is left over: descriptors after groups that were closed or never came to be, processes that end with groups
 * open, threads that are terminated; and the sizes: a thousand sockets, several groups at once.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { type OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { expectAgreement } from '../support/agreement.js';
import { named } from '../support/named.js';
import { listeningPorts, ownNetwork } from '../support/network.js';
import { openDescriptors, queues, READ_BY, sum, useScene } from '../support/scene.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();

const PORT = 7200;
const HOLDER = fileURLToPath(new URL('../support/holder.mjs', import.meta.url));
const SELECTORS = ['ebpf', 'cbpf', 'none'] as const;

describe.each(SELECTORS)('%s', (selector) => {
  const open = (options: Partial<OpenOptions> = {}) =>
    SocketGroup.open({
      host: '127.0.0.1',
      sockets: 3,
      selector,
      onConnection: (fd) => scene.own(fd),
      ...options,
    });
  const below = selector === 'none' ? 'cbpf' : 'none';

  const LIVES: { what: string; live: () => Promise<void> }[] = [
    { what: 'opened and closed', live: async () => (await open()).close() },
    {
      what: 'closed twice',
      live: async () => {
        const group = await open();
        group.close();
        group.close();
      },
    },
    {
      what: 'closed with connections queued',
      live: async () => {
        const group = await open();
        scene.connect(group, 20);
        group.close();
        scene.endConnections();
      },
    },
    {
      what: 'of which sockets were added, replaced and removed',
      live: async () => {
        const group = await open();
        scene.connect(group, 20);
        await group.add();
        await group.replace(0);
        await group.remove(1);
        await group.remove(3);
        await group.add();
        group.close();
        scene.endConnections();
      },
    },
    {
      what: 'whose selector was changed',
      live: async () => {
        const group = await open();
        group.setOption('selector', below);
        group.setOption('selector', selector);
        group.setOption('selector', 'auto');
        group.close();
      },
    },
    {
      what: 'made of existing sockets',
      live: async () => {
        const listeners = [0, 1, 2].map(() => scene.listener({ port: PORT }));
        const group = await SocketGroup.of(listeners, { selector });
        group.close();
        scene.endConnections();
      },
    },
  ];

  test('the descriptors of an open group are among those that are counted here', async () => {
    const before = openDescriptors().size;
    const group = await open();
    // Its listeners, and with eBPF the maps and programs.
    expect(openDescriptors().size).toBeGreaterThanOrEqual(before + (selector === 'ebpf' ? 8 : 3));
    group.close();
  });

  test.each(named(LIVES, (row) => `20 groups, ${row.what}, leave no descriptor`))(
    '%s',
    async (_, { live }) => {
      await live();
      const before = openDescriptors().size;
      for (let round = 0; round < 20; round++) await live();
      await until('no descriptor is left', () => openDescriptors().size <= before);
    },
  );

  const FAILURES: { what: string; options: Partial<OpenOptions>; code: string }[] = [
    { what: 'the port is taken', options: { port: PORT }, code: 'ERR_SPILLWAY_ADDRESS_IN_USE' },
    {
      what: 'the host is unknown',
      options: { host: 'no.such.host.invalid' },
      code: 'ERR_SPILLWAY_HOST_UNKNOWN',
    },
    {
      what: 'the address is not ours',
      options: { host: '192.0.2.1' },
      code: 'ERR_SPILLWAY_ADDRESS_UNAVAILABLE',
    },
    { what: 'a value is out of range', options: { backlog: 0 }, code: 'ERR_SPILLWAY_OPTION_RANGE' },
    {
      what: 'the kernel does not know a value',
      options: { congestion: 'no-such-algo' },
      code: 'ERR_SPILLWAY_OPTION_RANGE',
    },
    {
      what: 'an option is unknown',
      options: { backlogs: 3 } as unknown as Partial<OpenOptions>,
      code: 'ERR_SPILLWAY_OPTION_UNKNOWN',
    },
  ];

  test.each(
    named(FAILURES, (row) => `a group that cannot be opened because ${row.what} leaves no descriptor`),
  )('%s', async (_, { options, code }) => {
    scene.listener({ port: PORT, reusePort: false });
    const before = openDescriptors();
    for (let round = 0; round < 5; round++) {
      await expect(open(options)).rejects.toMatchObject({ code, hint: expect.any(String) });
    }
    expect(openDescriptors()).toEqual(before);
  });

  test('a closed group answers every call with ERR_SPILLWAY_CLOSED', async () => {
    const group = await open();
    group.close();

    const closed = expect.objectContaining({ code: 'ERR_SPILLWAY_CLOSED' });
    expect(() => group.stats()).toThrow(closed);
    expect(() => group.getOption('backlog')).toThrow(closed);
    expect(() => group.setOption('backlog', 3)).toThrow(closed);
    expect(() => group.fd(0)).toThrow(closed);
    await expect(group.add()).rejects.toEqual(closed);
    await expect(group.replace(0)).rejects.toEqual(closed);
    await expect(group.remove(0)).rejects.toEqual(closed);
  });
});

describe.each(READ_BY)('ebpf, listeners read by %s', (readBy) => {
  test('1024 sockets with a backlog of 1 hold exactly 2048 connections', async () => {
    const group = await scene.open({ sockets: 1024, backlog: 1, readBy });

    const clients = scene.connect(group, 2048 + 5);

    expect(clients.established).toBe(2048);
    expectAgreement(group, clients);
    expect(new Set(queues(group))).toEqual(new Set([2]));
  });

  test('groups side by side have nothing to do with each other', async () => {
    const groups = [
      await scene.open({ sockets: 2, backlog: 1, readBy }),
      await scene.open({ sockets: 3, backlog: 2, overflow: 'reset', readBy }),
      await scene.open({ sockets: 4, backlog: 3, policy: 'least-queue', readBy }),
    ];
    const capacities = [4, 9, 16];
    const clients = groups.map((group, index) => scene.connect(group, capacities[index]! + 3));

    groups.forEach((group, index) => {
      expect(clients[index]!.established).toBe(capacities[index]);
      expectAgreement(group, clients[index]!);
    });

    groups[1]!.close();
    expect(clients[1]!.established).toBe(0);
    expectAgreement(groups[0]!, clients[0]!);
    expectAgreement(groups[2]!, clients[2]!);
  });
});

describe('a program that ends with groups open', () => {
  test.each(
    named(
      [
        { way: 'fall off the end', code: 0 },
        { way: 'exit', code: 0 },
        { way: 'throw', code: 1 },
        { way: 'close', code: 0 },
      ],
      (row) => `by '${row.way}' ends at once with exit code ${row.code}`,
    ),
  )('%s', async (_, { way, code }) => {
    const child = spawn(process.execPath, [HOLDER, way], { stdio: ['ignore', 'inherit', 'pipe'] });
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      complaints += text;
    });

    expect(await once(child, 'close')).toEqual([code, null]);

    if (way === 'throw') expect(complaints).toContain('on purpose');
    else expect(complaints).toBe('');
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)('by %s gives its port back', async (signal) => {
    const child = spawn(process.execPath, [HOLDER, 'stay'], { stdio: 'inherit' });
    const ports = await until('all its groups listen', () => {
      const found = listeningPorts();
      return found.length === 3 ? found : undefined;
    });

    child.kill(signal);
    expect(await once(child, 'exit')).toEqual([null, signal]);

    for (const port of ports) expect((await scene.open({ port })).address.port).toBe(port);
  });

  test('that runs out of descriptors is told so, and keeps none of them', async () => {
    const child = spawn('/bin/sh', ['-c', `ulimit -n 100; exec "$0" "$1" limit`, process.execPath, HOLDER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      said += text;
    });

    expect(await once(child, 'close')).toEqual([0, null]);

    const each = ['ERR_SPILLWAY_LIMIT', 'none'];
    expect(JSON.parse(said)).toEqual([...each, ...each, ...each]);
  });
});

describe('worker threads', () => {
  test('30 threads that are terminated with groups open leave no descriptor and do not crash', {
    timeout: 120_000,
  }, async () => {
    const live = async (way: string) => {
      const worker = new Worker(HOLDER, { workerData: way });
      await once(worker, 'message');
      await worker.terminate();
    };
    await live('stay');
    const before = openDescriptors().size;
    for (let round = 0; round < 30; round++) await live('stay');
    await until('no descriptor is left', () => openDescriptors().size <= before);
  });

  test('threads that end by themselves with groups open leave no descriptor', async () => {
    const before = openDescriptors().size;
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(HOLDER, { workerData: 'fall off the end' });
      expect(await once(worker, 'exit')).toEqual([0]);
    }
    await until('no descriptor is left', () => openDescriptors().size <= before);
  });

  test('a group of the main thread goes on while threads with groups come and go', async () => {
    const group = await scene.open({ sockets: 2, backlog: 20 });
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(HOLDER, { workerData: 'stay' });
      await once(worker, 'message');
      expect(scene.connect(group, 5).established).toBe(5);
      await worker.terminate();
      expect(scene.connect(group, 5).established).toBe(5);
    }
    expect(sum(queues(group))).toBe(30);
  });
});
