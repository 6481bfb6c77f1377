/** A variant as one table: a row per driver, a column per leading figure, in a cell as much as the width takes. Pure. */
import type { Colors } from 'picocolors/types.js';
import type { Comparison } from '../../method/compare.js';
import { OURS } from '../../method/verdicts.js';
import { type Cell, leadingFigures, type Row, rowsOf } from '../rows.js';
import type { FigureSpec, Report, VariantResult } from '../schema.js';
import {
  absentText,
  comparisonText,
  inDigits,
  range,
  titleWithUnit,
  VERDICT_TEXT,
  warning,
} from '../words.js';
import { inShort } from './reason.js';
import { wrap } from './wrap.js';

/** How Spillway did beside the driver of the row. A loss is found without colours, too. */
export const MARKS: Record<Comparison['verdict'], string> = {
  win: VERDICT_TEXT.win,
  tie: VERDICT_TEXT.tie,
  loss: VERDICT_TEXT.loss.toUpperCase(),
  unknown: '?',
};

/** Which way is good, in the head of a column. */
export const WAYS = { lower: '↓', higher: '↑' } as const;

const SEPARATOR = ' │ ';

/** A head that is longer than that is broken into lines; into more of them before anything in the cells is dropped. */
const WIDE_HEAD = 18;
const NARROW_HEAD = 12;

/** What may stand in a cell, in this order. */
type Part = 'median' | 'spread' | 'beside' | 'mark';

/** From the widest to the narrowest: the comparison with the reference goes first, then the spread. */
const DETAILS: readonly (readonly Part[])[] = [
  ['median', 'spread', 'beside', 'mark'],
  ['median', 'spread', 'mark'],
  ['median', 'mark'],
];
const BARE: readonly Part[] = ['median', 'mark'];

interface Column {
  head: string;
  /** Of each part of its cells, so that parts of the same kind stand below each other. */
  widths: number[];
  /** By row: the parts, some of them empty; null for who is absent. */
  cells: (string[] | null)[];
  /** Of the whole column. */
  width: number;
}

interface Layout {
  report: Report;
  rows: readonly Row[];
  colors: Colors;
  width: number;
}

/**
 * The lines of the table: several tables below each other only where medians and marks alone are wider than `width`. After
 * them, why drivers are absent, in short, where there was no room for it in the row.
 */
export function variantTable(
  report: Report,
  variant: VariantResult,
  colors: Colors,
  width: number,
): string[] {
  const figures = leadingFigures(variant);
  const rows = oursFirst(rowsOf(report, variant, figures));
  const layout: Layout = { report, rows, colors, width };
  const tables = tablesOf(layout, figures);
  return [...tables.flatMap((columns, index) => draw(layout, columns, index === 0)), ...reasonsBelow(layout)];
}

function oursFirst(rows: readonly Row[]): Row[] {
  const isFirst = ({ driver }: Row) => driver === OURS;
  return [...rows.filter(isFirst), ...rows.filter((row) => !isFirst(row))];
}

function tablesOf(layout: Layout, figures: readonly FigureSpec[]): Column[][] {
  const columnsWith = (parts: readonly Part[], headWidth: number) =>
    figures.map((spec, index) => columnOf(layout, spec, index, parts, headWidth));
  const fits = (columns: readonly Column[]) => widthOf(layout, columns) <= layout.width;
  const whole = DETAILS.flatMap((parts) => [
    columnsWith(parts, WIDE_HEAD),
    columnsWith(parts, NARROW_HEAD),
  ]).find(fits);
  if (whole) return [whole];
  const packed: Column[][] = [];
  for (const column of columnsWith(BARE, NARROW_HEAD)) {
    const last = packed.at(-1);
    if (last && fits([...last, column])) last.push(column);
    else packed.push([column]);
  }
  return packed;
}

function columnOf(
  { report, rows }: Layout,
  spec: FigureSpec,
  index: number,
  parts: readonly Part[],
  headWidth: number,
): Column {
  const hasVerdicts = warning(report) === null;
  const cells = rows.map(({ cells }) => {
    const cell = cells[index];
    return cell ? parts.map((part) => (part === 'mark' && !hasVerdicts ? '' : partText(part, cell))) : null;
  });
  const head = spec.better === null ? titleWithUnit(spec) : `${titleWithUnit(spec)} ${WAYS[spec.better]}`;
  const widths = parts.map((_, part) => Math.max(0, ...cells.map((cell) => cell?.[part]?.length ?? 0)));
  // Heads may be broken between words, cells may not.
  const words = head.split(' ').map(({ length }) => length);
  const width = Math.max(cellWidth(widths), ...words, Math.min(head.length, headWidth));
  return { head, widths, cells, width };
}

function partText(part: Part, { figure, besideReference, spillwayBeside }: Cell): string {
  switch (part) {
    case 'median':
      return figure ? inDigits(figure.median) : 'none';
    case 'spread':
      return figure && figure.samples.length > 1 ? `(${range(figure)})` : '';
    case 'beside':
      return besideReference ? besideText(besideReference) : '';
    case 'mark':
      return spillwayBeside ? MARKS[spillwayBeside.verdict] : '';
  }
}

/** Next to a median, a difference must not look like another figure. */
function besideText(comparison: Comparison): string {
  const text = comparisonText({ ...comparison, interval: null }, '');
  return text === '0' ? '±0' : text;
}

function widthOf(layout: Layout, columns: readonly Column[]): number {
  return columns.reduce((sum, column) => sum + SEPARATOR.length + column.width, namesWidth(layout));
}

function namesWidth({ rows }: Layout): number {
  return Math.max('driver'.length, ...rows.map(({ driver }) => driver.length));
}

function cellWidth(widths: readonly number[]): number {
  const shown = widths.filter((width) => width > 0);
  return shown.reduce((sum, width) => sum + width, Math.max(0, shown.length - 1));
}

/** Who is absent has a row in the first table of a variant only. */
function draw(layout: Layout, columns: readonly Column[], withAbsent: boolean): string[] {
  const { rows, colors } = layout;
  const names = namesWidth(layout);
  const heads = columns.map(({ head, width }) => ({ width, lines: wrap(head, width) }));
  const deepest = Math.max(...heads.map(({ lines }) => lines.length));
  const line = (first: string, cells: readonly string[]) => [first, ...cells].join(SEPARATOR).trimEnd();
  const headLines = Array.from({ length: deepest }, (_, depth) =>
    line(
      padded(depth === 0 ? 'driver' : '', names, colors.bold),
      heads.map(({ lines, width }) => padded(lines[depth] ?? '', width, colors.bold)),
    ),
  );
  const rule = [names, ...columns.map(({ width }) => width)].map((width) => '─'.repeat(width)).join('─┼─');
  const body = rows.flatMap((row, index) => {
    const name = padded(row.driver, names, nameColor(row, colors));
    if (row.absent !== null) {
      return withAbsent ? [line(name, [colors.yellow(reasonInRow(layout, row.absent))])] : [];
    }
    return [
      line(
        name,
        columns.map((column) => cellText(column, index, row, colors)),
      ),
    ];
  });
  return [...headLines, rule, ...body];
}

/** Colours around the text alone: blanks at the end of a line can be left away. */
function padded(text: string, width: number, paint: (text: string) => string): string {
  return `${text === '' ? '' : paint(text)}${' '.repeat(Math.max(0, width - text.length))}`;
}

function nameColor({ driver, own }: Row, { bold, cyan }: Colors): (text: string) => string {
  if (driver === OURS) return (text) => bold(cyan(text));
  return own ? cyan : String;
}

function cellText({ widths, cells, width }: Column, index: number, row: Row, colors: Colors): string {
  const parts = cells[index] ?? [];
  const isOurs = row.driver === OURS;
  const texts = widths.flatMap((partWidth, part) => {
    if (partWidth === 0) return [];
    const text = parts[part] ?? '';
    const paint = (plain: string) => (isOurs ? colors.bold(plain) : paintMark(plain, colors));
    // Medians end at the same place, everything behind them begins at the same one.
    const before = part === 0 ? ' '.repeat(partWidth - text.length) : '';
    return [before + padded(text, part === 0 ? 0 : partWidth, paint)];
  });
  return texts.join(' ') + ' '.repeat(Math.max(0, width - cellWidth(widths)));
}

/** Other words stay as they are. */
export function paintMark(text: string, colors: Colors): string {
  switch (text) {
    case MARKS.win:
      return colors.green(text);
    case MARKS.loss:
      return colors.bold(colors.red(text));
    case MARKS.tie:
      return colors.dim(text);
    default:
      return text;
  }
}

/** The reason in short where it fits, otherwise what kind it is and where it stands. */
function reasonInRow(layout: Layout, reason: string): string {
  const room = layout.width - namesWidth(layout) - SEPARATOR.length;
  const short = inShort(reason);
  if (short.length <= room) return short;
  return `${reason.split(':', 1)[0]}: see ${isToldAbove(layout, reason) ? 'the top' : 'below'}`;
}

/** Who and what is missing on this machine is told once, at the head of the report. */
function isToldAbove({ report }: Layout, reason: string): boolean {
  return [...report.drivers, ...report.tools].some(
    ({ missing }) => missing !== null && absentText({ why: 'missing', text: missing }) === reason,
  );
}

/** Every reason in short, once however many drivers share it. */
function reasonsBelow(layout: Layout): string[] {
  const { rows, colors, width } = layout;
  const drivers = new Map<string, string[]>();
  for (const { driver, absent } of rows) {
    if (absent === null || isToldAbove(layout, absent)) continue;
    const short = inShort(absent);
    if (reasonInRow(layout, absent) === short) continue;
    drivers.set(short, [...(drivers.get(short) ?? []), driver]);
  }
  return [...drivers].flatMap(([reason, names]) =>
    wrap(`${names.join(', ')}: ${reason}`, width, '  ').map(colors.yellow),
  );
}
