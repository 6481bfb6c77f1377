/** A variant as rows, one per driver, whatever the report looks like that prints them. Pure. */
import type { Comparison } from '../method/compare.js';
import type { Figure } from '../method/statistics.js';
import { isOurs } from '../method/verdicts.js';
import { titleOf } from './losses.js';
import type { DriverResult, FigureSpec, Report, VariantResult } from './schema.js';
import { absentText } from './words.js';

export interface Cell {
  spec: FigureSpec;
  /** Null where no round had a value. */
  figure: Figure | null;
  /** This driver beside the reference; null for the reference itself and where there is nothing to compare. */
  besideReference: Comparison | null;
  /** Spillway beside this driver; null for Spillway itself and its variants. */
  spillwayBeside: Comparison | null;
}

export interface Row {
  driver: string;
  title: string;
  /** Spillway or a variant of it. */
  own: boolean;
  reference: boolean;
  /** Why there are no figures, in words: "missing: npm install pm2"; null: there are. */
  absent: string | null;
  /** One per asked figure, in that order; empty for who is absent. */
  cells: Cell[];
}

export function rowsOf(report: Report, variant: VariantResult, figures: readonly FigureSpec[]): Row[] {
  return variant.drivers.map((result) => ({
    driver: result.driver,
    title: titleOf(report, result.driver),
    own: isOurs(result.driver),
    reference: result.driver === report.options.reference,
    absent: result.absent && absentText(result.absent),
    cells: result.absent ? [] : figures.map((spec) => cellOf(variant, result, spec)),
  }));
}

function cellOf(
  { verdicts }: VariantResult,
  { driver, figures, comparisons }: DriverResult,
  spec: FigureSpec,
): Cell {
  const verdict = verdicts.find(({ figure, rival }) => figure === spec.name && rival === driver);
  return {
    spec,
    figure: figures[spec.name] ?? null,
    besideReference: comparisons[spec.name] ?? null,
    spillwayBeside: verdict?.comparison ?? null,
  };
}

/** The figures for short tables; all of them where a variant names none. */
export function leadingFigures({ figures }: VariantResult): FigureSpec[] {
  const leading = figures.filter((figure) => figure.leading);
  return leading.length > 0 ? leading : figures;
}

/** The figure that speaks for a variant where there is room for one only; undefined where nothing is compared. */
export function firstFigure(variant: VariantResult): FigureSpec | undefined {
  return leadingFigures(variant).find(({ better }) => better !== null);
}
