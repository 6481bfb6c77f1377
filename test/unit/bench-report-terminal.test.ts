/** The benchmark's report for the terminal: one table per variant in any width, and nothing that a reader must not miss lost. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { FigureSpec, Report } from '../../bench/report/schema.js';
import { toTerminal } from '../../bench/report/terminal.js';
import {
  absent,
  FAILED,
  type Given,
  limitGenerator,
  madeReport,
  madeScenario,
  P99,
  RATE,
  steady,
  telling,
} from '../support/bench-report.js';

const plainText = (report = telling(), width = 100) => toTerminal(report, { color: false, width });
const hang = (drivers: Record<string, Given>, rounds = 5) =>
  madeReport([madeScenario('hang', { id: 'one', drivers })], { rounds });
const widest = (text: string) => Math.max(...text.split('\n').map(({ length }) => length));

/** The lines from the heading of a variant to the next blank line. */
function variantLines(text: string, heading: string): string[] {
  const lines = text.split('\n');
  const begin = lines.findIndex((line) => line.startsWith(heading));
  return lines.slice(begin, lines.indexOf('', begin));
}

/** With three figures; in `failed`, plain SO_REUSEPORT and haproxy have values from which no ratio can be had. */
function three(): Report {
  const figures: FigureSpec[] = [RATE, P99, { ...FAILED, leading: true }];
  const drivers: Record<string, Given> = {
    reuseport: {
      values: {
        rate: [12_000, 12_500, 12_400, 12_300, 12_345],
        p99: [4, 4, 4, 4, 5],
        failed: [0, 0, 0, 0, 0],
      },
    },
    spillway: {
      values: { rate: [6_000, 6_500, 6_400, 6_300, 6_345], p99: [2, 2, 2, 2, 3], failed: [0, 0, 0, 0, 0] },
    },
    haproxy: {
      values: { rate: [6_100, 6_400, 6_300, 6_400, 6_300], p99: [8, 9, 8, 8, 8], failed: [0, 3, 2, 0, 9] },
    },
  };
  return madeReport([madeScenario('stall', { id: 'spin', title: 'spinning', figures, drivers })]);
}

describe('a variant', () => {
  test('is one table: Spillway first, then who else, and in a cell all that is known of it', () => {
    expect(variantLines(plainText(three(), 120), 'stall · spin')).toEqual([
      'stall · spin: spinning',
      'workers 4',
      'driver    │ rate, 1/s ↑                       │ p99, ms ↓         │ failed, requests ↓',
      '──────────┼───────────────────────────────────┼───────────────────┼───────────────────',
      'spillway  │  6,345 (6,000–6,500)   ×0.51      │ 2 (2–3) ×0.50     │ 0 (0–0) ±0',
      'reuseport │ 12,345 (12,000–12,500)       LOSS │ 4 (4–5)       win │ 0 (0–0)    tie',
      'haproxy   │  6,300 (6,100–6,400)   ×0.51 tie  │ 8 (8–9) ×2.00 win │ 2 (0–9) +2 tie',
    ]);
  });

  test.each([
    [100, ['6,345', '(6,000–6,500)', '×0.51', 'LOSS'], []],
    [80, ['6,345', '(6,000–6,500)', 'LOSS'], ['×']],
    [60, ['6,345', 'LOSS'], ['×', '–6,500']],
  ])('in %d columns is one table with what there is room for', (width, there, gone) => {
    const lines = variantLines(plainText(three(), width), 'stall · spin');
    expect(lines.filter((line) => line.startsWith('spillway '))).toHaveLength(1);
    const table = lines.slice(2).join('\n');
    for (const text of there) expect(table).toContain(text);
    for (const text of gone) expect(table).not.toContain(text);
  });

  test('breaks its heads before anything is dropped from the cells', () => {
    const lines = variantLines(plainText(three(), 84), 'stall · spin');
    expect(lines[2]).toMatch(/ failed,$/);
    expect(lines[3]).toMatch(/ requests ↓$/);
    expect(lines[5]).toMatch(/^spillway .*\(6,000–6,500\) +×0\.51/);
  });

  test('is several tables only where medians and marks alone are too wide', () => {
    const text = variantLines(plainText(three(), 40), 'stall · spin').join('\n');
    expect(text.match(/^spillway /gm)).toHaveLength(2);
    expect(text).toMatch(/rate, 1\/s ↑/);
    expect(text).toMatch(/│ failed,\n +│ requests ↓\n/);
    expect(widest(text)).toBeLessThanOrEqual(40);
  });

  test('has its settings on one line, however many', () => {
    const settings = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`setting${i}`, i]));
    const report = madeReport([
      madeScenario('hang', { id: 'one', settings, drivers: { spillway: steady(1) } }),
    ]);
    const [, line, head] = variantLines(plainText(report), 'hang · one');
    expect(line).toMatch(/^setting0 0, .*…$/);
    expect(line).toHaveLength(100);
    expect(head).toMatch(/^driver/);
  });

  test('has no mark where too few rounds of both have a value, and the others theirs', () => {
    const report = hang({
      spillway: steady(2),
      reuseport: { values: { p99: [1, 1, 1, null, null] } },
      haproxy: steady(3),
    });
    expect(plainText(report)).toMatch(/^reuseport .* \?$/m);
    expect(plainText(report)).toMatch(/^haproxy .* win$/m);
    expect(plainText(report)).toContain('win, tie, LOSS, ? too few rounds');
    expect(plainText()).not.toContain('?');
  });

  test('emphasises Spillway and the losses where there are colours', () => {
    const coloured = toTerminal(telling(), { color: true, width: 100 });
    const line = (driver: string) =>
      coloured.split('\n').findLast((each) => stripVTControlCharacters(each).startsWith(driver)) ?? '';
    const [bold, red] = ['\u001b[1m', '\u001b[31m'];
    const losing = coloured.split('\n').filter((each) => each.includes(`${red}LOSS`));
    expect(losing.map((each) => stripVTControlCharacters(each).split(' ', 1)[0])).toEqual([
      'reuseport',
      'median',
    ]);
    expect(line('spillway ')).toContain(`${bold}12,345`);
    expect(line('reuseport ')).not.toContain(bold);
  });

  test('warns of the generator, there and nowhere else', () => {
    const report = telling();
    limitGenerator(report);
    expect(variantLines(plainText(report, 200), 'stall · spin-400')[2]).toBe(
      'The generator itself was the limit in 1 of 20 turns (reuseport): it was up to 97 % busy and up to 0.0500 ms late (p99); 90 % and 1 ms are allowed.',
    );
    expect(plainText(report).match(/generator itself/g)).toHaveLength(1);
    expect(plainText()).not.toContain('generator itself');
  });
});

describe('who is absent', () => {
  test('has a row with the first line of the reason, or has it below where there is no room', () => {
    expect(variantLines(plainText(), 'stall · spin-400').slice(-3)).toEqual([
      'haproxy       │ 10 (9–12)  ×0.25 tie',
      'pm2           │ missing: type npm ci',
      'nginx         │ failed: said </script><script>alert("|")</script> (all of it: JSON and HTML)',
    ]);
    expect(variantLines(plainText(telling(), 80), 'stall · spin-400').slice(-3)).toEqual([
      'nginx         │ failed: see below',
      'nginx: failed: said </script><script>alert("|")</script> (all of it: JSON and',
      '  HTML)',
    ]);
  });

  test('has no more than some lines of the reason, once for all whose reason it is', () => {
    const reason = Array.from({ length: 300 }, (_, i) => `word${i}`).join(' ');
    const text = plainText(hang({ spillway: steady(1), pm2: absent(reason), wattpm: absent(reason) }));
    expect(text).toMatch(/^pm2 +│ failed: see below$/m);
    expect(text).toMatch(/^wattpm +│ failed: see below$/m);
    const told = text.replace(/\s+/g, ' ').match(/pm2, wattpm: failed: word0 word1 .*… \(all of it:/)?.[0];
    expect(told?.length).toBeLessThan(250);
    expect(text.match(/word20\b/g)).toHaveLength(1);
    expect(text).not.toContain('word150');
  });

  test('and was started by a launcher is told without what the launcher was told', () => {
    const plan = JSON.stringify({ program: '/p.mjs', front: { command: ['x}'] } });
    const said = `node keeper.js ${plan}: it ended before it served: code 1\nError: no port\n    at listen\n`;
    for (const drivers of [
      { spillway: steady(1), pm2: absent(said) },
      { spillway: absent(said), pm2: steady(1) },
    ]) {
      const text = plainText(hang(drivers), 200);
      expect(text).toContain(
        'failed: node keeper.js {…}: it ended before it served: code 1 (all of it: JSON and HTML)',
      );
      expect(text).not.toMatch(/program|no port|at listen/);
    }
  });

  test('has a reason of one line as it is, blank lines around it or not', () => {
    const text = plainText(hang({ spillway: steady(1), pm2: absent('\n\nit broke {1}\n\n') }));
    expect(text).toMatch(/^pm2 +│ failed: it broke \{1\}$/m);
  });

  test('and is missing on this machine is not explained again', () => {
    const reason = Array.from({ length: 30 }, (_, i) => `word${i}`).join(' ');
    const report = madeReport(
      [
        madeScenario('hang', {
          id: 'one',
          drivers: { spillway: steady(1), pm2: { absent: { why: 'missing', text: reason } } },
        }),
      ],
      { missing: { pm2: reason } },
    );
    const text = plainText(report);
    expect(text).toMatch(/^pm2 +│ missing: see the top$/m);
    expect(text.match(/word15\b/g)).toHaveLength(1);
    expect(text.indexOf('word15')).toBeLessThan(text.indexOf('hang · one'));
  });

  test('for want of a tool is not explained again, and the tool is named once', () => {
    const missing = 'wrk is not installed. Type: install wrk '.repeat(3).trim();
    const given: Given = { absent: { why: 'missing', text: missing } };
    const report = madeReport(
      [madeScenario('rate', { id: 'wrk', drivers: { spillway: given, pm2: given } })],
      {
        missing: { wrk: missing },
      },
    );
    const text = plainText(report);
    expect(text).toMatch(/^spillway +│ missing: see the top$/m);
    expect(text.replace(/\s+/g, ' ').split(`wrk is missing: ${missing}`)).toHaveLength(2);
    expect(text.split('wrk is missing')[1]).not.toContain('wrk 4.1.0');
  });

  test('cannot move the cursor by what it said', () => {
    const said = `\u001b[2J\u001b[31mred\r\u0007${'x'.repeat(5_000)}`;
    const report = madeReport(
      [madeScenario('hang', { id: 'one', drivers: { spillway: steady(1), pm2: absent(said) } })],
      {
        missing: { nginx: said },
      },
    );
    const text = plainText(report);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
    expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f]/);
    expect(text).toContain('failed: red');
    expect(widest(text)).toBeLessThanOrEqual(100);
  });
});

describe('the head', () => {
  const head = (load: number) => {
    const report = madeReport([madeScenario('hang', { id: 'one', drivers: { spillway: steady(1) } })], {
      load,
    });
    return plainText(report, 400).split('\n\n')[0];
  };

  test('names the tools beside the machine', () => {
    expect(head(0)).toContain('Node v20.20.0, 0123456789ab, wrk 4.1.0\n');
  });

  test('warns of a machine that was busy, and only of such a one', () => {
    expect(head(0.51)).toMatch(/\nThe machine was busy .* load average was 0\.51, and above 0\.5 /);
    expect(head(0.5)).not.toContain('busy');
  });
});

describe('few rounds', () => {
  test('one has no spread, and that is said once', () => {
    const one = (value: number): Given => ({ values: { p99: [value] } });
    const text = plainText(hang({ spillway: one(2), reuseport: one(1) }, 1));
    expect(text).toMatch(/^spillway +│ 2 ×2\.00$/m);
    expect(text).toMatch(/^reuseport +│ 1$/m);
    expect(text.split('There is one round only: no figure has a spread.')).toHaveLength(2);
    expect(text.split('No verdict is given: 1 round, and it takes 5')).toHaveLength(2);
    expect(text).not.toMatch(/–|min–max/);
  });

  test('less than five have a spread and no verdict, which is neither a loss nor "no loss"', () => {
    const values = (value: number): Given => ({ values: { p99: [value, value, value + 1] } });
    const text = plainText(hang({ spillway: values(2), reuseport: values(1) }, 3));
    expect(text.split('No verdict is given: 3 rounds')).toHaveLength(2);
    expect(text).toMatch(/^spillway +│ 2 \(2–3\) ×2\.00$/m);
    expect(text).toMatch(/^reuseport +│ 1 \(1–2\)$/m);
    expect(text).not.toMatch(/one round only|LOSS|Nowhere/);
    expect(text).toContain('Where Spillway loses\nNot known: no verdict is given.');
    expect(text).toMatch(/\nWhere it wins\nnothing was compared \(1 without a verdict\)\n$/);
    expect(text).not.toContain('0 wins');
  });
});

describe('the end', () => {
  test('explains the cells, then names the losses, what could not be judged, and the counts', () => {
    expect(plainText().slice(plainText().indexOf('median ('))).toBe(
      [
        'median (min–max), ×/± to reuseport; Spillway beside each: win, tie, LOSS; ↓ less, ↑ more is better',
        '',
        'Where Spillway loses',
        'stall · spin-400 · failed: Spillway 8 requests, reuseport 0 requests: +8 requests [+7.12, +8.88]',
        'stall · spin-800 · p99: Spillway 20 ms, reuseport 10 ms: ×2.00 [2.00, 2.00]',
        '',
        'Where Spillway could not be judged',
        'rate · http · p99: no round of Spillway has a value, rounds of others have',
        '',
        'Where it wins',
        '1 win, 4 ties, 2 losses',
        '  stall: 1 win, 3 ties, 2 losses',
        '  rate: 0 wins, 1 tie, 0 losses',
        '',
      ].join('\n'),
    );
  });

  test('has a loss on one line without its interval where it would take two with it', () => {
    expect(plainText(telling(), 90)).toContain(
      '\nstall · spin-400 · failed: Spillway 8 requests, reuseport 0 requests: +8 requests\n',
    );
  });

  test('says that nothing was compared, and not that there is no loss, where nobody else has figures', () => {
    const text = plainText(hang({ spillway: steady(1), pm2: absent('it broke') }));
    expect(text.slice(text.indexOf('Where'))).toBe(
      'Where Spillway loses\nNothing was compared.\n\nWhere it wins\nnothing was compared\n',
    );
    const partly = madeReport([
      madeScenario('hang', { id: 'one', drivers: { spillway: steady(1), reuseport: steady(2) } }),
      madeScenario('start', { id: 'one', drivers: { spillway: steady(1) } }),
    ]);
    expect(plainText(partly)).toContain(
      'Where it wins\n1 win, 0 ties, 0 losses\n  hang: 1 win, 0 ties, 0 losses\n  start: nothing was compared\n',
    );
    expect(plainText(madeReport([]))).not.toMatch(/Nowhere|0 wins/);
  });

  test('says that there is no loss', () => {
    expect(plainText(hang({ spillway: steady(1), reuseport: steady(2) }))).toContain(
      'Where Spillway loses\nNowhere:',
    );
  });

  test('says only that Spillway was not measured when it was not, and why when it failed', () => {
    const without = plainText(hang({ reuseport: steady(1), pm2: steady(2) }));
    expect(without).toMatch(/^pm2 +│ 2 \(2–2\) ×2\.00$/m);
    expect(without.slice(without.indexOf('median ('))).toBe(
      'median (min–max), ×/± to reuseport; ↓ less, ↑ more is better\n\nSpillway was not measured: nothing was compared with it.\n',
    );
    const failed = plainText(hang({ spillway: absent('it broke'), reuseport: steady(1) }));
    expect(failed).toContain('Where Spillway could not be judged\nhang · one: Spillway: failed: it broke');
  });
});

describe('the width', () => {
  /** More than any run has: long names, large numbers, six figures, words without end. */
  function large(): Report {
    const figures: FigureSpec[] = Array.from({ length: 6 }, (_, i) => ({
      name: `f${i}`,
      title: `standard deviation ${i}`,
      unit: 'connections',
      better: i % 2 === 0 ? 'lower' : 'higher',
      leading: true,
    }));
    const given = (driver: number): Given => ({
      values: Object.fromEntries(
        figures.map(({ name }, i) => [
          name,
          [1, 2, 3, 4, 5].map((round) => 1_234_567 * (driver + 1) + round * 1_000 * (i + 1)),
        ]),
      ),
    });
    const names = ['reuseport', 'cluster-round-robin', 'spillway', 'spillway:least-queue', 'haproxy'];
    const drivers = Object.fromEntries(names.map((name, i) => [name, given(i)]));
    const settings = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`setting${i}`, i]));
    const said = absent(`${'x'.repeat(300)}\n${'words '.repeat(200)}`);
    const variant = { title: 'a title '.repeat(20), settings, figures, drivers: { ...drivers, pm2: said } };
    const report = madeReport([madeScenario('large', { id: 'all', ...variant })], {
      missing: { nginx: 'not '.repeat(80) },
    });
    limitGenerator(report);
    return report;
  }

  test.each([60, 72, 80, 100, 120, 200, 400])('of %d columns is enough', (width) => {
    for (const report of [telling(), three(), large()]) {
      expect(widest(plainText(report, width))).toBeLessThanOrEqual(width);
    }
  });

  test('drops no figure, and repeats only who has figures', () => {
    const text = plainText(large(), 60);
    for (const median of ['3,706,701', '3,709,701', '3,712,701', '3,715,701', '3,718,701', '3,721,701']) {
      expect(text).toMatch(new RegExp(`^spillway +│.* ${median}( |$)`, 'm'));
    }
    expect(text.match(/^spillway +│/gm)).toHaveLength(3);
    expect(text.match(/^cluster-round-robin +│/gm)).toHaveLength(3);
    expect(text.match(/^pm2 +│/gm)).toHaveLength(1);
  });

  test('holds the same words with colours as without', () => {
    for (const report of [telling(), three(), large()]) {
      const coloured = toTerminal(report, { color: true, width: 100 });
      expect(coloured).not.toBe(plainText(report));
      expect(stripVTControlCharacters(coloured)).toBe(plainText(report));
    }
  });
});

test('a full run of 12 drivers has less than 20 lines per variant', () => {
  const names = ['spillway', 'reuseport', ...Array.from({ length: 10 }, (_, i) => `driver-${i}`)];
  const variants = Array.from({ length: 40 }, (_, i) => ({
    id: `v${i}`,
    drivers: Object.fromEntries(names.map((name) => [name, steady(1 + i)])),
  }));
  const lines = plainText(madeReport([madeScenario('hang', ...variants)])).split('\n').length;
  expect(lines).toBeLessThan(40 * 20);
});
