import pc from 'picocolors';
import { expect, test } from 'vitest';
import { printStatus } from '../../lib/cli/status/print.js';
import { aboutSize, aboutTime } from '../../lib/cli/text.js';
import type { ServiceStatus } from '../../lib/control/protocol.js';

const worker = { uptime: 65_000, restarts: 0, cpu: 12.4, memory: 40 * 2 ** 20, reason: null };
const STATUS: ServiceStatus = {
  name: 'shop',
  version: '1.2.3',
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
    migrated: 2,
    sockets: [0, 1].map((slot) => ({ slot, queue: 3, limit: 511, enabled: true, chosen: null })),
  })),
};

test('the table has what one looks for, unknown as unknown, sums over the ports', () => {
  expect(printStatus(STATUS, 100, pc.createColors(false))).toMatchInlineSnapshot(`
    "shop  running  1 of 2 workers serve  up 2h 5m  process 100  spillway 1.2.3
    /srv/shop.js --colour blue
    logs   /var/log/shop
    3 lines of output could not be written

    worker  state       pid  uptime  restarts  cpu   memory   queue  chosen
         0  running     101   1m 5s         0  12%  40.0 MB  6/1022       –
         1  restarting    –       –         4    –        –  6/1022       –
    worker 1, last end: exited with code 1

    port     selector  redirected  dropped  reset  migrated
    [::]:80  cbpf               –        –      –         2
    [::]:81  cbpf               –        –      –         2
    selector cbpf: missing CAP_BPF
    "
  `);
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
