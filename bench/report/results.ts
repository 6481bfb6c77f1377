/** The folder of kept results: a file per scenario, and everything that is made from them. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { toHtml } from './html.js';
import { toJson } from './json.js';
import { toMarkdown } from './markdown.js';
import { intoReadme, toReadmeTable } from './readme.js';
import { replaceFile } from './replace.js';
import { type Report, SCHEMA } from './schema.js';

/** Schemas of other benchmarks that keep their results in the same folder. */
const OTHER_SCHEMAS = /^spillway-bench-/;

/** One report per scenario, each with the whole rest of the run. */
export function splitByScenario(report: Report): Report[] {
  return report.scenarios.map((scenario) => ({ ...report, scenarios: [scenario] }));
}

/**
 * The report in the text of a result file; null when it is one of another benchmark. Throws an Error that names `file`
 * when it is none at all, or of a version that is not read here.
 */
export function parseReport(text: string, file: string): Report | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`);
  }
  const schema = (value as { schema?: unknown } | null)?.schema;
  if (typeof schema === 'string' && OTHER_SCHEMAS.test(schema)) return null;
  if (schema !== SCHEMA)
    throw new Error(`${file} has schema ${JSON.stringify(schema)}, ${SCHEMA} is read here`);
  return value as Report;
}

/**
 * All kept reports, one scenario each; none when there is no such folder. The scenarios that `order` names come first, in
 * that order, the others by name.
 */
export function loadResults(folder: string, order: readonly string[] = []): Report[] {
  const place = (name: string) => {
    const index = order.indexOf(basename(name, '.json'));
    return index < 0 ? order.length : index;
  };
  return filesOf(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .sort((a, b) => place(a) - place(b))
    .flatMap((name) => parseReport(readFileSync(join(folder, name), 'utf8'), join(folder, name)) ?? []);
}

function filesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

interface SaveOptions {
  /** The file whose table is renewed; null: none. */
  readme: string | null;
  /** The command that measures everything again, as the README tells it. */
  renewal: string;
  /** Names of scenarios in the order in which readers shall meet them; default: by name. */
  order?: readonly string[];
}

/**
 * Keeps every scenario of the report in place of its last results: `<scenario>.json` and `<scenario>.md`; then renews
 * `report.html` and the README's table from all that are kept. The measured figures are written first, so that whatever
 * fails afterwards does not lose them; a file that cannot be written stays as it was. Returns the files that were written.
 */
export function saveReport(
  report: Report,
  folder: string,
  { readme, renewal, order = [] }: SaveOptions,
): string[] {
  mkdirSync(folder, { recursive: true });
  const files: string[] = [];
  const write = (file: string, text: string) => {
    replaceFile(file, text);
    files.push(file);
  };
  const parts = splitByScenario(report);
  for (const part of parts) write(join(folder, `${nameOf(part)}.json`), toJson(part));
  for (const part of parts) write(join(folder, `${nameOf(part)}.md`), toMarkdown(part));
  const all = loadResults(folder, order);
  write(join(folder, 'report.html'), toHtml(all));
  if (readme !== null) write(readme, intoReadme(readFileSync(readme, 'utf8'), toReadmeTable(all, renewal)));
  return files;
}

function nameOf({ scenarios }: Report): string {
  return scenarios[0]?.name ?? 'none';
}
