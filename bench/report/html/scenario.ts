/** A scenario on the page: what it is about, all variants at a glance, and a panel per variant for the charts. */
import type { Comparison } from '../../method/compare.js';
import { isOurs } from '../../method/verdicts.js';
import { titleOf } from '../losses.js';
import { type Cell, firstFigure, leadingFigures, type Row, rowsOf } from '../rows.js';
import type { FigureSpec, Report, ScenarioResult, VariantResult } from '../schema.js';
import {
  advantage,
  apart,
  comparisonText,
  direction,
  generatorWarning,
  inDigits,
  range,
  titleWithUnit,
  VERDICT_TEXT,
} from '../words.js';
import { type Html, html } from './markup.js';

/** `keyOf`: the key of a variant's data, by its place in the scenario. */
export function scenarioSection(
  report: Report,
  scenario: ScenarioResult,
  keyOf: (variant: number) => string,
): Html {
  return html`
<section class="scenario" id="${scenario.name}" aria-labelledby="${scenario.name}-title">
  <h2 id="${scenario.name}-title"><code>${scenario.name}</code> ${scenario.title}</h2>
  <dl class="about"><div><dt>Shows<dd>${scenario.shows}</div><div><dt>Cannot show<dd>${scenario.cannotShow}</div></dl>
  ${atAGlance(report, scenario)}
  <div class="variants">${scenario.variants.map((variant, index) => panel(report, scenario, variant, keyOf(index)))}</div>
</section>`;
}

/** Rows are rivals, columns variants, cells the verdict on Spillway in the variant's first figure. */
function atAGlance(report: Report, { name, variants }: ScenarioResult): Html | null {
  const columns = variants.flatMap((variant) => {
    const figure = firstFigure(variant);
    return figure ? [{ variant, figure }] : [];
  });
  const rivals = [
    ...new Set(
      variants.flatMap(({ drivers }) => drivers.map(({ driver }) => driver).filter((each) => !isOurs(each))),
    ),
  ];
  if (columns.length < 2 || rivals.length === 0) return null;
  return html`<h3>Spillway at a glance</h3>
<div class="scroll" tabindex="0" role="region" aria-label="${name}: verdicts at a glance">
<table class="glance">
  <thead><tr><th>beside${columns.map(({ variant, figure }) => html`<th>${variant.title} <small>${figure.title}</small>`)}</thead>
  <tbody>${rivals.map((rival) => html`<tr><th scope="row">${titleOf(report, rival)}${columns.map(({ variant, figure }) => glanceCell(variant, figure, rival))}`)}</tbody>
</table>
</div>`;
}

function glanceCell({ verdicts, drivers }: VariantResult, figure: FigureSpec, rival: string): Html {
  const verdict = verdicts.find((each) => each.figure === figure.name && each.rival === rival);
  if (verdict) {
    const { comparison } = verdict;
    const told = comparison.verdict === 'win' || comparison.verdict === 'loss';
    return html`<td class="${comparison.verdict}"><b>${VERDICT_TEXT[comparison.verdict]}</b>${told ? html` <small>${advantage(comparison, figure)}</small>` : null}`;
  }
  const absent = drivers.find(({ driver }) => driver === rival)?.absent;
  return html`<td class="none">${absent ? absent.why.replaceAll('-', ' ') : '–'}`;
}

function panel(report: Report, scenario: ScenarioResult, variant: VariantResult, key: string): Html {
  const figures = leadingFigures(variant);
  const rows = rowsOf(report, variant, figures);
  const settings = Object.entries(variant.settings);
  const limited = generatorWarning(variant, (driver) => titleOf(report, driver));
  return html`
<section class="panel" data-variant="${key}" data-title="${variant.title}">
  <h3>${variant.title} <small>${variant.id}</small></h3>
  ${settings.length > 0 ? html`<p class="settings">${settings.map(([name, value]) => html`<span>${name} <b>${value}</b></span>`)}</p>` : null}
  ${limited === null ? null : html`<p class="warning">${limited}</p>`}
  <div class="scroll" tabindex="0" role="region" aria-label="${`${scenario.name}, ${variant.title}: figures`}">
  <table class="figures">
    <thead><tr><th rowspan="2">Driver${figures.map(headOf)}</tr>
    <tr>${figures.map(() => html`<th class="sub">median, lowest–highest<th class="sub">beside ${titleOf(report, report.options.reference)}`)}</thead>
    <tbody>${rows.map((row) => tableRow(row, rows, figures))}</tbody>
  </table>
  </div>
  <div class="charts"></div>
</section>`;
}

function headOf(figure: FigureSpec): Html {
  const way = direction(figure);
  return html`<th colspan="2">${titleWithUnit(figure)}${way === '' ? null : html` <small>${way}</small>`}`;
}

function tableRow(row: Row, rows: readonly Row[], figures: readonly FigureSpec[]): Html {
  const head = html`<tr${row.own ? html` class="own"` : null}><th scope="row">${row.title}`;
  if (row.absent !== null) {
    return html`${head}<td class="why" colspan="${2 * figures.length}"><span class="chip absent">${row.absent.split(':', 1)}</span> ${row.absent.slice(row.absent.indexOf(':') + 1).trim()}`;
  }
  return html`${head}${row.cells.map((cell, index) => figureCells(row, cell, largest(rows, index)))}`;
}

function largest(rows: readonly Row[], index: number): number {
  return Math.max(...rows.map(({ cells }) => cells[index]?.figure?.median ?? 0));
}

function figureCells(
  { reference }: Row,
  { spec, figure, besideReference, spillwayBeside }: Cell,
  most: number,
): Html {
  if (figure === null) return html`<td class="num none">none<td>`;
  const share = most > 0 ? Math.round((100 * Math.max(0, figure.median)) / most) : 0;
  return html`<td class="num"><b>${inDigits(figure.median)}</b> <small>${range(figure)}</small><i style="--w:${share}%"></i><td>${besides(reference, besideReference)}${chip(spec, spillwayBeside)}`;
}

function besides(reference: boolean, comparison: Comparison | null): Html | null {
  if (reference) return html`<small>the reference</small>`;
  return comparison && html`<small>${comparisonText(comparison, '')}</small>`;
}

function chip(spec: FigureSpec, comparison: Comparison | null): Html | null {
  if (comparison === null) return null;
  const { verdict } = comparison;
  const by = verdict === 'win' || verdict === 'loss' ? ` ${apart(comparison, spec)}` : '';
  return html`<span class="chip ${verdict}" title="${comparisonText(comparison, spec.unit)}">Spillway: ${VERDICT_TEXT[verdict]}${by}</span>`;
}
