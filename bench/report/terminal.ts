/** The report for a terminal: a table per variant, then where Spillway loses, ties and wins. */
import pc from 'picocolors';
import type { Colors } from 'picocolors/types.js';
import { OURS } from '../method/verdicts.js';
import { hasVerdict, noLossText, type Standing, standingsOf, tallyOf, tallyText } from './losses.js';
import type { Report, ScenarioResult, VariantResult } from './schema.js';
import { inShort } from './terminal/reason.js';
import { MARKS, paintMark, variantTable, WAYS } from './terminal/table.js';
import { cut, wrap } from './terminal/wrap.js';
import {
  absentText,
  busyWarning,
  comparisonText,
  generatorWarning,
  inDigits,
  method,
  toolText,
  warning,
  whereAndWhen,
  withUnit,
} from './words.js';

interface TerminalOptions {
  color: boolean;
  /** Columns; below 60, tables are as narrow as they can be, and may be wider than that. */
  width: number;
}

export function toTerminal(report: Report, { color, width }: TerminalOptions): string {
  const colors = pc.createColors(color);
  const parts = [
    opening(report, colors, width),
    ...report.scenarios.map((scenario) => scenarioText(report, scenario, colors, width)),
    legend(report, colors, width),
    hasOurs(report)
      ? closing(report, colors, width)
      : wrap('Spillway was not measured: nothing was compared with it.', width).join('\n'),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Whether there is anything to be said about Spillway. */
function hasOurs({ scenarios }: Report): boolean {
  return scenarios.some(({ variants }) =>
    variants.some(({ drivers }) => drivers.some(({ driver }) => driver === OURS)),
  );
}

function opening(report: Report, colors: Colors, width: number): string {
  const { environment, options, drivers, tools } = report;
  const said = [
    options.rounds === 1 ? 'There is one round only: no figure has a spread.' : null,
    warning(report),
    busyWarning(environment),
  ].filter((text) => text !== null);
  const isThere = ({ missing }: { missing: string | null }) => missing === null;
  const missing = [
    ...drivers
      .filter((driver) => !isThere(driver))
      .map(({ name, missing }) => `${name} is ${absentText({ why: 'missing', text: missing ?? '' })}`),
    ...tools.filter((tool) => !isThere(tool)).map(toolText),
  ];
  return [
    colors.bold("Spillway's benchmark"),
    ...wrap([whereAndWhen(environment), ...tools.filter(isThere).map(toolText)].join(', '), width),
    ...wrap(`${method(report)}; load average ${environment.load.toFixed(2)} at the start`, width),
    ...missing.flatMap((text) => wrap(text, width, '  ').map(colors.yellow)),
    ...said.flatMap((text) => wrap(text, width).map(colors.yellow)),
  ].join('\n');
}

function scenarioText(report: Report, scenario: ScenarioResult, colors: Colors, width: number): string {
  return [
    [
      ...wrap(`${scenario.name}: ${scenario.title}`, width).map((line) =>
        colors.bold(colors.underline(line)),
      ),
      ...wrap(`Shows: ${scenario.shows}`, width).map(colors.dim),
      ...wrap(`Cannot show: ${scenario.cannotShow}`, width).map(colors.dim),
    ].join('\n'),
    ...scenario.variants.map((variant) => variantText(report, scenario, variant, colors, width)),
  ].join('\n\n');
}

function variantText(
  report: Report,
  scenario: ScenarioResult,
  variant: VariantResult,
  colors: Colors,
  width: number,
): string {
  const settings = Object.entries(variant.settings).map(([name, value]) => `${name} ${value}`);
  const limited = generatorWarning(variant);
  return [
    ...wrap(`${scenario.name} · ${variant.id}: ${variant.title}`, width).map(colors.bold),
    ...(settings.length > 0 ? [colors.dim(cut(settings.join(', '), width))] : []),
    ...(limited === null ? [] : wrap(limited, width, '  ').map(colors.yellow)),
    ...variantTable(report, variant, colors, width),
  ].join('\n');
}

/** How the cells are read: what no table of the report has is not explained. */
function legend(report: Report, colors: Colors, width: number): string {
  const { rounds, reference } = report.options;
  const { win, tie, loss, unknown } = MARKS;
  const { unknown: unjudged } = standingsOf([report]);
  const marks = [win, tie, loss, ...(unjudged.length > 0 ? [`${unknown} too few rounds`] : [])];
  const told = [
    `${rounds > 1 ? 'median (min–max)' : 'the value'}, ×/± to ${reference}`,
    ...(hasOurs(report) && warning(report) === null ? [`Spillway beside each: ${marks.join(', ')}`] : []),
    `${WAYS.lower} less, ${WAYS.higher} more is better`,
  ];
  return wrap(told.join('; '), width)
    .map((line) => line.replace(/\b\w+\b/g, (word) => paintMark(word, colors)))
    .join('\n');
}

function closing(report: Report, colors: Colors, width: number): string {
  const standings = standingsOf([report]);
  const { losses, unjudged } = standings;
  const tally = tallyOf(standings);
  const noLoss = warning(report) === null ? noLossText(tally) : 'Not known: no verdict is given.';
  const lines = [
    colors.bold('Where Spillway loses'),
    ...(losses.length > 0
      ? losses.flatMap((loss) => standingLines(loss, width).map(colors.red))
      : wrap(noLoss, width)),
  ];
  if (unjudged.length > 0) {
    lines.push('', colors.bold('Where Spillway could not be judged'));
    for (const { scenario, variant, figure, why } of unjudged) {
      const where = `${scenario.name} · ${variant.id}${figure ? ` · ${figure.title}` : ''}`;
      lines.push(...wrap(`${where}: ${inShort(why)}`, width, '  ').map(colors.yellow));
    }
  }
  lines.push('', colors.bold('Where it wins'), tallyText(tally));
  if (hasVerdict(tally)) {
    for (const { name } of report.scenarios) lines.push(`  ${name}: ${tallyText(tallyOf(standings, name))}`);
  }
  return lines.join('\n');
}

/** One line, without the interval if it is too long with it; more only where that is not enough. */
function standingLines(standing: Standing, width: number): string[] {
  const { scenario, variant, figure, rival, ours, theirs, comparison } = standing;
  const value = (name: string, median: number | undefined) =>
    `${name} ${median === undefined ? 'none' : withUnit(inDigits(median), figure.unit)}`;
  const both = `${value('Spillway', ours?.median)}, ${value(rival.name, theirs?.median)}`;
  const place = `${scenario.name} · ${variant.id} · ${figure.title}`;
  const whole = `${place}: ${both}: ${comparisonText(comparison, figure.unit)}`;
  if (whole.length <= width) return [whole];
  return wrap(
    `${place}: ${both}: ${comparisonText({ ...comparison, interval: null }, figure.unit)}`,
    width,
    '  ',
  );
}
