/** The benchmark's report as a page: all in one file, nothing lost and nothing let out on the way. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { curveOf, GRID } from '../../bench/report/html/curves.js';
import { type PageData, pageData } from '../../bench/report/html/data.js';
import { html, jsonForScript } from '../../bench/report/html/markup.js';
import { toHtml } from '../../bench/report/html.js';
import type { FigureSpec, Report } from '../../bench/report/schema.js';
import { packageRoot } from '../../lib/native.js';
import {
  FAILURE,
  type Given,
  histogramOf,
  limitGenerator,
  madeReport,
  madeScenario,
  RATE,
  telling,
} from '../support/bench-report.js';

const page = toHtml([telling()]);

/** What the page's script would parse: up to the first end tag, as a browser takes it. */
function dataIn(text: string): PageData {
  const [, json] = text.match(/<script type="application\/json" id="data">(.*?)<\/script/s) ?? [];
  return JSON.parse(json ?? 'null');
}

/** The page without scripts and styles. */
function markupOf(text: string): string {
  return text.replace(/<(script|style)\b.*?<\/\1>/gs, '');
}

/** Words of the page as they are read. */
function wordsOf(text: string): string {
  return markupOf(text)
    .replace(/<[^>]*>/g, ' ')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&')
    .replace(/\s+/g, ' ');
}

describe('the page', () => {
  test('refers to nothing outside of itself', () => {
    expect(page).not.toMatch(/\b(src|href)\s*=\s*["']?\s*(https?:)?\/\//i);
    expect(page).not.toMatch(/@import|@font-face|url\(\s*["']?(?!data:)/i);
    expect(markupOf(page)).not.toMatch(/<(link|iframe|img|object|embed)\b/i);
    expect(page.slice(0, 500)).toContain('content="default-src &#39;none&#39;;');
    // What the scripts could fetch with, in other words than the policy's.
    expect(page).not.toMatch(/\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts)\s*\(/);
    const links = [...markupOf(page).matchAll(/href="([^"]*)"/g)].map(([, to]) => to as string);
    expect(links.length).toBeGreaterThan(0);
    for (const to of links) expect(page).toContain(`id="${to.slice(1)}"`);
  });

  test('names the losses before everything but the counts', () => {
    const words = wordsOf(page);
    expect(words).toContain('1 win 4 ties 2 losses');
    expect(words).toContain('Where Spillway loses 2 losses, the largest difference first.');
    expect(words).toContain(
      'stall 400 a second, spinning failed 8 requests plain SO_REUSEPORT 0 requests loss 8 requests worse +8 requests [+7.12, +8.88]',
    );
    expect(words).toContain(
      'stall 800 a second, spinning p99 20 ms plain SO_REUSEPORT 10 ms loss 2.00× worse ×2.00 [2.00, 2.00]',
    );
    expect(words).toContain('rate · as fast as it goes · p99: no round of Spillway has a value');
    expect(words.indexOf('Where Spillway loses')).toBeLessThan(words.indexOf('By scenario'));
  });

  test('has a row for every driver, with the unit above or beside every figure', () => {
    const words = wordsOf(page);
    expect(words).toContain('p99, ms lower is better');
    expect(words).toContain('Spillway 10 9–11 ×0.25 [0.24, 0.26]');
    expect(words).toContain('plain SO_REUSEPORT 40 35–45 the reference Spillway: win 4.00×');
    expect(words).toContain('plain SO_REUSEPORT 10 9–11 the reference Spillway: loss 2.00×');
    expect(words).toContain('pm2 missing type npm ci');
    expect(words).toContain('haproxy does not apply not at this rate');
    expect(words).toContain(`nginx failed ${FAILURE.replace('\n', ' ')}`);
  });

  test('tells where and how it was measured, and that a driver is missing', () => {
    const words = wordsOf(page);
    for (const fact of [
      '2 × Test CPU, in a virtual machine',
      'Linux 6.18.1 (x64)',
      'v20.20.0',
      '0123456789ab',
    ]) {
      expect(words).toContain(fact);
    }
    expect(words).toContain('pm2 pm2 missing type npm ci how pm2 works');
  });

  test('tells shared machines once and different ones each', () => {
    const count = (reports: Report[]) => toHtml(reports).match(/<dl class="facts">/g)?.length;
    const [stall, rate] = telling().scenarios;
    if (!stall || !rate) throw new Error('two scenarios are needed');
    const one = { ...telling(), scenarios: [stall] };
    const two = { ...telling(), scenarios: [rate] };
    expect(count([one, two])).toBe(1);
    expect(count([one, { ...two, environment: { ...two.environment, node: 'v24.0.0' } }])).toBe(2);
  });

  test('says that too few rounds give no verdict', () => {
    const given: Given = { values: { p99: [1, 2] } };
    const report = madeReport(
      [madeScenario('hang', { id: 'one', drivers: { spillway: given, reuseport: given } })],
      {
        rounds: 2,
      },
    );
    expect(wordsOf(toHtml([report]))).toContain('No verdict is given: 2 rounds');
  });

  test('warns of the generator in the variant whose figures may be those of the generator', () => {
    const report = telling();
    limitGenerator(report);
    const warned = markupOf(toHtml([report]))
      .split('<section class="panel"')
      .map((part) =>
        part.includes(
          '<p class="warning">The generator itself was the limit in 1 of 20 turns (plain SO_REUSEPORT)',
        ),
      );
    expect(warned).toEqual([false, true, false, false]);
    expect(page).not.toContain('The generator itself');
  });

  test('warns of a machine that was busy, and names the scenarios if the others had a quiet one', () => {
    const busy = madeReport([madeScenario('hang', { id: 'one', drivers: {} })], { load: 0.51 });
    const said = 'The machine was busy when the benchmark began: its load average was 0.51';
    expect(markupOf(toHtml([busy]))).toContain(`<p class="warning">${said}`);
    expect(markupOf(toHtml([busy, telling()]))).toContain(`<p class="warning">hang: ${said}`);
    expect(page).not.toContain('The machine was busy');
  });

  test('names the tools, or that they are missing', () => {
    expect(wordsOf(page)).toContain('Tools wrk 4.1.0 ');
    expect(wordsOf(toHtml([madeReport([], { missing: { wrk: 'type this' } })]))).toContain(
      'Tools wrk is missing: type this ',
    );
  });

  test('does not count wins and losses where nothing was compared', () => {
    const one: Given = { values: { p99: [1] } };
    const scenario = madeScenario('hang', { id: 'one', drivers: { spillway: one, reuseport: one } });
    for (const [report, text] of [
      [madeReport([madeScenario('hang', { id: 'one', drivers: { pm2: one } })]), 'nothing was compared'],
      [madeReport([scenario], { rounds: 1 }), 'nothing was compared (1 without a verdict)'],
    ] as const) {
      const words = wordsOf(toHtml([report]));
      expect(words.split(text)).toHaveLength(3);
      expect(words).toContain(`hang the scenario hang ${text} `);
      expect(words).not.toMatch(/0 wins|0 losses|Nowhere/);
    }
    expect(wordsOf(toHtml([madeReport([])]))).toContain('Where Spillway loses Nothing was compared.');
  });

  test('says that among many verdicts some come by chance', () => {
    expect(wordsOf(page)).toContain('about 1 in 40 looks like a win and 1 in 40 like a loss');
  });

  test('is a page without any result, too', () => {
    expect(wordsOf(toHtml([]))).toContain('0 scenarios in 0 variants with 0 drivers');
  });
});

describe('data for the charts', () => {
  test('strings that would end the script arrive as they are', () => {
    const evil = '</script><!-- <script> & \u2028 "\\';
    const report = telling();
    for (const driver of report.drivers) driver.title = `${evil}${driver.name}`;
    const mark = report.scenarios[0]?.variants[0]?.drivers[0]?.timeline?.marks[0];
    if (!mark) throw new Error('a mark is needed');
    mark.what = evil;
    const text = toHtml([report]);
    const data = dataIn(text);
    expect(data.drivers.spillway?.title).toBe(`${evil}spillway`);
    expect(data.variants['0-0-0']?.drivers[0]?.timeline?.marks).toEqual([{ at: 150, what: evil }]);
    expect(markupOf(text)).not.toMatch(/<script|<!--/);
  });

  test('are those of the measured drivers, figure by figure', () => {
    const { drivers, variants, outcomes } = pageData([telling()]);
    expect(Object.keys(variants)).toEqual(['0-0-0', '0-0-1', '0-1-0']);
    const [ours, hash, reference, haproxy, ...others] = variants['0-0-0']?.drivers ?? [];
    expect(others).toEqual([]);
    expect([ours, hash, reference, haproxy].map((each) => [each?.name, each?.verdicts])).toEqual([
      ['spillway', '--'],
      ['spillway:hash', '--'],
      ['reuseport', 'wl'],
      ['haproxy', 'tt'],
    ]);
    expect(ours?.samples).toEqual([
      [10, 11, 10, 9, 10],
      [7, 9, 8, 8, 8],
    ]);
    expect(ours?.workers).toEqual([0.6, 0.4]);
    expect(ours?.outcomes?.[outcomes.indexOf('ok')]).toBe(500);
    expect(ours?.outcomes?.[outcomes.indexOf('reset')]).toBe(40);
    expect(ours?.generator).toEqual([0.05, 0.4, 0.2]);
    expect(ours?.timeline).toMatchObject({
      step: 100,
      answered: [40, 41],
      failed: [0, 8],
      longest: [3, null],
    });
    expect(reference?.firstByte).toBeNull();
    expect(drivers).toMatchObject({
      spillway: { own: true, look: 0 },
      'spillway:hash': { own: true, look: 1 },
      reuseport: { own: false, reference: true, look: 0 },
    });
  });

  describe('where the requests were not recorded one by one', () => {
    const unrecorded: Given = { values: { p99: [1, 2] }, outcomes: null };
    const shownOf = (drivers: Record<string, Given>) => {
      const { outcomes, variants } = pageData([madeReport([madeScenario('rate', { id: 'wrk', drivers })])]);
      return ended(variants['0-0-0'], outcomes);
    };

    /** What the page's script makes of how the requests ended, as nested lists of texts. */
    function ended(variant: unknown, outcomes: readonly string[]): string {
      type Part = (variant: unknown) => unknown;
      const parts: Part[] = [];
      const element = (_: string, __: object, ...children: unknown[]) => children;
      const text = (value: number, unit: string) => `${value} ${unit}`.trim();
      const bench = {
        data: { outcomes },
        parts,
        element,
        text,
        titleOf: String,
        isOwn: () => false,
        median: Math.max,
      };
      const file = join(packageRoot, 'bench', 'report', 'page', 'tables.js');
      runInNewContext(readFileSync(file, 'utf8'), { bench });
      return JSON.stringify(parts[0]?.(variant));
    }

    test('is nothing, and not zeros', () => {
      expect(
        pageData([madeReport([madeScenario('rate', { id: 'wrk', drivers: { pm2: unrecorded } })])]).variants[
          '0-0-0'
        ]?.drivers[0],
      ).toMatchObject({ outcomes: null, generator: null });
    });

    test('is said in a sentence for all, or in the row of whom it is about', () => {
      expect(shownOf({ pm2: unrecorded })).toBe(
        '["How the requests ended, and the generator: not recorded"]',
      );
      const both = shownOf({
        pm2: unrecorded,
        reuseport: { values: { p99: [1] }, outcomes: { ok: 3, reset: 2 } },
      });
      expect(both).toContain('["pm2"],["not recorded"],["not recorded"],["not recorded"],["not recorded"]');
      expect(both).toContain('["reuseport"],["3"],["2"],["0.05 ms / 0.4 ms"],["20 %"]');
    });
  });

  test('every driver has a look of its own', () => {
    const looks = Object.values(pageData([telling()]).drivers).map(({ own, look }) => `${own} ${look}`);
    expect(new Set(looks).size).toBe(6);
  });

  test('among hundreds, a long timeline without marks is drawn in fewer buckets that hold the same', () => {
    const timeline = {
      step: 50,
      answered: Array.from({ length: 100 }, () => 2),
      failed: Array.from({ length: 100 }, () => 0),
      longest: Array.from({ length: 100 }, (_, i) => (i < 10 ? null : i)),
      marks: [],
    };
    const drawnAmong = (others: number) => {
      const given: Given = { values: { p99: [1] }, timeline };
      const variants = Array.from({ length: others + 1 }, (_, i) => ({
        id: `v${i}`,
        drivers: { pm2: given },
      }));
      return pageData([madeReport([madeScenario('hang', ...variants)])]).variants['0-0-0']?.drivers[0]
        ?.timeline;
    };
    expect(drawnAmong(0)).toEqual({ ...timeline, failed: 0 });
    const drawn = drawnAmong(300);
    expect(drawn?.step).toBe(150);
    expect(drawn?.failed).toBe(0);
    expect(drawn?.answered).toEqual([...Array.from({ length: 33 }, () => 6), 2]);
    expect(drawn?.longest.slice(0, 5)).toEqual([null, null, null, 11, 14]);
    expect(drawn?.longest.at(-1)).toBe(99);
  });
});

describe('curves', () => {
  test('have the histogram’s values at the grid’s percentiles, in milliseconds', () => {
    const curve = curveOf(histogramOf(Array.from({ length: 10_000 }, (_, i) => (i + 1) / 100)));
    const at = (nines: number) => curve?.[GRID.indexOf(nines)];
    expect(at(0)).toBeCloseTo(0.01, 2);
    expect(at(1)).toBeCloseTo(90, 0);
    expect(at(2)).toBeCloseTo(99, 0);
    expect(at(4)).toBeCloseTo(100, 0);
  });

  test('end where there are no more samples, and are none without any', () => {
    expect(curveOf(histogramOf(Array.from({ length: 100 }, () => 5)))).toHaveLength(GRID.indexOf(2) + 1);
    expect(curveOf(histogramOf([5]))).toHaveLength(1);
    expect(curveOf(histogramOf([]))).toBeNull();
    expect(curveOf(null)).toBeNull();
    expect(GRID.length).toBeLessThanOrEqual(100);
  });
});

test('markup escapes what is put in, and only that', () => {
  const inner = html`<b>${'<&>"\''}</b>`;
  expect(html`<p title="${'"x"'}">${[inner, null, 7]}</p>`.text).toBe(
    '<p title="&quot;x&quot;"><b>&lt;&amp;&gt;&quot;&#39;</b>7</p>',
  );
  expect(jsonForScript({ a: '</script>' }).text).toBe('{"a":"\\u003c/script>"}');
});

test('13 scenarios × 5 variants × 12 drivers are a page of less than 1.5 MB', () => {
  const random = seededRandom(1);
  const figures: FigureSpec[] = [
    ...Array.from(
      { length: 2 },
      (_, i): FigureSpec => ({ ...RATE, name: `lead${i}`, title: `leading ${i}` }),
    ),
    ...Array.from(
      { length: 5 },
      (_, i): FigureSpec => ({ name: `f${i}`, title: `figure ${i}`, unit: 'ms', better: 'lower' }),
    ),
  ];
  const values = () =>
    Object.fromEntries(
      figures.map(({ name }) => [name, Array.from({ length: 5 }, () => random.between(1, 99_999) / 7)]),
    );
  // Most services fail nowhere, and those that do, for a while.
  const failed = (some: boolean) => list().map((value, i) => (some && i > 40 && i < 70 ? value : 0));
  const list = () => Array.from({ length: 120 }, () => random.between(0, 400));
  const latencies = Array.from({ length: 10_000 }, () => random.between(1, 1e6) / 1e3);
  const given = (marked: boolean, fails: boolean): Given => ({
    values: values(),
    latencies,
    workers: [400, 300, 200, 100],
    timeline: {
      step: 50,
      answered: list(),
      failed: failed(fails),
      longest: list(),
      marks: marked ? [{ at: 1, what: 'stopped' }] : [],
    },
  });
  const names = ['spillway', 'reuseport', ...Array.from({ length: 10 }, (_, i) => `driver-${i}`)];
  const scenarios = Array.from({ length: 13 }, (_, s) =>
    madeScenario(
      `scenario-${s}`,
      ...Array.from({ length: 5 }, (_, v) => ({
        id: `v${v}`,
        figures,
        drivers: Object.fromEntries(names.map((name, i) => [name, given(s % 3 === 0, i % 2 === 1)])),
      })),
    ),
  );
  expect(Buffer.byteLength(toHtml([madeReport(scenarios)]))).toBeLessThan(1_500_000);
});
