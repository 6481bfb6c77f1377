/** Where Spillway loses, wins and ties, over everything that was measured. Pure. */
import type { Comparison } from '../method/compare.js';
import type { Figure } from '../method/statistics.js';
import { isOurs, OURS } from '../method/verdicts.js';
import type { DriverResult, FigureSpec, Report, ScenarioResult, VariantResult } from './schema.js';
import { absentText, count, inDigits } from './words.js';

/** Spillway beside one rival in one figure of one variant. */
export interface Standing {
  scenario: { name: string; title: string };
  variant: { id: string; title: string };
  figure: FigureSpec;
  rival: { name: string; title: string };
  ours: Figure | null;
  theirs: Figure | null;
  comparison: Comparison;
  /** How far apart they are, 0 to 1: by which share of the larger value the two differ. */
  size: number;
}

/** A variant, or a figure of it, in which Spillway has no value to be judged by, and somebody else has. */
export interface Unjudged {
  scenario: { name: string; title: string };
  variant: { id: string; title: string };
  /** Null: the whole variant. */
  figure: FigureSpec | null;
  /** In words. */
  why: string;
}

/** The largest difference first in every list. */
interface Standings {
  losses: Standing[];
  wins: Standing[];
  ties: Standing[];
  /** Too few rounds for a verdict. */
  unknown: Standing[];
  /** What must not be taken for "no loss": Spillway failed here, or nobody got an answer from it. */
  unjudged: Unjudged[];
}

export function standingsOf(reports: readonly Report[]): Standings {
  const all = reports.flatMap((report) =>
    eachVariant(report).flatMap(({ scenario, variant }) =>
      variant.verdicts.flatMap((verdict) => {
        const figure = variant.figures.find(({ name }) => name === verdict.figure);
        return figure ? [standing(report, scenario, variant, figure, verdict.rival, verdict.comparison)] : [];
      }),
    ),
  );
  all.sort((a, b) => b.size - a.size);
  const having = (verdict: Comparison['verdict']) =>
    all.filter((each) => each.comparison.verdict === verdict);
  return {
    losses: having('loss'),
    wins: having('win'),
    ties: having('tie'),
    unknown: having('unknown'),
    unjudged: reports.flatMap((report) =>
      eachVariant(report).flatMap(({ scenario, variant }) => unjudgedIn(scenario, variant)),
    ),
  };
}

function eachVariant(report: Report): { scenario: ScenarioResult; variant: VariantResult }[] {
  return report.scenarios.flatMap((scenario) => scenario.variants.map((variant) => ({ scenario, variant })));
}

function standing(
  report: Report,
  scenario: ScenarioResult,
  variant: VariantResult,
  figure: FigureSpec,
  rival: string,
  comparison: Comparison,
): Standing {
  const figureOf = (driver: string) =>
    variant.drivers.find((each) => each.driver === driver)?.figures[figure.name] ?? null;
  const ours = figureOf(OURS);
  const theirs = figureOf(rival);
  return {
    ...placeOf(scenario, variant),
    figure,
    rival: { name: rival, title: titleOf(report, rival) },
    ours,
    theirs,
    comparison,
    size: sizeOf(comparison, ours, theirs),
  };
}

function placeOf(scenario: ScenarioResult, variant: VariantResult): Pick<Standing, 'scenario' | 'variant'> {
  return {
    scenario: { name: scenario.name, title: scenario.title },
    variant: { id: variant.id, title: variant.title },
  };
}

export function titleOf(report: Report, driver: string): string {
  return report.drivers.find(({ name }) => name === driver)?.title ?? driver;
}

/** Ratios and differences on one scale, so that both can be sorted together. */
function sizeOf({ of, median }: Comparison, ours: Figure | null, theirs: Figure | null): number {
  if (of === 'ratio') return 1 - Math.min(median, 1 / median);
  const larger = Math.max(Math.abs(ours?.median ?? 0), Math.abs(theirs?.median ?? 0));
  return larger === 0 ? 0 : Math.min(1, Math.abs(median) / larger);
}

function unjudgedIn(scenario: ScenarioResult, variant: VariantResult): Unjudged[] {
  const spillway = variant.drivers.find(({ driver }) => driver === OURS);
  const rivals = variant.drivers.filter(({ driver, rounds }) => !isOurs(driver) && rounds.length > 0);
  if (rivals.length === 0) return [];
  const place = placeOf(scenario, variant);
  if (spillway === undefined) {
    const without = !variant.drivers.some(({ driver }) => isOurs(driver));
    return without ? [{ ...place, figure: null, why: 'Spillway was not measured' }] : [];
  }
  if (spillway.absent !== null) {
    return [{ ...place, figure: null, why: `Spillway: ${absentText(spillway.absent)}` }];
  }
  return variant.figures
    .filter(
      ({ name, better }) =>
        better !== null && lacks(spillway, name) && !rivals.every((each) => lacks(each, name)),
    )
    .map((figure) => ({ ...place, figure, why: 'no round of Spillway has a value, rounds of others have' }));
}

function lacks({ figures }: DriverResult, name: string): boolean {
  return (figures[name] ?? null) === null;
}

/** How often, for "12 wins, 3 ties, 1 loss". */
export interface Tally {
  wins: number;
  ties: number;
  losses: number;
  unknown: number;
}

export function tallyOf({ wins, ties, losses, unknown }: Standings, scenario?: string): Tally {
  const amount = (list: readonly Standing[]) =>
    scenario === undefined ? list.length : list.filter((each) => each.scenario.name === scenario).length;
  return { wins: amount(wins), ties: amount(ties), losses: amount(losses), unknown: amount(unknown) };
}

/** Without any verdict, counts of wins and losses would read like a result: {@link nothingText} takes their place. */
export function hasVerdict({ wins, ties, losses }: Tally): boolean {
  return wins + ties + losses > 0;
}

export function nothingText({ unknown }: Tally): string {
  return `nothing was compared${unknown > 0 ? ` (${inDigits(unknown)} without a verdict)` : ''}`;
}

/** "12 wins, 3 ties, 1 loss". `strong` marks losses, where there are any. */
export function tallyText(tally: Tally, strong: (text: string) => string = String): string {
  if (!hasVerdict(tally)) return nothingText(tally);
  const { wins, ties, losses, unknown } = tally;
  const lost = count(losses, 'loss');
  return [
    count(wins, 'win'),
    count(ties, 'tie'),
    losses > 0 ? strong(lost) : lost,
    ...(unknown > 0 ? [`${inDigits(unknown)} without a verdict`] : []),
  ].join(', ');
}

/** In place of the losses where there is none. */
export function noLossText(tally: Tally): string {
  return hasVerdict(tally) ? 'Nowhere: no interval of a comparison says so.' : 'Nothing was compared.';
}
