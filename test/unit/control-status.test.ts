import pc from 'picocolors';
import { describe, expect, test } from 'vitest';
import { printStatus } from '../../lib/cli/status/print.js';
import { aboutSize, aboutTime } from '../../lib/cli/text.js';
import type { ServiceStatus } from '../../lib/control/protocol.js';

const worker = { uptime: 65_000, restarts: 0, cpu: 12.4, memory: 40 * 2 ** 20, connections: 7, reason: null };
const STATUS: ServiceStatus = {
  name: 'shop',
  version: '1.2.3',
  installation: { node: '/usr/bin/node', main: '/srv/spillway.js', files: '0' },
  kept: false,
  pid: 100,
  program: '/srv/shop.js --colour blue',
  config: null,
  logs: '/var/log/shop',
  droppedLines: 3,
  state: 'running',
  uptime: 7_500_000,
  wanted: 2,
  workers: [
    { slot: 0, pid: 101, state: 'running', ...worker },
    {
      slot: 1,
      pid: null,
      state: 'restarting',
      ...worker,
      uptime: null,
      restarts: 4,
      cpu: null,
      memory: null,
      connections: null,
      reason: 'exited with code 1',
    },
  ],
  ports: [80, 81].map((port) => ({
    address: '::',
    family: 6,
    port,
    selector: 'cbpf',
    notice: 'missing CAP_BPF',
    declared: true,
    redirected: null,
    dropped: null,
    reset: null,
    waited: null,
    waiting: null,
    migrated: 2,
    rescues: 5,
    sockets: [0, 1].map((slot) => ({
      slot,
      queue: 3,
      limit: 511,
      enabled: true,
      chosen: null,
      readiness: null,
      maxConnections: 0,
    })),
  })),
};

test('the table has what one looks for, unknown as unknown, sums over the ports', () => {
  expect(printStatus(STATUS, 100, pc.createColors(false))).toMatchInlineSnapshot(`
    "shop  running  1 of 2 workers serve  up 2h 5m  process 100  spillway 1.2.3
    /srv/shop.js --colour blue
    logs   /var/log/shop
    3 lines of output could not be written

    worker  state       pid  uptime  restarts  cpu   memory  open   queue  chosen  loop
         0  running     101   1m 5s         0  12%  40.0 MB     7  6/1022       –  –
         1  restarting    –       –         4    –        –     –  6/1022       –  –
    worker 1, last end: exited with code 1

    port     selector  redirected  dropped  reset  waited  migrated  rescues
    [::]:80  cbpf               –        –      –       –         2        5
    [::]:81  cbpf               –        –      –       –         2        5
    selector cbpf: missing CAP_BPF
    "
  `);
});

describe('how soon a worker comes for its connections', () => {
  type Socket = ServiceStatus['ports'][number]['sockets'][number];

  /** A busy service, each of whose ports has one socket. */
  const serviceOf = (...sockets: Partial<Socket>[]): ServiceStatus => ({
    ...STATUS,
    workers: [{ slot: 0, pid: 30_101, state: 'running', ...worker, restarts: 12, uptime: 7_500_000 }],
    ports: sockets.map((socket, index) => ({
      ...STATUS.ports[0]!,
      selector: 'ebpf',
      notice: null,
      port: 80 + index,
      sockets: [
        {
          slot: 0,
          queue: 0,
          limit: 511,
          enabled: true,
          chosen: 123_456,
          readiness: 'idle',
          maxConnections: 0,
          ...socket,
        },
      ],
    })),
  });
  /** The row of the worker, below its head. */
  const row = (status: ServiceStatus, columns: number, colours = pc.createColors(false)) => {
    const lines = printStatus(status, columns, colours).split('\n');
    const head = lines.findIndex((line) => line.includes('memory'));
    return [lines[head]!, lines[head + 1]!] as const;
  };

  const WORDS = ['idle', 'running', 'late', 'leaving', null] as const;

  test('is a column of its own on a terminal of 90 columns', () => {
    for (const readiness of WORDS) {
      const [head, line] = row(serviceOf({ readiness }), 90);
      expect(head).toMatch(/chosen {2}loop$/);
      expect(line.slice(head.indexOf('loop'))).toBe(readiness ?? '–');
    }
  });

  test('is left out where there is no room for it, whatever is in it', () => {
    const has = new Set<boolean>();
    for (let columns = 60; columns < 100; columns++) {
      const rows = WORDS.map((readiness) => row(serviceOf({ readiness }), columns));
      const shown = new Set(rows.map(([head]) => head.endsWith('loop')));
      expect(shown.size).toBe(1);
      for (const each of shown) has.add(each);
      if (shown.has(true)) for (const line of rows.flat()) expect(line.length).toBeLessThan(columns);
    }
    expect(has).toEqual(new Set([false, true]));
  });

  const CASES: { what: string; sockets: Partial<Socket>[]; shown: string }[] = [
    {
      what: 'the worst of all its ports',
      sockets: [{ readiness: 'idle' }, { readiness: 'late' }, { readiness: 'running' }],
      shown: 'late',
    },
    {
      what: 'not of ports where it is given nothing, as it may not listen there',
      sockets: [{ readiness: 'idle' }, { readiness: 'late', enabled: false }],
      shown: 'idle',
    },
    {
      what: 'also while it is given nothing anywhere, as one that is stuck is',
      sockets: [
        { readiness: 'late', enabled: false },
        { readiness: 'running', enabled: false },
      ],
      shown: 'late',
    },
    {
      what: 'not of ports of which nothing is known',
      sockets: [{ readiness: null }, { readiness: 'running' }],
      shown: 'running',
    },
  ];
  test.each(CASES)('is told as $what', ({ sockets, shown }) => {
    const [head, line] = row(serviceOf(...sockets), 100);
    expect(line.slice(head.indexOf('loop'))).toBe(shown);
  });

  test('catches the eye when it is late, and takes no more room for that', () => {
    const [, late] = row(serviceOf({ readiness: 'late' }), 90, pc.createColors(true));
    expect(late).toContain(pc.createColors(true).yellow('late'));
    const [, idle] = row(serviceOf({ readiness: 'idle' }), 90, pc.createColors(true));
    expect(idle).toMatch(/ {2}idle$/);
  });
});

test('without a port it says so', () => {
  const text = printStatus({ ...STATUS, ports: [] }, 100, pc.createColors(false));
  expect(text).toContain('no port is open yet');
});

test.each([
  [3, '3 ms'],
  [4200, '4.2 s'],
  [42_000, '42 s'],
  [200_000, '3m 20s'],
  [7_500_000, '2h 5m'],
  [1_047_600_000, '12d 3h'],
])('%d milliseconds are %s', (time, text) => expect(aboutTime(time)).toBe(text));

test.each([
  [512, '512 B'],
  [1536, '1.5 KB'],
  [300 * 2 ** 20, '300 MB'],
  [2 ** 31, '2.0 GB'],
])('%d bytes are %s', (bytes, text) => expect(aboutSize(bytes)).toBe(text));
