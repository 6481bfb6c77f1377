/** The report as one HTML file that needs no network and nothing beside it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../lib/native.js';
import { pageData, variantKey } from './html/data.js';
import { Html, html, jsonForScript } from './html/markup.js';
import { scenarioSection } from './html/scenario.js';
import { provenance, summary } from './html/summary.js';
import type { Report } from './schema.js';

/** In the order in which they must run: the first makes what the others use, the last begins. */
const SCRIPTS = ['base.js', 'chart.js', 'latency.js', 'timeline.js', 'rounds.js', 'tables.js', 'panels.js'];

/** Nothing from anywhere: what is not in the file cannot be loaded, even by mistake. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

export function toHtml(reports: readonly Report[]): string {
  const { text } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="color-scheme" content="light dark">
<title>Spillway's benchmark</title>
<style>${style(uplotFile('uPlot.min.css'))}</style>
<style>${style(pageFile('page.css'))}</style>
</head>
<body>
<main>
${summary(reports)}
<noscript><p class="warning">The charts need JavaScript; the tables are complete without it.</p></noscript>
${reports.flatMap((report, r) =>
  report.scenarios.map((scenario, s) => scenarioSection(report, scenario, (v) => variantKey(r, s, v))),
)}
${provenance(reports)}
</main>
<script type="application/json" id="data">${jsonForScript(pageData(reports))}</script>
<script>${script(uplotFile('uPlot.iife.min.js'))}</script>
${SCRIPTS.map((name) => html`<script>\n${script(pageFile(name))}</script>\n`)}
</body>
</html>
`;
  return text;
}

function uplotFile(name: string): string {
  const main = createRequire(import.meta.url).resolve('uplot');
  return readFileSync(join(dirname(main), name), 'utf8');
}

function pageFile(name: string): string {
  return readFileSync(join(packageRoot, 'bench', 'report', 'page', name), 'utf8');
}

/** Text of our own or of uPlot, which would have to contain the end tag to break the page. */
function script(text: string): Html {
  if (/<\/script|<!--/i.test(text)) throw new Error('a script of the page would end its own element');
  return new Html(text);
}

function style(text: string): Html {
  if (/<\/style/i.test(text)) throw new Error('a style sheet of the page would end its own element');
  return new Html(text);
}
