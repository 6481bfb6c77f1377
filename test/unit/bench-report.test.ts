/** What the benchmark's report says of made-up results: numbers, losses, and the forms for the repository. */
import { describe, expect, test } from 'vitest';
import type { Comparison } from '../../bench/method/compare.js';
import { standingsOf, tallyOf } from '../../bench/report/losses.js';
import { toMarkdown } from '../../bench/report/markdown.js';
import { BEGIN, END, intoReadme, toReadmeTable } from '../../bench/report/readme.js';
import type { VariantResult } from '../../bench/report/schema.js';
import { toTerminal } from '../../bench/report/terminal.js';
import {
  advantage,
  comparisonText,
  duration,
  generatorWarning,
  inDigits,
  UNCORRECTED,
  withUnit,
} from '../../bench/report/words.js';
import {
  absent,
  FAILED,
  FAILURE,
  type Given,
  limitGenerator,
  madeReport,
  madeScenario,
  P99,
  REFERENCE,
  steady,
  telling,
} from '../support/bench-report.js';

describe('numbers', () => {
  test.each([
    [0, '0'],
    [7, '7'],
    [-3, '−3'],
    [0.0123456, '0.0123'],
    [0.00001234, '1.2e-5'],
    [1.2345, '1.23'],
    [12, '12'],
    [12.04, '12.0'],
    [99.96, '100'],
    [1234.5, '1,235'],
    [-1234567, '−1,234,567'],
  ])('%d is written %s', (value, text) => {
    expect(inDigits(value)).toBe(text);
  });

  test.each([
    ['1/s', '12/s'],
    ['ms', '12 ms'],
    ['%', '12 %'],
    ['', '12'],
  ])('with the unit "%s": %s', (unit, text) => {
    expect(withUnit('12', unit)).toBe(text);
  });

  test.each([
    [59.4, '59 s'],
    [90, '2 min'],
    [3_600, '1 h 0 min'],
    [7_170, '2 h 0 min'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});

describe('a comparison in words', () => {
  const ratio: Comparison = { of: 'ratio', rounds: 5, median: 0.25, interval: [0.2, 0.3], verdict: 'win' };
  const difference: Comparison = {
    of: 'difference',
    rounds: 5,
    median: -12,
    interval: [-15, -9],
    verdict: 'win',
  };

  test.each<[Comparison, string, string]>([
    [ratio, '×0.25 [0.20, 0.30]', '4.00× better'],
    [{ ...ratio, verdict: 'loss' }, '×0.25 [0.20, 0.30]', '4.00× worse'],
    [{ ...ratio, verdict: 'tie' }, '×0.25 [0.20, 0.30]', 'no difference shown'],
    [{ ...ratio, rounds: 1, interval: null, verdict: 'unknown' }, '×0.25', 'no verdict (1 round)'],
    [difference, '−12 ms [−15, −9]', '12 ms better'],
  ])('%o', (comparison, text, told) => {
    expect(comparisonText(comparison, 'ms')).toBe(text);
    expect(advantage(comparison, { unit: 'ms' })).toBe(told);
  });
});

describe('the generator', () => {
  const variantWith = (...turns: { busy: number; lateP99: number }[]) => {
    const report = madeReport([
      madeScenario('hang', { id: 'one', drivers: { spillway: steady(1), reuseport: steady(2) } }),
    ]);
    const variant = report.scenarios[0]?.variants[0];
    const rounds = variant?.drivers[0]?.rounds;
    for (const [round, turn] of turns.entries()) Object.assign(rounds?.[round]?.generator ?? {}, turn);
    return variant as NonNullable<typeof variant>;
  };

  test('is no limit as long as it is at most 90 % busy and 1 ms late', () => {
    expect(generatorWarning(variantWith({ busy: 0.9, lateP99: 1 }))).toBeNull();
  });

  test('was the limit in the turns in which it was busier or later', () => {
    const variant = variantWith(
      { busy: 0.91, lateP99: 0 },
      { busy: 0, lateP99: 1.25 },
      { busy: 0.5, lateP99: 1 },
    );
    expect(generatorWarning(variant, (name) => `<${name}>`)).toBe(
      'The generator itself was the limit in 2 of 10 turns (<spillway>): it was up to 91 % busy and up to 1.25 ms late (p99); 90 % and 1 ms are allowed.',
    );
  });
});

test('a generator of which nothing was recorded is neither a limit nor one of the turns', () => {
  const report = madeReport([
    madeScenario('rate', {
      id: 'wrk',
      drivers: {
        spillway: { values: { p99: [1, 1] }, outcomes: null },
        reuseport: { values: { p99: [1, 1] } },
      },
    }),
  ]);
  const variant = report.scenarios[0]?.variants[0] as VariantResult;
  const [unrecorded, recorded] = variant.drivers;
  expect(unrecorded?.rounds[0]).toMatchObject({ generator: null, outcomes: null });
  expect(generatorWarning(variant)).toBeNull();
  Object.assign(recorded?.rounds[0]?.generator ?? {}, { busy: 1 });
  expect(generatorWarning(variant)).toContain('in 1 of 2 turns (reuseport)');
});

describe('losses', () => {
  const place = ({
    variant,
    figure,
    rival,
  }: {
    variant: { id: string };
    figure: { name: string };
    rival: { name: string };
  }) => `${variant.id} ${figure.name} ${rival.name}`;

  test('every verdict is in the list of its kind, the largest difference first, whether ratio or difference', () => {
    const standings = standingsOf([telling()]);
    expect(standings.losses.map(place)).toEqual(['spin-400 failed reuseport', 'spin-800 p99 reuseport']);
    expect(standings.losses.map(({ size }) => size)).toEqual([1, 0.5]);
    expect(standings.wins.map(place)).toEqual(['spin-400 p99 reuseport']);
    expect(standings.ties.map(place).sort()).toEqual([
      'http rate reuseport',
      'spin-400 failed haproxy',
      'spin-400 p99 haproxy',
      'spin-800 failed reuseport',
    ]);
    expect(standings.unknown).toEqual([]);
    expect(tallyOf(standings)).toEqual({ wins: 1, ties: 4, losses: 2, unknown: 0 });
    expect(tallyOf(standings, 'rate')).toEqual({ wins: 0, ties: 1, losses: 0, unknown: 0 });
  });

  test('several reports are one list', () => {
    expect(standingsOf([telling(), telling()]).losses).toHaveLength(4);
  });

  const judged = (drivers: Record<string, Given>) =>
    standingsOf([madeReport([madeScenario('hang', { id: 'one', drivers })])]).unjudged.map(({ why }) => why);

  test.each<[string, Record<string, Given>, string[]]>([
    [
      'Spillway failed',
      { spillway: absent('it broke'), reuseport: steady(1) },
      ['Spillway: failed: it broke'],
    ],
    ['Spillway was left out', { pm2: steady(1) }, ['Spillway was not measured']],
    [
      'nobody got an answer from Spillway',
      { spillway: { values: { p99: [null, null] } }, reuseport: steady(1) },
      ['no round of Spillway has a value, rounds of others have'],
    ],
    [
      'nobody got an answer from anybody',
      { spillway: { values: { p99: [null] } }, pm2: { values: { p99: [null] } } },
      [],
    ],
    ['everybody failed', { spillway: absent('it broke'), pm2: absent('it broke') }, []],
    ['only a variant of Spillway took part', { 'spillway:hash': steady(1), reuseport: steady(1) }, []],
  ])('is not taken for "no loss": %s', (_, drivers, why) => {
    expect(judged(drivers)).toEqual(why);
  });
});

describe('Markdown', () => {
  const text = toMarkdown(telling());

  test('names the losses first', () => {
    expect(text).toContain(
      [
        '## Where Spillway loses',
        '',
        "| scenario | variant | figure | Spillway | rival | rival's | Spillway beside it |",
        '| --- | --- | --- | ---: | --- | ---: | --- |',
        '| stall | spin-400 | failed | 8 requests | plain SO_REUSEPORT | 0 requests | **loss**: 8 requests worse, +8 requests [+7.12, +8.88] |',
        '| stall | spin-800 | p99 | 20 ms | plain SO_REUSEPORT | 10 ms | **loss**: 2.00× worse, ×2.00 [2.00, 2.00] |',
        '',
        '## Where Spillway could not be judged',
        '',
        '- rate · http · p99: no round of Spillway has a value, rounds of others have',
        '',
      ].join('\n'),
    );
    expect(text.indexOf('Where Spillway loses')).toBeLessThan(text.indexOf('Shows'));
  });

  test('has a row for every driver of a variant, whose words cannot break the table or become HTML', () => {
    expect(text).toContain(
      [
        '| driver | p99, ms (lower is better) | failed, requests (lower is better) | p99: beside reuseport | Spillway |',
        '| --- | ---: | ---: | --- | --- |',
        '| **Spillway** | 10 (9–11) | 8 (7–9) | ×0.25 [0.24, 0.26] |  |',
        '| **Spillway, hash** | 12 (12–13) | 1 (0–2) | ×0.30 [0.27, 0.34] |  |',
        '| plain SO_REUSEPORT | 40 (35–45) | 0 (0–0) |  | **loss**: failed; win: p99 |',
        '| haproxy | 10 (9–12) | 8 (7–9) | ×0.25 [0.22, 0.28] | tie: p99, failed |',
        '| pm2 | missing: type npm ci |  |  |  |',
        '| nginx | failed: said &lt;/script>&lt;script>alert("\\|")&lt;/script> & &lt;!-- ended with code 1 |  |  |  |',
      ].join('\n'),
    );
    expect(text).not.toContain(FAILURE.slice(0, 20));
  });

  test('tells machine, method and every driver, also the missing one', () => {
    expect(text).toContain(
      '- 2026-03-04, Linux 6.18.1 (x64), 2 × Test CPU, in a virtual machine, Node v20.20.0, 0123456789ab',
    );
    expect(text).toContain('- 5 rounds, seed 7; compared with reuseport;');
    expect(text).toContain('- pm2: **missing**: type npm ci. how pm2 works');
    expect(text).toContain(`- ${UNCORRECTED}`);
  });

  test('warns of the generator in the variant whose figures may be those of the generator', () => {
    const report = telling();
    limitGenerator(report);
    expect(toMarkdown(report)).toContain(
      'rate 400, workers 4\n\n**The generator itself was the limit in 1 of 20 turns (plain SO_REUSEPORT): ',
    );
    expect(toMarkdown(report).match(/generator itself/g)).toHaveLength(1);
    expect(text).not.toContain('generator itself');
  });
});

describe('Markdown of a run that says less', () => {
  const of = (drivers: Record<string, Given>, options = {}) =>
    toMarkdown(madeReport([madeScenario('hang', { id: 'one', drivers })], options));
  const both = { spillway: steady(1), reuseport: steady(2) };

  test('warns of a machine that was busy, next to the rounds', () => {
    expect(of(both, { load: 2.345, rounds: 1 })).toMatch(
      /\n\*\*No verdict is given: .*\*\*\n\n\*\*The machine was busy .* 2\.35, .*\*\*\n/,
    );
    expect(of(both, { load: 0.5 })).not.toContain('was busy');
  });

  test('names the tools, or that they are missing', () => {
    expect(of(both)).toContain('\n- wrk 4.1.0\n');
    expect(of(both, { missing: { wrk: 'type this' } })).toContain('\n- wrk is missing: type this\n');
    const report = madeReport([madeScenario('hang', { id: 'one', drivers: both })], {
      missing: { wrk: 'type this' },
    });
    expect(toReadmeTable([report], 'again')).toContain('\nMissing there: wrk.\n');
  });

  test('does not say "nowhere" where nothing was compared', () => {
    expect(of(both)).toContain('## Where Spillway loses\n\nNowhere:');
    for (const drivers of [{ pm2: steady(1) }, { spillway: steady(1) }]) {
      expect(of(drivers)).toContain('## Where Spillway loses\n\nNothing was compared.\n');
      const report = madeReport([madeScenario('hang', { id: 'one', drivers })]);
      const table = toReadmeTable([report], 'again');
      expect(table).toContain('**Where Spillway loses:** nothing was compared.');
      expect(table).toMatch(/\| nothing was compared(, 1 not to be judged)? \|\n/);
      expect(table).not.toContain('0 wins');
    }
  });
});

describe("the README's table", () => {
  const table = toReadmeTable([telling()], 'npm run bench -- --save');

  test('has a row per scenario: the variant that differs most from the reference, the best rival, the verdict', () => {
    expect(table.split('\n').slice(0, 4)).toEqual([
      '| scenario | figure | Spillway | plain SO_REUSEPORT | best other rival | verdict on Spillway | all figures |',
      '| --- | --- | ---: | ---: | --- | --- | --- |',
      '| [stall](bench/results/stall.md): 400 a second, spinning | p99, ms (lower is better) | 10 (9–11) | 40 (35–45) | haproxy: 10 (9–12) | win (4.00× better) beside plain SO_REUSEPORT, tie beside haproxy | 1 win, 3 ties, **2 losses** |',
      '| [rate](bench/results/rate.md): as fast as it goes | rate, 1/s (higher is better) | 12,345 (12,000–12,500) | 12,300 (12,100–12,500) | none | tie beside plain SO_REUSEPORT | 0 wins, 1 tie, 0 losses, 1 not to be judged |',
    ]);
  });

  test('chooses a loss as readily as a win, and names it', () => {
    const drivers = (ours: number, theirs: number) => ({ spillway: steady(ours), reuseport: steady(theirs) });
    const report = madeReport([
      madeScenario(
        'hang',
        { id: 'better', drivers: drivers(10, 20) },
        { id: 'worse', drivers: drivers(50, 10) },
      ),
    ]);
    const row = toReadmeTable([report], 'again').split('\n')[2];
    expect(row).toContain('the variant worse | p99, ms (lower is better) | 50 (50–50) | 10 (10–10)');
    expect(row).toContain('**loss** (5.00× worse) beside plain SO_REUSEPORT');
    expect(row).toContain('1 win, 0 ties, **1 loss**');
  });

  test('lists the losses, and says how many there are where it does not list all', () => {
    expect(table).toContain('**Where Spillway loses**:\n\n| scenario |');
    expect(table).toContain('| stall | spin-800 | p99 | 20 ms | plain SO_REUSEPORT | 10 ms | **loss**:');
    const variants = Array.from({ length: 12 }, (_, i) => ({
      id: `v${i}`,
      drivers: { spillway: steady(20 + i), reuseport: steady(10) },
    }));
    const many = toReadmeTable([madeReport([madeScenario('hang', ...variants)])], 'again');
    expect(many).toContain('the 10 largest of 12 (all: [bench/results](bench/results)):');
    expect(many.match(/\*\*loss\*\*: /g)).toHaveLength(10);
  });

  test('says when, where and how to renew it, and who was missing', () => {
    expect(table).toContain(
      'Measured 2026-03-04 on 2 × Test CPU, in a virtual machine, Linux 6.18.1, Node v20.20.0, 0123456789ab, 5 rounds.\nMissing there: pm2.\nRenewed by `npm run bench -- --save` (2 min).',
    );
  });

  test('is a sentence when nothing was measured', () => {
    expect(toReadmeTable([], 'again')).toBe('Nothing was measured yet: `again`.');
  });

  test('takes the place between the markers, once or often', () => {
    const readme = `# A\n\n${BEGIN}\nold\n${END}\n\nrest\n`;
    const once = intoReadme(readme, table);
    expect(once).toBe(`# A\n\n${BEGIN}\n${table}\n${END}\n\nrest\n`);
    expect(intoReadme(once, table)).toBe(once);
    expect(intoReadme(intoReadme(readme, 'other'), table)).toBe(once);
  });

  test.each([
    ['no marker', '# A\n'],
    ['no end', `${BEGIN}\n`],
    ['the end before the begin', `${END}\n${BEGIN}\n`],
    ['two begins', `${BEGIN}\n${BEGIN}\n${END}\n`],
  ])('is refused where there is no one place for it: %s', (_, readme) => {
    expect(() => intoReadme(readme, table)).toThrow(RangeError);
  });
});

test('no number of a figure stands without its unit in any text form', () => {
  // The column's head has it where the cells have not; a value of its own has it behind the number.
  const report = madeReport([
    madeScenario('hang', {
      id: 'one',
      figures: [P99, { ...FAILED, leading: true }],
      drivers: {
        spillway: { values: { p99: [3, 3, 3, 3, 3], failed: [4, 4, 4, 4, 4] } },
        [REFERENCE]: { values: { p99: [1, 1, 1, 1, 1], failed: [0, 0, 0, 0, 0] } },
      },
    }),
  ]);
  const texts = [
    toTerminal(report, { color: false, width: 100 }),
    toMarkdown(report),
    toReadmeTable([report], 'again'),
  ];
  for (const text of texts) {
    expect(text).toMatch(/p99, ms/);
    expect(text).toMatch(/3 ms\b/);
    expect(text).toMatch(/4 requests/);
    expect(text).toMatch(/\+4 requests \[\+4, \+4\]/);
  }
});
