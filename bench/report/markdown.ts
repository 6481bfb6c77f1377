/** The report in Markdown: one page per scenario, losses first, for readers who look at the repository. */
import { noLossText, type Standing, standingsOf, tallyOf, titleOf, type Unjudged } from './losses.js';
import { firstFigure, type Row, rowsOf } from './rows.js';
import type { FigureSpec, Report, ScenarioResult, VariantResult } from './schema.js';
import {
  advantage,
  busyWarning,
  comparisonText,
  direction,
  generatorWarning,
  inDigits,
  method,
  titleWithUnit,
  toolText,
  UNCORRECTED,
  VERDICT_TEXT,
  warning,
  whereAndWhen,
  withRange,
  withUnit,
} from './words.js';

export function toMarkdown(report: Report): string {
  const said = [warning(report), busyWarning(report.environment)].filter((each) => each !== null);
  const lines = [
    `# Benchmark: ${report.scenarios.map(({ name }) => name).join(', ')}`,
    '',
    '<!-- Written by `npm run bench`; the figures are in the JSON file of the same name. -->',
    '',
    ...said.flatMap((each) => [`**${each}**`, '']),
    ...losses(report),
    ...report.scenarios.flatMap((scenario) => scenarioLines(report, scenario)),
    ...where(report),
  ];
  return `${lines
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trimEnd()}\n`;
}

function losses(report: Report): string[] {
  const standings = standingsOf([report]);
  const { losses: all, unjudged } = standings;
  return [
    '## Where Spillway loses',
    '',
    ...(all.length > 0 ? lossTable(all) : [warning(report) ?? noLossText(tallyOf(standings))]),
    '',
    ...unjudgedLines(unjudged),
  ];
}

export function lossTable(all: readonly Standing[]): string[] {
  return [
    tableRow(['scenario', 'variant', 'figure', 'Spillway', 'rival', "rival's", 'Spillway beside it']),
    tableRow(['---', '---', '---', '---:', '---', '---:', '---']),
    ...all.map(({ scenario, variant, figure, rival, ours, theirs, comparison }) =>
      tableRow([
        scenario.name,
        variant.id,
        figure.title,
        ours ? withUnit(inDigits(ours.median), figure.unit) : 'none',
        rival.title,
        theirs ? withUnit(inDigits(theirs.median), figure.unit) : 'none',
        `**loss**: ${advantage(comparison, figure)}, ${comparisonText(comparison, figure.unit)}`,
      ]),
    ),
  ];
}

function unjudgedLines(unjudged: readonly Unjudged[]): string[] {
  if (unjudged.length === 0) return [];
  return [
    '## Where Spillway could not be judged',
    '',
    ...unjudged.map(({ scenario, variant, figure, why }) => {
      const place = [scenario.name, variant.id, ...(figure ? [figure.title] : [])].join(' · ');
      return `- ${inText(place)}: ${inText(why)}`;
    }),
    '',
  ];
}

function scenarioLines(report: Report, scenario: ScenarioResult): string[] {
  return [
    `## ${inText(scenario.title)}`,
    '',
    `*Shows:* ${inText(scenario.shows)}`,
    '',
    `*Cannot show:* ${inText(scenario.cannotShow)}`,
    '',
    ...scenario.variants.flatMap((variant) => variantLines(report, scenario, variant)),
  ];
}

/** Every figure: rows are drivers, in every cell the median and the lowest and highest round. */
function variantLines(report: Report, scenario: ScenarioResult, variant: VariantResult): string[] {
  const settings = Object.entries(variant.settings).map(([name, value]) => `${name} ${value}`);
  const limited = generatorWarning(variant, (driver) => titleOf(report, driver));
  const telling = firstFigure(variant);
  const figures = variant.figures;
  const rows = rowsOf(report, variant, figures);
  const head = ['driver', ...figures.map((figure) => figureHead(figure))];
  const verdictHead = telling ? [`${telling.title}: beside ${report.options.reference}`, 'Spillway'] : [];
  return [
    `### ${scenario.name} · ${variant.id}: ${inText(variant.title)}`,
    '',
    inText(settings.join(', ')),
    '',
    ...(limited === null ? [] : [`**${inText(limited)}**`, '']),
    tableRow([...head, ...verdictHead]),
    tableRow([...head.map((_, index) => (index === 0 ? '---' : '---:')), ...verdictHead.map(() => '---')]),
    ...rows.map((row) => driverRow(row, figures, telling, head.length + verdictHead.length)),
    '',
  ];
}

function figureHead(figure: FigureSpec): string {
  const way = direction(figure);
  return way === '' ? titleWithUnit(figure) : `${titleWithUnit(figure)} (${way})`;
}

function driverRow(
  row: Row,
  figures: readonly FigureSpec[],
  telling: FigureSpec | undefined,
  width: number,
): string {
  const name = row.own ? `**${row.title}**` : row.title;
  if (row.absent !== null) return tableRow([name, row.absent, ...Array<string>(width - 2).fill('')]);
  const cells = row.cells.map(({ figure }) => (figure ? withRange(figure) : 'none'));
  if (telling === undefined) return tableRow([name, ...cells]);
  const beside = row.cells[figures.indexOf(telling)]?.besideReference;
  return tableRow([name, ...cells, beside ? comparisonText(beside, telling.unit) : '', verdictsOf(row)]);
}

/** The figures with a direction by verdict: "win: p99, rate; **loss**: refused". */
function verdictsOf({ cells }: Row): string {
  return (['loss', 'win', 'tie', 'unknown'] as const)
    .flatMap((verdict) => {
      const names = cells
        .filter(({ spillwayBeside }) => spillwayBeside?.verdict === verdict)
        .map(({ spec }) => spec.title);
      const word = verdict === 'loss' ? `**${VERDICT_TEXT[verdict]}**` : VERDICT_TEXT[verdict];
      return names.length > 0 ? [`${word}: ${names.join(', ')}`] : [];
    })
    .join('; ');
}

function where(report: Report): string[] {
  return [
    '## Where and how',
    '',
    `- ${inText(whereAndWhen(report.environment))}`,
    `- load average ${report.environment.load.toFixed(2)} at the start; spectre_v2: ${inText(report.environment.spectreV2 ?? 'unknown')}`,
    ...report.tools.map((tool) => `- ${inText(toolText(tool))}`),
    `- ${inText(method(report))}`,
    '- In the tables: median of the rounds (lowest–highest). `×`: ratio to the other in the same rounds, `+` and `−`: difference; in brackets the 95 % confidence interval. A win or a loss is one only if the whole interval lies on one side.',
    `- ${UNCORRECTED}`,
    ...report.drivers.map(({ title, version, missing, about }) => {
      const state = missing === null ? (version ?? 'version unknown') : `**missing**: ${missing}`;
      return `- ${inText(title)}: ${inText(state)}. ${inText(about)}`;
    }),
    '',
  ];
}

/** Cells on one line, without anything that ends a cell. */
export function tableRow(cells: readonly string[]): string {
  return `| ${cells.map((cell) => inText(cell).replaceAll('|', '\\|')).join(' | ')} |`;
}

/** Text of others, such as what a failed driver said, on one line and never taken for HTML. */
function inText(text: string): string {
  return text.replace(/\s+/g, ' ').trim().replaceAll('<', '&lt;');
}
