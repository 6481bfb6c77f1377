/** The head of the page: what was measured, on what, and how Spillway did, its losses first. */
import {
  hasVerdict,
  noLossText,
  nothingText,
  type Standing,
  standingsOf,
  type Tally,
  tallyOf,
  type Unjudged,
} from '../losses.js';
import type { Report } from '../schema.js';
import {
  advantage,
  busyWarning,
  comparisonText,
  count,
  day,
  inDigits,
  machine,
  method,
  revision,
  toolText,
  UNCORRECTED,
  VERDICT_TEXT,
  warning,
  withUnit,
} from '../words.js';
import { type Html, html } from './markup.js';

export function summary(reports: readonly Report[]): Html {
  const standings = standingsOf(reports);
  const tally = tallyOf(standings);
  const warnings = [...new Set(reports.map(warning))].filter((said) => said !== null);
  return html`
<header>
  <h1>Spillway beside what is used today</h1>
  <p class="lead">${whatWasMeasured(reports)}</p>
  ${tallyBar(tally, 'Spillway beside every rival, every figure of every variant')}
  ${[...warnings, ...busyWarnings(reports)].map((said) => html`<p class="warning">${said}</p>`)}
</header>
<section aria-labelledby="losses">
  <h2 id="losses">Where Spillway loses</h2>
  ${standings.losses.length > 0 ? lossTable(standings.losses) : html`<p>${warnings[0] ?? noLossText(tally)}</p>`}
  ${unjudgedList(standings.unjudged)}
</section>
<section aria-labelledby="tally">
  <h2 id="tally">By scenario</h2>
  <div class="scroll" tabindex="0" role="region" aria-label="Verdicts by scenario">
  <table class="tally">
    <thead><tr><th>Scenario<th>Verdicts on Spillway<th class="num">wins<th class="num">ties<th class="num">losses<th class="num">no verdict</thead>
    <tbody>${reports.flatMap(({ scenarios }) => scenarios.map(({ name, title }) => tallyRow(name, title, tallyOf(standings, name))))}</tbody>
  </table>
  </div>
</section>`;
}

/** Each with the scenarios whose figures it is about, unless it is about all of them. */
function busyWarnings(reports: readonly Report[]): string[] {
  const about = new Map<string, Report[]>();
  for (const report of reports) {
    const said = busyWarning(report.environment);
    if (said !== null) about.set(said, [...(about.get(said) ?? []), report]);
  }
  return [...about].map(([said, busy]) => {
    if (busy.length === reports.length) return said;
    return `${busy.flatMap(({ scenarios }) => scenarios.map(({ name }) => name)).join(', ')}: ${said}`;
  });
}

function whatWasMeasured(reports: readonly Report[]): string {
  const scenarios = reports.flatMap((report) => report.scenarios);
  const variants = scenarios.reduce((sum, each) => sum + each.variants.length, 0);
  const present = new Set(
    reports.flatMap(({ drivers }) =>
      drivers.filter(({ missing }) => missing === null).map(({ name }) => name),
    ),
  );
  const where = [
    ...new Set(
      reports.map(
        ({ environment }) =>
          `on ${day(environment)} on ${machine(environment)}, Linux ${environment.kernel}, Node ${environment.node}`,
      ),
    ),
  ];
  return `${count(scenarios.length, 'scenario')} in ${count(variants, 'variant')} with ${count(present.size, 'driver')}, measured ${where.join('; ')}.`;
}

const TALLY_CLASSES = { wins: 'win', ties: 'tie', losses: 'loss', unknown: 'unknown' } as const;
type TallyName = keyof Tally;

/** What stands behind the number. */
const TALLY_TEXT: Record<TallyName, (amount: number) => string> = {
  wins: (amount) => (amount === 1 ? 'win' : 'wins'),
  ties: (amount) => (amount === 1 ? 'tie' : 'ties'),
  losses: (amount) => (amount === 1 ? 'loss' : 'losses'),
  unknown: () => 'without a verdict',
};

function shownParts(tally: Tally): TallyName[] {
  return (Object.keys(TALLY_CLASSES) as TallyName[]).filter((name) => tally[name] > 0);
}

function bar(tally: Tally): Html {
  return html`<span class="stack" aria-hidden="true">${shownParts(tally).map((name) => html`<i class="${TALLY_CLASSES[name]}" style="flex-grow:${tally[name]}"></i>`)}</span>`;
}

function tallyBar(tally: Tally, label: string): Html {
  const parts = (Object.keys(TALLY_CLASSES) as TallyName[]).filter(
    (name) => name !== 'unknown' || tally.unknown > 0,
  );
  const counts = parts.map(
    (name) =>
      html`<span class="${TALLY_CLASSES[name]}"><b>${inDigits(tally[name])}</b> ${TALLY_TEXT[name](tally[name])}</span>`,
  );
  return html`<div class="total">
  <p class="counts">${hasVerdict(tally) ? counts : html`<span class="unknown">${nothingText(tally)}</span>`}</p>
  ${bar(tally)}
  <p class="note">${label}. A win or a loss is one only if the 95 % confidence interval over the rounds lies wholly on one side. ${UNCORRECTED}</p>
</div>`;
}

function tallyRow(name: string, title: string, tally: Tally): Html {
  const amount = (of: TallyName) =>
    html`<td class="num${tally[of] > 0 ? '' : ' none'}">${inDigits(tally[of])}`;
  const verdicts = hasVerdict(tally)
    ? html`<td>${bar(tally)}${amount('wins')}${amount('ties')}${amount('losses')}${amount('unknown')}`
    : html`<td class="none" colspan="5">${nothingText(tally)}`;
  return html`<tr><th scope="row"><a href="#${name}">${name}</a> <small>${title}</small>${verdicts}`;
}

function lossTable(losses: readonly Standing[]): Html {
  return html`<p>${count(losses.length, 'loss')}, the largest difference first.</p>
<div class="scroll tall" tabindex="0" role="region" aria-label="Losses">
<table class="losses">
  <thead><tr><th>Scenario<th>Variant<th>Figure<th class="num">Spillway<th>Rival<th class="num">Rival's<th>Spillway beside it</thead>
  <tbody>${losses.map(lossRow)}</tbody>
</table>
</div>`;
}

function lossRow({ scenario, variant, figure, rival, ours, theirs, comparison }: Standing): Html {
  const value = (median: number | undefined) =>
    median === undefined ? 'none' : withUnit(inDigits(median), figure.unit);
  return html`<tr><th scope="row"><a href="#${scenario.name}">${scenario.name}</a><td>${variant.title}<td>${figure.title}<td class="num own">${value(ours?.median)}<td>${rival.title}<td class="num">${value(theirs?.median)}<td><span class="chip loss">${VERDICT_TEXT.loss}</span> ${advantage(comparison, figure)} <small>${comparisonText(comparison, figure.unit)}</small>`;
}

function unjudgedList(unjudged: readonly Unjudged[]): Html | null {
  if (unjudged.length === 0) return null;
  return html`<h3>Where Spillway could not be judged</h3>
<ul>${unjudged.map(({ scenario, variant, figure, why }) => html`<li><a href="#${scenario.name}">${scenario.name}</a> · ${variant.title}${figure ? ` · ${figure.title}` : ''}: ${why}`)}</ul>`;
}

/** The foot of the page: machines, options and drivers. Runs that share all of it are told once. */
export function provenance(reports: readonly Report[]): Html {
  const runs = new Map<string, Report[]>();
  for (const report of reports) {
    const { environment, options, drivers, tools } = report;
    const key = JSON.stringify([environment, options, drivers, tools]);
    runs.set(key, [...(runs.get(key) ?? []), report]);
  }
  return html`<section aria-labelledby="where">
  <h2 id="where">Where and how it was measured</h2>
  ${[...runs.values()].map((same) => run(same))}
</section>`;
}

function run(same: readonly Report[]): Html | null {
  const [report] = same;
  if (!report) return null;
  const { environment, drivers, tools } = report;
  const scenarios = same.flatMap((each) => each.scenarios.map(({ name }) => name));
  const facts: [string, string][] = [
    ['Scenarios', scenarios.join(', ')],
    ['Date', environment.date],
    ['Machine', machine(environment)],
    ['Kernel', `Linux ${environment.kernel} (${environment.arch})`],
    ['Node', environment.node],
    ['Revision', revision(environment)],
    ['Load average at the start', environment.load.toFixed(2)],
    ['spectre_v2', environment.spectreV2 ?? 'unknown'],
    ['BPF JIT', environment.bpfJit ?? 'unknown'],
    ...(tools.length > 0 ? [['Tools', tools.map(toolText).join('; ')] satisfies [string, string]] : []),
    ['Method', method(report)],
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}<dd>${value}</div>`)}</dl>
<div class="scroll" tabindex="0" role="region" aria-label="Drivers">
<table class="drivers">
  <thead><tr><th>Driver<th>Version<th>How the connections come to the workers</thead>
  <tbody>${drivers.map(
    ({ name, title, about, version, missing }) =>
      html`<tr><th scope="row">${title} <small>${name}</small><td>${missing === null ? (version ?? 'unknown') : html`<span class="chip absent">missing</span> ${missing}`}<td>${about}`,
  )}</tbody>
</table>
</div>`;
}
