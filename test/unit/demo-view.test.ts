/** What the demo shows of a made-up moment, and how it reckons rates. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import pc from 'picocolors';
import { afterAll, describe, expect, test } from 'vitest';
import { renderLine } from '../../lib/cli/demo/lines.js';
import { noCounts } from '../../lib/cli/demo/load-protocol.js';
import { Observer, type Reading, type Snapshot } from '../../lib/cli/demo/snapshot.js';
import { renderTable, type Scene } from '../../lib/cli/demo/table.js';
import { doctorCall, hintHere } from '../../lib/cli/doctor-call.js';
import { ERRORS } from '../../lib/errors.js';
import type { GroupStats, SocketStats } from '../../lib/group/group.js';
import { GRANT_EBPF } from '../../lib/group/why.js';

const plain = pc.createColors(false);

interface Moment {
  seconds?: number;
  queues?: number[];
  served?: number[];
  redirected?: number | null;
  slow?: number;
}

function reading({
  seconds = 1,
  queues = [0, 17, 3],
  served = [0, 0, 0],
  redirected = 5,
  slow = 1,
}: Moment): Reading {
  const known = redirected !== null;
  const sockets = queues.map(
    (queue, slot): SocketStats => ({
      slot,
      fd: 20 + slot,
      enabled: true,
      listening: true,
      weight: 1,
      queue,
      limit: 16,
      halfOpen: known ? 0 : null,
      readiness: known ? 'idle' : null,
      chosen: known ? { syn: 100 + slot, cookieAck: 1, migration: 7 } : null,
      redirectedIn: known ? 5 : null,
      redirectedOut: known ? 0 : null,
      connections: known ? 3 : null,
      promised: known ? 0 : null,
      maxConnections: 0,
      kernelDrops: 2,
    }),
  );
  const stats: GroupStats = {
    selector: known ? 'ebpf' : 'cbpf',
    address: { address: '::', family: 6, port: 8080 },
    sockets,
    decisions: null,
    redirected,
    dropped: known ? 0 : null,
    reset: null,
    migrated: 0,
    stale: null,
    kernelDrops: 6,
    waited: known ? 0 : null,
    waiting: null,
  };
  return {
    seconds,
    stats,
    workers: queues.map((_, slot) => ({
      slot,
      pid: 4000 + slot,
      alive: true,
      slow: slot === slow ? 100 : 0,
      served: served[slot] ?? 0,
    })),
    load: { ...noCounts(), rate: 400, underWay: 19 },
  };
}

const moment = (what: Moment): Snapshot => new Observer().observe(reading(what));
const scene: Scene = {
  url: 'http://localhost:8080',
  policy: 'hash',
  notices: [],
  victim: 1,
  flooded: true,
  keys: true,
  ended: false,
};
const view = (snapshot: Snapshot, columns: number, rows = 40, more: Partial<Scene> = {}) =>
  renderTable(snapshot, { ...scene, ...more }, { columns, rows }, plain);

describe('the table', () => {
  test.each([200, 100, 80, 60, 45, 30, 24])(
    'in %i columns: no line is longer, every worker is there',
    (columns) => {
      const lines = view(moment({}), columns).split('\n');
      expect(lines.filter((line) => line.length >= columns)).toEqual([]);
      for (const slot of [0, 1, 2]) expect(lines.some((line) => line.startsWith(`${slot}`))).toBe(true);
      expect(lines.join('\n')).toContain('17/17');
    },
  );

  test('redirects are to be seen in 40 columns as well', () => {
    expect(view(moment({}), 40)).toMatch(/in +out/);
  });

  test('a bar is empty at 0, shows one connection, and is full only when the queue is', () => {
    const bars = (queue: number) => {
      const [, bar = ''] = /([█░]+) +\d+\/17/.exec(view(moment({ queues: [queue] }), 120)) ?? [];
      return bar.replaceAll('░', '').length;
    };
    expect([0, 1, 16, 17, 18].map(bars)).toEqual([0, 1, 11, 12, 12]);
  });

  test('below the selector ebpf what cannot be known is a dash', () => {
    const line = view(moment({ redirected: null }), 120)
      .split('\n')
      .find((each) => each.startsWith('0'));
    expect(line?.match(/–/g)).toHaveLength(3);
    expect(view(moment({ redirected: null }), 120)).toContain('– redirected, – dropped, 6 kernel drops');
  });

  test('with more workers than rows the rest is counted', () => {
    const many = moment({ queues: new Array(60).fill(0) });
    const text = view(many, 100, 30);
    // One row is the cursor's.
    const lines = text.split('\n');
    expect(lines).toHaveLength(29);
    const shown = lines.filter((line) => /^\d+ .*\/17/.test(line)).length;
    expect(shown).toBeGreaterThan(10);
    expect(text).toContain(`… and ${60 - shown} more`);
    expect(text).toContain('Its queue fills');
  });

  test.each([
    [80, 24],
    [40, 15],
    [24, 10],
    [100, 8],
    [100, 5],
  ])('in a window of %i × %i all workers are to be seen', (columns, rows) => {
    const notices = ["The selector 'cbpf' is in force, because missing CAP_BPF and CAP_PERFMON."];
    const lines = view(moment({}), columns, rows, { notices }).split('\n');
    expect(lines.length).toBeLessThan(rows);
    expect(lines.filter((line) => /^\d .*\/17/.test(line))).toHaveLength(3);
  });

  test('as a window gets lower, the explanation goes first, then the command, then blank lines', () => {
    const left = (rows: number) => {
      const text = view(moment({}), 100, rows);
      return [text.includes('Its queue fills'), text.includes('By hand'), /^$/m.test(text)];
    };
    const steps = new Set(Array.from({ length: 40 }, (_, row) => left(40 - row).join()));
    expect([...steps]).toEqual([
      'true,true,true',
      'false,true,true',
      'false,false,true',
      'false,false,false',
    ]);
  });

  test('keys and the command to try are shown while there is something to try', () => {
    expect(view(moment({}), 100)).toContain('q quits');
    expect(view(moment({}), 100, 40, { keys: false })).not.toContain('q quits');
    expect(view(moment({}), 100, 40, { ended: true })).not.toMatch(/q quits|curl/);
  });

  test('colours only colour', () => {
    const snapshot = moment({});
    const size = { columns: 100, rows: 40 };
    const coloured = renderTable(snapshot, scene, size, pc.createColors(true));
    expect(coloured).toContain('\u001b[31m');
    const bare = stripVTControlCharacters(coloured).split('\n');
    expect(bare.map((line) => line.trimEnd())).toEqual(renderTable(snapshot, scene, size, plain).split('\n'));
  });
});

test('the plain line has the same facts', () => {
  const line = renderLine(moment({ seconds: 12 }));
  expect(line).toContain(' 12 s | ');
  expect(line).toContain('1 slow: queue 17/17, served 0, chosen 102, in 5, out 0');
  expect(line).toContain('5 redirected, 0 dropped, 6 kernel drops');
});

test('rates are those of the last second, whatever the distance of the looks', () => {
  const observer = new Observer();
  for (let tick = 0; tick <= 12; tick++) {
    // 100/s for two seconds, then 200/s.
    const served = tick <= 8 ? tick * 25 : 200 + (tick - 8) * 50;
    const snapshot = observer.observe(reading({ seconds: tick / 4, served: [served], redirected: served }));
    const rate = snapshot.workers[0]?.servedPerSecond;
    expect(snapshot.redirectedPerSecond).toBe(rate);
    expect(rate).toBe(tick === 0 ? 0 : tick <= 8 ? 100 : 100 + (tick - 8) * 25);
  }
});

describe('the doctor is named so that it can be called', () => {
  const folders: string[] = [];
  const folder = (...files: string[]) => {
    const path = mkdtempSync(join(tmpdir(), 'spillway-call-'));
    folders.push(path);
    for (const file of files) writeFileSync(join(path, file), '');
    return path;
  };
  afterAll(() => {
    for (const path of folders) rmSync(path, { recursive: true, force: true });
  });

  test.each([
    ['in a checkout', ['tsconfig.json'], 'npm run doctor'],
    ['where it is installed', [], 'npx spillway doctor'],
  ])('%s', (_, files, expected) => {
    const root = folder(...files);
    expect(doctorCall(root)).toBe(expected);
    for (const code of ['ERR_SPILLWAY_OPTION_TIER', 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE'] as const) {
      expect(hintHere(ERRORS[code].hint, root)).toContain(`\`${expected}\``);
    }
    expect(hintHere(GRANT_EBPF, root)).toContain(`\`${expected}\``);
  });
});
