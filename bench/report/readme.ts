/** The short table of the README, made from the results that are kept. Pure. */

import { isOurs, OURS } from '../method/verdicts.js';
import {
  hasVerdict,
  nothingText,
  type Standing,
  standingsOf,
  tallyOf,
  tallyText,
  titleOf,
} from './losses.js';
import { lossTable, tableRow } from './markdown.js';
import { firstFigure } from './rows.js';
import type { DriverResult, FigureSpec, Report, ScenarioResult, VariantResult } from './schema.js';
import {
  advantage,
  count,
  day,
  direction,
  duration,
  inDigits,
  machine,
  revision,
  titleWithUnit,
  VERDICT_TEXT,
  warning,
  withRange,
} from './words.js';

export const BEGIN = '<!-- bench:begin -->';
export const END = '<!-- bench:end -->';

/** Losses that are told in the README itself; all of them are in the report. */
const LOSSES_SHOWN = 10;

/** One figure of one variant: what stands for a scenario. */
interface Telling {
  variant: VariantResult;
  figure: FigureSpec;
  besideReference: Standing | null;
}

/** `renewal`: the command that measures everything again. */
export function toReadmeTable(reports: readonly Report[], renewal: string): string {
  const rows = reports.flatMap((report) =>
    report.scenarios.flatMap((scenario) => scenarioRow(report, scenario) ?? []),
  );
  if (rows.length === 0) return `Nothing was measured yet: \`${renewal}\`.`;
  const references = [...new Set(reports.map((report) => titleOf(report, report.options.reference)))];
  return [
    tableRow([
      'scenario',
      'figure',
      'Spillway',
      references.join(' or '),
      'best other rival',
      'verdict on Spillway',
      'all figures',
    ]),
    tableRow(['---', '---', '---:', '---:', '---', '---', '---']),
    ...rows,
    '',
    `Median of the rounds (lowest–highest). Of every scenario it is the variant in which Spillway and`,
    `${references.join(' or ')} differ most in its first figure, whichever of them is better; all others are in`,
    '[bench/results](bench/results). A win or a loss is called so only if the 95 % interval says so.',
    '',
    ...lossLines(reports),
    '',
    ...provenance(reports, renewal),
  ].join('\n');
}

function scenarioRow(report: Report, scenario: ScenarioResult): string[] | null {
  const telling = mostTelling(report, scenario);
  if (telling === null) return null;
  const { variant, figure } = telling;
  const shown = (result: DriverResult | undefined) => {
    if (result?.absent) return result.absent.why.replaceAll('-', ' ');
    const value = result?.figures[figure.name];
    return value ? withRange(value) : 'none';
  };
  const byName = (name: string) => variant.drivers.find(({ driver }) => driver === name);
  const best = bestRival(variant, figure, report.options.reference);
  const standings = standingsOf([{ ...report, scenarios: [scenario] }]);
  return [
    tableRow([
      `[${scenario.name}](bench/results/${scenario.name}.md): ${variant.title}`,
      `${titleWithUnit(figure)}${figure.better ? ` (${direction(figure)})` : ''}`,
      shown(byName(OURS)),
      shown(byName(report.options.reference)),
      best ? `${titleOf(report, best.driver)}: ${shown(best)}` : 'none',
      verdictsText(report, variant, figure, best),
      [
        tallyText(tallyOf(standings), (text) => `**${text}**`),
        ...(standings.unjudged.length > 0 ? [`${inDigits(standings.unjudged.length)} not to be judged`] : []),
      ].join(', '),
    ]),
  ];
}

/** The variant whose first figure differs most from the reference's; a difference that was shown before a tie. */
function mostTelling(report: Report, scenario: ScenarioResult): Telling | null {
  const { wins, losses, ties, unknown } = standingsOf([{ ...report, scenarios: [scenario] }]);
  const besideReference = [...losses, ...wins, ...ties, ...unknown].filter(
    ({ rival }) => rival.name === report.options.reference,
  );
  const candidates = scenario.variants.flatMap((variant): Telling[] => {
    const figure = firstFigure(variant);
    if (figure === undefined) return [];
    const standing = besideReference.find(
      (each) => each.variant.id === variant.id && each.figure.name === figure.name,
    );
    return [{ variant, figure, besideReference: standing ?? null }];
  });
  return candidates.sort((a, b) => weight(b) - weight(a))[0] ?? null;
}

function weight({ besideReference }: Telling): number {
  if (besideReference === null) return -2;
  const { verdict } = besideReference.comparison;
  return verdict === 'win' || verdict === 'loss' ? besideReference.size : besideReference.size - 1;
}

function bestRival(
  variant: VariantResult,
  { name, better }: FigureSpec,
  reference: string,
): DriverResult | null {
  const sign = better === 'higher' ? -1 : 1;
  const rivals = variant.drivers.filter(
    ({ driver, figures }) => !isOurs(driver) && driver !== reference && figures[name],
  );
  const value = ({ figures }: DriverResult) => sign * (figures[name]?.median ?? 0);
  return rivals.sort((a, b) => value(a) - value(b))[0] ?? null;
}

function verdictsText(
  report: Report,
  { verdicts }: VariantResult,
  figure: FigureSpec,
  best: DriverResult | null,
): string {
  const parts = [report.options.reference, ...(best ? [best.driver] : [])].flatMap((rival) => {
    const found = verdicts.find((each) => each.figure === figure.name && each.rival === rival);
    if (!found) return [];
    const { verdict } = found.comparison;
    const word = verdict === 'loss' ? `**${VERDICT_TEXT.loss}**` : VERDICT_TEXT[verdict];
    const text = verdict === 'win' || verdict === 'loss' ? ` (${advantage(found.comparison, figure)})` : '';
    return [`${word}${text} beside ${titleOf(report, rival)}`];
  });
  return parts.length > 0 ? parts.join(', ') : 'not compared';
}

function lossLines(reports: readonly Report[]): string[] {
  const standings = standingsOf(reports);
  const { losses } = standings;
  const warned = reports.map(warning).find((said) => said !== null);
  if (losses.length === 0) {
    const tally = tallyOf(standings);
    const none = hasVerdict(tally) ? 'nowhere in these results' : nothingText(tally);
    return [`**Where Spillway loses:** ${warned ?? `${none}.`}`];
  }
  const shown = losses.slice(0, LOSSES_SHOWN);
  const more = losses.length - shown.length;
  const rest =
    more > 0 ? `, the ${shown.length} largest of ${losses.length} (all: [bench/results](bench/results))` : '';
  return [`**Where Spillway loses**${rest}:`, '', ...lossTable(shown)];
}

function provenance(reports: readonly Report[], renewal: string): string[] {
  const lines = reports.map(({ environment, options }) => {
    const quick = options.quick ? ', quick' : '';
    return `${day(environment)} on ${machine(environment)}, Linux ${environment.kernel}, Node ${environment.node}, ${revision(environment)}, ${count(options.rounds, 'round')}${quick}`;
  });
  const missing = reports.flatMap(({ drivers, tools }) => [
    ...drivers.filter(({ missing }) => missing !== null).map(({ title }) => title),
    ...tools.filter(({ missing }) => missing !== null).map(({ name }) => name),
  ]);
  const took = reports.length > 0 ? Math.max(...reports.map((report) => report.took)) : 0;
  return [
    `Measured ${[...new Set(lines)].join('; ')}.`,
    ...(missing.length > 0 ? [`Missing there: ${[...new Set(missing)].join(', ')}.`] : []),
    `Renewed by \`${renewal}\` (${duration(took)}).`,
  ];
}

/**
 * The README with `table` between the markers, whatever stood there. Throws a RangeError when the markers are not there
 * exactly once, in their order: a table in the wrong place would be worse than none.
 */
export function intoReadme(readme: string, table: string): string {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  const once = readme.lastIndexOf(BEGIN) === begin && readme.lastIndexOf(END) === end;
  if (begin < 0 || end < begin || !once) {
    throw new RangeError(`the README needs one line ${BEGIN} and, after it, one line ${END}`);
  }
  return `${readme.slice(0, begin)}${BEGIN}\n${table.trim()}\n${readme.slice(end)}`;
}
