/** Which results are set beside each other, and which differences are said to be there. */
import type { DriverResult, FigureSpec, Verdict } from '../report/schema.js';
import { type Comparison, compare } from './compare.js';

/** The name of Spillway's driver as it is without any option. */
export const OURS = 'spillway';

/** A name such as "spillway:hash": a variant of ours, not a rival. */
export function isOurs(driver: string): boolean {
  return driver === OURS || driver.startsWith(`${OURS}:`);
}

/** The result with its comparisons filled in, for every figure that has a direction. */
export function besideReference(
  result: DriverResult,
  specs: readonly FigureSpec[],
  reference: DriverResult,
): DriverResult {
  if (result.driver === reference.driver) return result;
  const comparisons: Record<string, Comparison> = {};
  for (const spec of specs) {
    const comparison = comparisonOf(spec, result, reference);
    if (comparison) comparisons[spec.name] = comparison;
  }
  return { ...result, comparisons };
}

/** Spillway beside every rival. Its own variants are not rivals. */
export function verdictsOn(specs: readonly FigureSpec[], results: readonly DriverResult[]): Verdict[] {
  const ours = results.find(({ driver }) => driver === OURS);
  if (!ours) return [];
  const verdicts: Verdict[] = [];
  for (const rival of results) {
    if (isOurs(rival.driver)) continue;
    for (const spec of specs) {
      const comparison = comparisonOf(spec, ours, rival);
      if (comparison) verdicts.push({ figure: spec.name, rival: rival.driver, comparison });
    }
  }
  return verdicts;
}

/**
 * Of the rounds in which both have the figure; undefined where there is none, or no better and worse. Where one of them
 * lacks it in some rounds (nobody was answered then, for example) there is no verdict: the rounds that are left are those
 * that went well.
 */
function comparisonOf(
  { name, better }: FigureSpec,
  ours: DriverResult,
  theirs: DriverResult,
): Comparison | undefined {
  if (better === null) return undefined;
  const others = new Map(theirs.rounds.map(({ round, figures }) => [round, figures[name] ?? null]));
  const pairs: [number, number][] = [];
  let lacking = 0;
  for (const { round, figures } of ours.rounds) {
    const mine = figures[name] ?? null;
    const other = others.get(round) ?? null;
    if (mine !== null && other !== null) pairs.push([mine, other]);
    else if (mine !== null || other !== null) lacking++;
  }
  if (pairs.length === 0) return undefined;
  const comparison = compare(
    pairs.map(([mine]) => mine),
    pairs.map(([, other]) => other),
    better,
  );
  return lacking > 0 ? { ...comparison, verdict: 'unknown' } : comparison;
}
