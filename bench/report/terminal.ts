/** The report for a terminal: a table per variant, then where Spillway loses, ties and wins. */
import Table from 'cli-table3';
import pc from 'picocolors';
import { type Standing, standingsOf, type Tally, tallyOf } from './losses.js';
import { type Cell, leadingFigures, type Row, rowsOf } from './rows.js';
import type { FigureSpec, Report, ScenarioResult, VariantResult } from './schema.js';
import {
  comparisonText,
  count,
  direction,
  inDigits,
  method,
  range,
  titleWithUnit,
  VERDICT_TEXT,
  warning,
  whereAndWhen,
  withUnit,
} from './words.js';

export interface TerminalOptions {
  color: boolean;
  /** Columns; below 60, tables are as narrow as they can be, and may be wider than that. */
  width: number;
}

/** What is shown of a figure: everything, without the reference, or the median and the verdict alone. */
const DETAILS = ['full', 'no-reference', 'bare'] as const;
type Detail = (typeof DETAILS)[number];

/** Of what a failed driver said; the JSON has all of it. */
const LONGEST_REASON = 400;

interface Column {
  head: string;
  align: 'left' | 'right';
  /** By row; null for who is absent. */
  cells: (string | null)[];
}

type Colors = ReturnType<typeof pc.createColors>;

export function toTerminal(report: Report, { color, width }: TerminalOptions): string {
  const colors = pc.createColors(color);
  const parts = [
    opening(report, colors, width),
    ...report.scenarios.map((scenario) => scenarioText(report, scenario, colors, width)),
    closing(report, colors, width),
  ];
  return `${parts.join('\n\n')}\n`;
}

function opening(report: Report, colors: Colors, width: number): string {
  const said = warning(report);
  return [
    colors.bold("Spillway's benchmark"),
    ...wrap(whereAndWhen(report.environment), width),
    ...wrap(`${method(report)}; load average ${report.environment.load.toFixed(2)} at the start`, width),
    ...report.drivers
      .filter(({ missing }) => missing !== null)
      .flatMap(({ name, missing }) => wrap(`${name} is missing: ${missing}`, width).map(colors.yellow)),
    ...(said ? wrap(said, width).map(colors.yellow) : []),
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
  const figures = leadingFigures(variant);
  const rows = rowsOf(report, variant, figures);
  return [
    ...wrap(`${scenario.name} · ${variant.id}: ${variant.title}`, width).map(colors.bold),
    ...wrap(settings.join(', '), width).map(colors.dim),
    ...tables(report, figures, rows, colors, width),
  ].join('\n');
}

/** As many figures side by side as the width takes, the others in further tables below. */
function tables(
  report: Report,
  figures: readonly FigureSpec[],
  rows: readonly Row[],
  colors: Colors,
  width: number,
): string[] {
  const names: Column = { head: 'driver', align: 'left', cells: rows.map(({ driver }) => driver) };
  const fits = (columns: readonly Column[]) => widthOf([names, ...columns]) <= width;
  const packed: Column[][] = [];
  for (const index of figures.keys()) {
    const groupOf = (detail: Detail) => columnsOf(report, figures, rows, index, detail);
    const group = groupOf(DETAILS.find((detail) => fits(groupOf(detail))) ?? 'bare');
    const last = packed.at(-1);
    if (last && fits([...last, ...group])) last.push(...group);
    else packed.push([...group]);
  }
  return packed.map((columns) => draw([names, ...columns], rows, colors));
}

function columnsOf(
  report: Report,
  figures: readonly FigureSpec[],
  rows: readonly Row[],
  index: number,
  detail: Detail,
): Column[] {
  const spec = figures[index] as FigureSpec;
  const column = (head: string, align: Column['align'], text: (cell: Cell) => string): Column => ({
    head,
    align,
    cells: rows.map(({ cells }) => (cells[index] ? text(cells[index]) : null)),
  });
  const columns = [
    column(titleWithUnit(spec), 'right', ({ figure }) => (figure ? inDigits(figure.median) : 'none')),
  ];
  if (detail !== 'bare') {
    columns.push(column('min–max', 'left', ({ figure }) => (figure ? range(figure) : '')));
  }
  if (spec.better === null) return columns;
  if (detail === 'full') {
    columns.push(
      column(`beside ${report.options.reference}`, 'left', ({ besideReference }) =>
        besideReference ? comparisonText(besideReference, '') : '',
      ),
    );
  }
  columns.push(column(`Spillway (${direction(spec)})`, 'left', (cell) => verdictText(cell, detail)));
  return columns;
}

function verdictText({ spillwayBeside }: Cell, detail: Detail): string {
  if (spillwayBeside === null) return '';
  const word = VERDICT_TEXT[spillwayBeside.verdict];
  return detail === 'bare' ? word : `${word} ${comparisonText({ ...spillwayBeside, interval: null }, '')}`;
}

/** What cli-table3 makes of the columns: two blanks in each, a line before each and one at the end. */
function widthOf(columns: readonly Column[]): number {
  return columns.reduce((sum, column) => sum + contentWidth(column) + 3, 1);
}

/** Heads may be broken between words, values may not. */
function contentWidth({ head, cells }: Column): number {
  const words = head.split(' ').map(({ length }) => length);
  const values = cells.map((cell) => cell?.length ?? 0);
  return Math.max(...values, ...words, Math.min(head.length, MOST_OF_A_HEAD));
}

/** A head that is longer than that is broken into lines. */
const MOST_OF_A_HEAD = 16;

function draw(columns: readonly Column[], rows: readonly Row[], colors: Colors): string {
  const [names, ...rest] = columns;
  const room = widthOf(rest) - 4;
  const table = new Table({
    head: columns.map((column) => wrap(column.head, contentWidth(column)).map(colors.bold).join('\n')),
    colAligns: columns.map(({ align }) => align),
    colWidths: columns.map((column) => contentWidth(column) + 2),
    // Colours are ours: the table would use them for a file as well. No lines between the rows.
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  });
  for (const [index, row] of rows.entries()) {
    const name = row.own ? colors.cyan(names?.cells[index] ?? '') : (names?.cells[index] ?? '');
    if (row.absent !== null) {
      const content = wrap(shortened(row.absent), room).map(colors.yellow).join('\n');
      table.push([name, { content, colSpan: rest.length, hAlign: 'left' }]);
    } else {
      table.push([name, ...rest.map(({ cells }) => painted(cells[index] ?? '', colors))]);
    }
  }
  // Around a cell over several columns the table prints what is left of the lines between the rows.
  return table.toString().replace(/^[┴┬]+\n/gm, '');
}

function painted(text: string, colors: Colors): string {
  if (/^win\b/.test(text)) return colors.green(text);
  return /^loss\b/.test(text) ? colors.red(text) : text;
}

function shortened(text: string): string {
  return text.length <= LONGEST_REASON ? text : `${text.slice(0, LONGEST_REASON)}…`;
}

function closing(report: Report, colors: Colors, width: number): string {
  const standings = standingsOf([report]);
  const { losses, unjudged } = standings;
  const said = warning(report);
  const noLoss = said ?? 'Nowhere: no interval of a comparison says so.';
  const lines = [
    colors.bold('Where Spillway loses'),
    ...(losses.length > 0
      ? losses.flatMap((loss) => wrap(standingLine(loss), width, '  ').map(colors.red))
      : wrap(noLoss, width)),
  ];
  if (unjudged.length > 0) {
    lines.push('', colors.bold('Where Spillway could not be judged'));
    for (const { scenario, variant, figure, why } of unjudged) {
      const where = `${scenario.name} · ${variant.id}${figure ? ` · ${figure.title}` : ''}`;
      lines.push(...wrap(`${where}: ${why}`, width, '  ').map(colors.yellow));
    }
  }
  lines.push('', colors.bold('Where it wins'), tallyText(tallyOf(standings)));
  for (const { name } of report.scenarios) lines.push(`  ${name}: ${tallyText(tallyOf(standings, name))}`);
  return lines.join('\n');
}

function standingLine({ scenario, variant, figure, rival, ours, theirs, comparison }: Standing): string {
  const value = (name: string, median: number | undefined) =>
    `${name} ${median === undefined ? 'none' : withUnit(inDigits(median), figure.unit)}`;
  const both = `${value('Spillway', ours?.median)}, ${value(rival.name, theirs?.median)}`;
  return `${scenario.name} · ${variant.id} · ${figure.title}: ${both}: ${comparisonText(comparison, figure.unit)}`;
}

function tallyText({ wins, ties, losses, unknown }: Tally): string {
  const without = unknown > 0 ? `, ${inDigits(unknown)} without a verdict` : '';
  return `${count(wins, 'win')}, ${count(ties, 'tie')}, ${count(losses, 'loss')}${without}`;
}

/** In lines of at most `width` characters, broken between words (and within one that is longer than a line). */
export function wrap(text: string, width: number, indent = ''): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const whole of paragraph.split(/\s+/).filter((word) => word !== '')) {
      let word = whole;
      const start = lines.length === 0 ? '' : indent;
      if (line !== '' && line.length + 1 + word.length <= width) {
        line += ` ${word}`;
        continue;
      }
      if (line !== '') lines.push(line);
      line = `${line === '' ? start : indent}${word}`;
      while (line.length > width && width > indent.length) {
        lines.push(line.slice(0, width));
        word = line.slice(width);
        line = `${indent}${word}`;
      }
    }
    if (line !== '') lines.push(line);
  }
  return lines;
}
