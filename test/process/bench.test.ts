import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { driverNamed } from '../../bench/drivers/index.js';
import type { DriverResult, Report, RoundResult, VariantResult } from '../../bench/report/schema.js';
import { SCENARIOS } from '../../bench/scenarios/index.js';
import { treeOf } from '../../bench/service/processes.js';
import { packageRoot } from '../../lib/native.js';
import { gone } from '../support/serving.js';
import { until } from '../support/until.js';

const folder = mkdtempSync(join(tmpdir(), 'bench-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MAIN = join(packageRoot, 'dist', 'bench', 'main.js');

function start(...args: string[]): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function ended(child: ReturnType<typeof start>) {
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

/** Runs the comparison to its end. */
const bench = (...args: string[]) => ended(start(...args, '--html', join(folder, 'run.html')));

/** One variant of every core scenario: those that two drivers take turns in, and those that Spillway is measured in. */
const COMPARED = ['stop-1', 'slowly'];
const ALONE = [
  ...['saturation', 'rate-4000', 'spin-400-far', 'load-60', 'times-', 'deaths-1', 'rate-800'],
  ...['sockets-2', 'workers-4'],
];
const CORE = SCENARIOS.filter(({ core }) => core).map(({ name }) => name);

describe('a quick run of every core scenario', () => {
  let report: Report;
  let compared: Report;
  let stdout: string;

  beforeAll(async () => {
    const run = async (...args: string[]): Promise<Report> => {
      const json = join(folder, 'run.json');
      const ran = await bench('--quick', '--json', json, ...args);
      expect(ran.stderr).toBe('');
      expect(ran.code).toBe(0);
      stdout = ran.stdout;
      return JSON.parse(readFileSync(json, 'utf8'));
    };
    compared = await run('--driver', 'spillway,reuseport', '--variant', COMPARED.join());
    report = await run('--driver', 'spillway', '--variant', ALONE.join());
    expect(readFileSync(join(folder, 'run.html'), 'utf8')).toContain('</html>');
  }, 300_000);

  const variants = () =>
    [report, compared].flatMap(({ scenarios }) => scenarios.flatMap(({ variants }) => variants));
  const variant = (scenario: string, id: string, from = report) => {
    const found = from.scenarios
      .find(({ name }) => name === scenario)
      ?.variants.find((each) => each.id === id);
    return found as VariantResult;
  };
  const rounds = ({ drivers }: VariantResult) => drivers.flatMap(({ rounds }) => rounds);
  const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
  const outcomesOf = ({ outcomes }: RoundResult) => {
    if (outcomes === null) throw new Error('the requests were not recorded');
    return outcomes;
  };

  test('has a result of every driver in every variant, and nothing failed', () => {
    const seen = [report, compared].flatMap(({ scenarios }) =>
      scenarios.filter(({ variants }) => variants.length > 0).map(({ name }) => name),
    );
    expect([...seen].sort()).toEqual([...CORE].sort());
    for (const { drivers } of variants()) {
      expect(drivers.map(({ driver }) => driver)).toContain('spillway');
      for (const { absent, rounds } of drivers) {
        expect(absent).toBeNull();
        expect(rounds).toHaveLength(1);
      }
    }
  });

  test('every figure that was announced came out', () => {
    for (const { figures, drivers } of variants()) {
      for (const { driver, figures: values } of drivers) {
        for (const { name } of figures) {
          // Nobody failed, or nobody decided: there is nothing to tell then.
          if (name === 'failsAfter' || (name === 'decision' && driver === 'reuseport')) continue;
          expect(values[name]?.median, `${driver} ${name}`).toEqual(expect.any(Number));
        }
      }
    }
  });

  test('requests add up: answered ones have a worker, all others an outcome', () => {
    for (const each of variants().filter(({ drivers }) => drivers.some(({ firstByte }) => firstByte))) {
      for (const round of rounds(each)) {
        const { workers } = round;
        const outcomes = outcomesOf(round);
        expect(outcomes.ok).toBeGreaterThan(0);
        expect(sum(workers)).toBe(outcomes.ok);
        expect(outcomes['not-sent']).toBe(0);
      }
      for (const { timeline, rounds } of each.drivers) {
        const outcomes = outcomesOf(rounds[0] as RoundResult);
        expect(sum(timeline?.answered ?? [])).toBe(outcomes.ok);
        expect(sum(timeline?.failed ?? [])).toBe(sum(Object.values(outcomes)) - outcomes.ok);
      }
    }
  });

  test('in an open loop every rival got the same number of requests', () => {
    for (const [scenario, id] of [
      ['hang', 'stop-1'],
      ['balance', 'slowly'],
    ] as const) {
      const both = rounds(variant(scenario, id, compared));
      const counts = both.map((round) => sum(Object.values(outcomesOf(round))));
      expect(counts).toHaveLength(2);
      expect(counts[0]).toBeGreaterThan(50);
      expect(counts[1]).toBe(counts[0]);
    }
  });

  test('behind a link with a delay nobody is answered sooner than the link allows', () => {
    const { settings, drivers } = variant('stall', 'spin-400-far');
    expect(settings.roundTrip).toBe(20);
    // A handshake and a request: two times there and back.
    expect(drivers[0]?.figures.p50?.min).toBeGreaterThan(40);
  });

  test('rates follow from counts', () => {
    const { settings, drivers } = variant('rate', 'saturation');
    for (const { figures, rounds } of drivers) {
      const outcomes = outcomesOf(rounds[0] as RoundResult);
      expect(figures.rate?.median).toBeCloseTo(outcomes.ok / (Number(settings.milliseconds) / 1000));
    }
  });

  test('the deviation follows from the counts per worker', () => {
    for (const { figures, rounds } of variant('balance', 'slowly', compared).drivers) {
      const [{ workers }] = rounds as [RoundResult];
      const all = [...workers, ...Array<number>(8).fill(0)].slice(0, 8);
      const mean = sum(all) / 8;
      expect(figures.deviation?.median).toBeCloseTo(Math.sqrt(sum(all.map((n) => (n - mean) ** 2)) / 8));
    }
  });

  test('percentiles are in order', () => {
    for (const { figures } of variants().flatMap(({ drivers }) => drivers)) {
      const { p50, p99, max } = figures;
      if (p50 && p99) expect(p50.median).toBeLessThanOrEqual(p99.median);
      if (p99 && max) expect(p99.median).toBeLessThanOrEqual(max.median);
    }
  });

  test('one round gives no verdict', () => {
    const verdicts = compared.scenarios.flatMap(({ variants }) =>
      variants.flatMap(({ verdicts }) => verdicts),
    );
    expect(verdicts.length).toBeGreaterThan(0);
    for (const { comparison } of verdicts) expect(comparison.verdict).toBe('unknown');
  });

  test('what is printed names every scenario', () => {
    for (const name of CORE) expect(stdout).toContain(name);
  });
});

test('a driver that is missing is in the report, with what to type; one that is there has figures', async () => {
  const json = join(folder, 'one.json');
  const { code, stdout } = await bench('--quick', '--scenario', 'start', '--driver', 'pm2', '--json', json);
  expect(code).toBe(0);
  const { drivers, scenarios } = JSON.parse(readFileSync(json, 'utf8')) as Report;
  const found = await driverNamed('pm2')?.find();
  const [result] = scenarios.flatMap(({ variants }) => variants.flatMap((each) => each.drivers)) as [
    DriverResult,
  ];
  if (found === undefined || 'missing' in found) {
    expect(drivers).toMatchObject([{ name: 'pm2', version: null, missing: found?.missing }]);
    expect(result.absent).toEqual({ why: 'missing', text: found?.missing });
    expect(stdout).toContain('npm ci --ignore-scripts --prefix bench');
  } else {
    expect(drivers).toMatchObject([{ name: 'pm2', version: found.version, missing: null }]);
    expect(result).toMatchObject({ absent: null, rounds: [{ round: 0 }] });
  }
});

describe('what is refused, before anything is measured', () => {
  const cases: [string, string[], RegExp][] = [
    ['an unknown scenario', ['--scenario', 'stal'], /There are: rate, /],
    ['an unknown driver', ['--driver', 'pm3'], /There are: spillway, /],
    ['a name that only looks like a set of drivers', ['--driver', 'toString'], /There are: spillway, /],
    [
      'a variant that no scenario has',
      ['--scenario', 'hang', '--variant', 'stop-1,nope'],
      /called nope.*stop-2/s,
    ],
    ['to keep some variants', ['--save', '--variant', 'stop-1'], /would replace whole results/],
    ['to keep few rounds', ['--save', '--rounds', '4'], /4 rounds would replace/],
    [
      'to keep a run without the core drivers',
      ['--save', '--driver', 'spillway,single'],
      /without reuseport/,
    ],
    ['to keep a quick run', ['--save', '--quick'], /cannot be used/],
    ['a report that cannot be written', ['--json', join(MAIN, 'report.json')], /ENOTDIR|EEXIST/],
    ['a folder as a report', ['--json', folder], /EISDIR/],
  ];

  test.each(cases)('%s', async (_, args, words) => {
    const { code, stdout, stderr } = await bench(...args);
    expect(stderr).toMatch(words);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(code).not.toBe(0);
    expect(stdout).toBe('');
  });
});

test('the options of `decision` are its own, those of the comparison too', async () => {
  const json = join(folder, 'decision.json');
  const decision = ['decision', '--quick', '--rounds', '1', '--sockets', '2', '--json', json];
  const { code, stdout } = await ended(start(...decision));
  expect(code).toBe(0);
  expect(stdout).toContain('decision');
  expect(JSON.parse(readFileSync(json, 'utf8'))).toMatchObject({
    schema: 'spillway-bench-decision/1',
    options: { quick: true, rounds: 1, sockets: [2] },
  });
});

describe('a signal in the middle', () => {
  test('leaves no process and no folder behind, keeps what was finished, and nobody runs beside it', async () => {
    const json = join(folder, 'signal.json');
    const child = start(
      ...['--scenario', 'scale,rate', '--variant', 'sockets-2,saturation', '--driver', 'spillway,reuseport'],
      ...['--rounds', '1', '--json', json, '--html', join(folder, 'signal.html')],
    );
    const end = ended(child);
    const pids = await until(
      'the first scenario is finished, and master, four workers and the generator of the second run',
      () => {
        const all = treeOf(child.pid as number).filter((pid) => pid !== child.pid);
        return all.length >= 6 ? all : null;
      },
      90_000,
    );
    const second = await bench('--quick', '--scenario', 'start');
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toMatch(/another benchmark runs/);

    child.kill('SIGTERM');
    child.kill('SIGINT');
    const { code, stdout, stderr } = await end;
    expect(stderr).toMatch(/ended by SIG(TERM|INT)\n/);
    expect([143, 130]).toContain(code);
    for (const pid of pids) await gone(pid);
    const { scenarios } = JSON.parse(readFileSync(json, 'utf8')) as Report;
    expect(scenarios.map(({ name }) => name)).toEqual(['scale']);
    expect(stdout).toContain('From 2 to 1,024 sockets');
    expect(readdirSync(tmpdir()).filter((name) => /^spillway-bench-(?!lock)/.test(name))).toEqual([]);
  }, 120_000);
});
