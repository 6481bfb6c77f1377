/** The folder of kept results: what is written there is read again, and nobody else's file is touched. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { toJson } from '../../bench/report/json.js';
import { BEGIN, END } from '../../bench/report/readme.js';
import { loadResults, parseReport, saveReport, splitByScenario } from '../../bench/report/results.js';
import { madeReport, madeScenario, telling } from '../support/bench-report.js';

/** As on a disk that fills up: of the file whose name contains this only a part is written. */
const full = vi.hoisted(() => ({ at: null as string | null }));

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const writing: typeof fs.writeFileSync = (file, data, options) => {
    if (full.at === null || !String(file).includes(full.at)) return fs.writeFileSync(file, data, options);
    fs.writeFileSync(file, String(data).slice(0, 100), options);
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  return { ...fs, writeFileSync: writing };
});

let folder: string;
let results: string;
let readme: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bench-results-'));
  results = join(folder, 'results');
  readme = join(folder, 'README.md');
  writeFileSync(readme, `# Name\n\n${BEGIN}\n${END}\n`);
});

afterEach(() => {
  full.at = null;
  rmSync(folder, { recursive: true });
});

const save = (report = telling(), order: string[] = []) =>
  saveReport(report, results, { readme, renewal: 'again', order });
const namesOf = (reports: ReturnType<typeof loadResults>) =>
  reports.map(({ scenarios }) => scenarios.map(({ name }) => name).join());

describe('saving', () => {
  test('writes a JSON and a Markdown file per scenario, the page and the table, and says so', () => {
    const files = save();
    expect(readdirSync(results).sort()).toEqual([
      'rate.json',
      'rate.md',
      'report.html',
      'stall.json',
      'stall.md',
    ]);
    expect(files.sort()).toEqual([...readdirSync(results).map((name) => join(results, name)), readme].sort());
    expect(readFileSync(join(results, 'stall.md'), 'utf8')).toContain('**loss**');
    expect(readFileSync(join(results, 'report.html'), 'utf8')).toContain('Where Spillway loses');
    expect(readFileSync(readme, 'utf8')).toMatch(/\[stall\]\(bench\/results\/stall\.md\).*\*\*2 losses\*\*/);
  });

  test('what was saved is loaded again, a scenario per report, in the asked order', () => {
    save();
    expect(loadResults(results)).toEqual(splitByScenario(telling()).reverse());
    expect(namesOf(loadResults(results))).toEqual(['rate', 'stall']);
    expect(namesOf(loadResults(results, ['start', 'stall']))).toEqual(['stall', 'rate']);
  });

  test('a later run of one scenario replaces that one, and the page is of both', () => {
    save();
    const later = madeReport(
      [madeScenario('rate', { id: 'later', drivers: { spillway: { values: { p99: [1] } } } })],
      {
        rounds: 1,
      },
    );
    save(later, ['stall', 'rate']);
    const [stall, rate] = loadResults(results, ['stall', 'rate']);
    expect(stall).toEqual(splitByScenario(telling())[0]);
    expect(rate).toEqual(later);
    const page = readFileSync(join(results, 'report.html'), 'utf8');
    expect(page.indexOf('id="stall"')).toBeGreaterThan(0);
    expect(page.indexOf('id="rate"')).toBeGreaterThan(page.indexOf('id="stall"'));
    expect(page).toContain('the variant later');
  });

  test('saving the same twice changes no file', () => {
    save();
    const content = () =>
      [readme, ...readdirSync(results).map((name) => join(results, name))].map((file) =>
        readFileSync(file, 'utf8'),
      );
    const before = content();
    save();
    expect(content()).toEqual(before);
  });

  test('a README without its place for the table is not touched, and what was measured is kept', () => {
    writeFileSync(readme, '# Name\n');
    expect(() => save()).toThrow(BEGIN);
    expect(readFileSync(readme, 'utf8')).toBe('# Name\n');
    expect(namesOf(loadResults(results))).toEqual(['rate', 'stall']);
  });

  test.each(['stall.json', 'rate.json', 'rate.md', 'report.html', 'README.md'])(
    'a disk that is full at %s leaves the old content, which is loaded as before, and nothing beside it',
    (name) => {
      save();
      const file = name === 'README.md' ? readme : join(results, name);
      const before = readFileSync(file, 'utf8');
      const names = readdirSync(results);
      const later = telling();
      later.took = 1_234;
      later.environment.load = 3;
      for (const { variants } of later.scenarios) for (const each of variants) each.title = 'another';
      full.at = name;
      expect(() => save(later)).toThrow('ENOSPC');
      expect(readFileSync(file, 'utf8')).toBe(before);
      expect(readdirSync(results)).toEqual(names);
      expect(readdirSync(folder).sort()).toEqual(['README.md', 'results']);
      expect(namesOf(loadResults(results))).toEqual(['rate', 'stall']);
      full.at = null;
      save(later);
      expect(readFileSync(file, 'utf8')).not.toBe(before);
    },
  );

  test('a README keeps its mode, and the link that leads to it', () => {
    const elsewhere = join(folder, 'elsewhere.md');
    renameSync(readme, elsewhere);
    symlinkSync('elsewhere.md', readme);
    chmodSync(elsewhere, 0o640);
    save();
    expect(lstatSync(readme).isSymbolicLink()).toBe(true);
    expect(readFileSync(elsewhere, 'utf8')).toContain('| scenario |');
    expect(statSync(elsewhere).mode & 0o777).toBe(0o640);
  });

  test('without a README only the folder is written', () => {
    expect(saveReport(telling(), results, { readme: null, renewal: 'again' })).not.toContain(readme);
  });
});

describe('loading', () => {
  test('no folder is no results', () => {
    expect(loadResults(results)).toEqual([]);
    expect(existsSync(results)).toBe(false);
  });

  test("another benchmark's file is left alone", () => {
    save();
    const other = JSON.stringify({ schema: 'spillway-bench-decision/1' });
    writeFileSync(join(results, 'decision.json'), other);
    save();
    expect(namesOf(loadResults(results))).toEqual(['rate', 'stall']);
    expect(readFileSync(join(results, 'decision.json'), 'utf8')).toBe(other);
  });

  test.each([
    ['no JSON', '{', 'x.json is not JSON'],
    ['no report', 'null', 'x.json has schema undefined'],
    [
      'a later version',
      '{"schema":"spillway-bench/2"}',
      'x.json has schema "spillway-bench/2", spillway-bench/1 is read here',
    ],
  ])('%s is an error that names the file', (_, text, said) => {
    expect(() => parseReport(text, 'x.json')).toThrow(said);
  });
});

describe('JSON', () => {
  test('means the same as without lines', () => {
    expect(JSON.parse(toJson(telling()))).toEqual(telling());
    expect(JSON.parse(toJson({ a: undefined, b: Number.NaN, c: [Number.NaN, 'x'.repeat(200)] }))).toEqual({
      b: null,
      c: [null, 'x'.repeat(200)],
    });
  });

  test('one changed round changes few lines', () => {
    const changed = telling();
    const round = changed.scenarios[0]?.variants[0]?.drivers[0]?.rounds[2];
    if (!round) throw new Error('a round is needed');
    round.figures.p99 = 77;
    const before = toJson(telling()).split('\n');
    const after = toJson(changed).split('\n');
    expect(after).toHaveLength(before.length);
    expect(after.filter((line, i) => line !== before[i])).toHaveLength(1);
  });
});
