/**
 * Writes the documentation that is made of tables in the code: docs/options.md, docs/errors.md, the tables in
 * docs/master.md and docs/config.md, and the scenarios in bench/README.md. Tests compare the pages with the tables, so
 * that they cannot drift apart.
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

/** A hand-written page with one part of it made anew: what is between the marks that name it. */
function withPart(page, file, part, made) {
  const marks = new RegExp(
    `^(.*<!-- The ${part} (?:is|are) made by [^\\n]* -->\\n).*(<!-- end of the ${part} -->\\n.*)$`,
    's',
  );
  const [, before, after] = marks.exec(page) ?? [];
  if (before === undefined) throw new Error(`${file} has lost the marks of its ${part}`);
  return `${before}\n${made}\n\n${after}`;
}

const quoted = (name) => `\`${name}\``;

function table(head, rows) {
  const line = (cells) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

/** The hand-written page with its table made anew. */
export function masterPage(page, options) {
  const made = table(
    ['option', 'type and range', 'default', 'what it does'],
    Object.entries(options).map(([name, { range, default: initial, text }]) => [
      quoted(name),
      range,
      initial,
      text,
    ]),
  );
  return withPart(page, 'docs/master.md', 'table', made);
}

/** The parts of docs/config.md, from the tables of lib/cli/start/options.ts. */
export function keyTable(options) {
  return table(
    ['key', 'type and range', 'default', 'also called', 'on the command line', 'what it does'],
    Object.entries(options).map(([name, { kind, default: initial, aliases = [], flag, text }]) => [
      quoted(name),
      kind.range,
      initial,
      aliases.map(quoted).join(', '),
      flag ? quoted(flag) : '',
      text,
    ]),
  );
}

export function familiarTable(familiar) {
  return table(
    ['key', 'what becomes of it'],
    Object.entries(familiar).map(([key, text]) => [quoted(key), text]),
  );
}

export function unsupportedTable(unsupported) {
  return table(
    ['key', 'why'],
    Object.entries(unsupported).map(([key, why]) => [quoted(key), why]),
  );
}

export function ignoredList(ignored) {
  return ignored.map(quoted).join(', ');
}

/** The hand-written page with what the tables of keys say, made anew. */
export function configPage(page, { START_OPTIONS, FAMILIAR, IGNORED, UNSUPPORTED }) {
  const parts = {
    keys: keyTable(START_OPTIONS),
    'familiar keys': familiarTable(FAMILIAR),
    'keys that change nothing': `These change nothing: ${ignoredList(IGNORED)}.`,
    'unsupported keys': unsupportedTable(UNSUPPORTED),
  };
  return Object.entries(parts).reduce(
    (before, [part, made]) => withPart(before, 'docs/config.md', part, made),
    page,
  );
}

function variantList(variants) {
  const names = (some) => some.map(({ id }) => `\`${id}\``).join(', ');
  const closer = variants.filter((variant) => variant.closer);
  const all = names(variants.filter((variant) => !variant.closer));
  return `Variants: ${all}${closer.length > 0 ? `; a closer look: ${names(closer)}` : ''}.`;
}

/** The hand-written page with what the scenarios and drivers say of themselves. */
export function benchPage(page, scenarios, drivers) {
  const sections = scenarios.map(
    ({ name, title, shows, cannotShow, core, variants }) => `### \`${name}\`: ${title}

${shows}

*Not shown:* ${cannotShow}

${core ? '' : 'Only when asked for. '}${variantList(variants('full'))}
`,
  );
  const rows = drivers.map(({ name, title, about }) => `| \`${name}\` | ${cell(title)} | ${cell(about)} |`);
  const made = `${sections.join('\n')}
## Drivers

| \`--driver\` | | how connections come to the workers |
|---|---|---|
${rows.join('\n')}`;
  return withPart(page, 'bench/README.md', 'scenarios', made);
}

async function main() {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const compiled = (...file) => import(pathToFileURL(join(root, 'dist', ...file)).href);
  const { OPTIONS, defaultFor, SELECTORS } = await compiled('lib', 'group/options.js');
  const { ERRORS } = await compiled('lib', 'errors.js');
  const { MASTER_OPTIONS } = await compiled('lib', 'serve/options.js');
  const start = await compiled('lib', 'cli/start/options.js');
  const { SCENARIOS } = await compiled('bench', 'scenarios/index.js');
  const { DRIVERS } = await compiled('bench', 'drivers/index.js');
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs', 'options.md'), optionPage(OPTIONS, { defaultFor, selectors: SELECTORS }));
  writeFileSync(join(root, 'docs', 'errors.md'), errorPage(ERRORS));
  const renew = (file, made) => writeFileSync(file, made(readFileSync(file, 'utf8')));
  renew(join(root, 'docs', 'master.md'), (page) => masterPage(page, MASTER_OPTIONS));
  renew(join(root, 'docs', 'config.md'), (page) => configPage(page, start));
  renew(join(root, 'bench', 'README.md'), (page) => benchPage(page, SCENARIOS, DRIVERS));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
