/**
 * Writes the documentation that is made of tables in the code: docs/options.md, docs/errors.md, the table in
 * docs/master.md and the scenarios in bench/README.md. A test compares the pages with the tables, so that they cannot drift apart.
 *
 *     npm run docs
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const cell = (text) => text.replaceAll('|', '\\|');
const code = (value) =>
  value === undefined ? "the kernel's" : `\`${JSON.stringify(value).replaceAll('"', "'")}\``;

function givenBelowEbpf(row, selectors) {
  const limited = selectors.filter((selector) => row.gives[selector] !== 'all');
  if (limited.length === 0) return 'all';
  const whole = selectors.filter((selector) => row.gives[selector] === 'all').map((name) => `\`${name}\``);
  const only = limited.map((selector) => `\`${selector}\`: ${row.gives[selector].map(code).join(', ')} only`);
  return [...whole, ...only].join('; ');
}

export function optionPage(options, { defaultFor, selectors }) {
  const rows = Object.entries(options).map(([name, row]) => {
    const ebpf = defaultFor('ebpf', name);
    const lower = defaultFor('cbpf', name);
    const initial = ebpf === lower ? code(ebpf) : `${code(ebpf)}; below \`ebpf\` ${code(lower)}`;
    return `| \`${name}\` | ${[cell(row.range), initial, row.scope, row.live ? 'live' : 'fixed', givenBelowEbpf(row, selectors), cell(row.text)].join(' | ')} |`;
  });
  return `# Options

<!-- Made by \`npm run docs\` from lib/group/options.ts. -->

Given to \`SocketGroup.open()\` or \`of()\`, read with \`getOption(name[, slot])\`, changed with
\`setOption(name, value[, slot])\`. A live option is in force when the call returns, and no connection is lost over it.
A value the selector in force cannot give is an error, never an approximation.

Scope: \`group\`, one value; \`slot\`, may differ by slot; \`listener\`, a socket option of every listener, which accepted
connections inherit and which reads back as the kernel has it.

| option | type and range | default | scope | when | selectors that give it | what it does |
|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
}

export function errorPage(errors) {
  const rows = Object.entries(errors).map(
    ([name, { means, hint }]) => `| \`${name}\` | ${cell(means)} | ${cell(hint)} |`,
  );
  return `# Error codes

<!-- Made by \`npm run docs\` from lib/errors.ts. -->

Every error Spillway throws on purpose is a \`SpillwayError\` with a stable \`code\`. Its \`message\` names what was wrong,
its \`hint\` what to do; where the operating system said no, \`syscall\`, \`errno\` and \`cause\` tell what it said.

| code | meaning | what to do |
|---|---|---|
${rows.join('\n')}
`;
}

/** The hand-written page with its table made anew. */
export function masterPage(page, options) {
  const [, before, after] =
    /^(.*<!-- The table is made by [^\n]* -->\n).*(<!-- end of the table -->\n.*)$/s.exec(page) ?? [];
  if (before === undefined) throw new Error('docs/master.md has lost the marks of its table');
  const rows = Object.entries(options).map(
    ([name, { range, default: initial, text }]) =>
      `| \`${name}\` | ${[range, initial, text].map(cell).join(' | ')} |`,
  );
  return `${before}
| option | type and range | default | what it does |
|---|---|---|---|
${rows.join('\n')}

${after}`;
}

function variantList(variants) {
  const names = (some) => some.map(({ id }) => `\`${id}\``).join(', ');
  const closer = variants.filter((variant) => variant.closer);
  const all = names(variants.filter((variant) => !variant.closer));
  return `Variants: ${all}${closer.length > 0 ? `; a closer look: ${names(closer)}` : ''}.`;
}

/** The hand-written page with what the scenarios and drivers say of themselves. */
export function benchPage(page, scenarios, drivers) {
  const [, before, after] =
    /^(.*<!-- The scenarios are made by [^\n]* -->\n).*(<!-- end of the scenarios -->\n.*)$/s.exec(page) ??
    [];
  if (before === undefined) throw new Error('bench/README.md has lost the marks of its scenarios');
  const sections = scenarios.map(
    ({ name, title, shows, cannotShow, core, variants }) => `### \`${name}\`: ${title}

${shows}

*Not shown:* ${cannotShow}

${core ? '' : 'Only when asked for. '}${variantList(variants('full'))}
`,
  );
  const rows = drivers.map(({ name, title, about }) => `| \`${name}\` | ${cell(title)} | ${cell(about)} |`);
  return `${before}
${sections.join('\n')}
## Drivers

| \`--driver\` | | how connections come to the workers |
|---|---|---|
${rows.join('\n')}

${after}`;
}

async function main() {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const compiled = (...file) => import(pathToFileURL(join(root, 'dist', ...file)).href);
  const { OPTIONS, defaultFor, SELECTORS } = await compiled('lib', 'group/options.js');
  const { ERRORS } = await compiled('lib', 'errors.js');
  const { MASTER_OPTIONS } = await compiled('lib', 'serve/options.js');
  const { SCENARIOS } = await compiled('bench', 'scenarios/index.js');
  const { DRIVERS } = await compiled('bench', 'drivers/index.js');
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs', 'options.md'), optionPage(OPTIONS, { defaultFor, selectors: SELECTORS }));
  writeFileSync(join(root, 'docs', 'errors.md'), errorPage(ERRORS));
  const master = join(root, 'docs', 'master.md');
  writeFileSync(master, masterPage(readFileSync(master, 'utf8'), MASTER_OPTIONS));
  const bench = join(root, 'bench', 'README.md');
  writeFileSync(bench, benchPage(readFileSync(bench, 'utf8'), SCENARIOS, DRIVERS));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
