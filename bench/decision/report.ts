/** The figures of the micro benchmark for people: tables for the terminal, and the same in Markdown. */
import Table from 'cli-table3';
import pc from 'picocolors';
import type { Environment } from '../method/environment.js';
import type { Figure } from '../method/statistics.js';
import type { Rival } from './connection.js';
import type { ConnectionRow, DecisionReport, DecisionRow } from './decision.js';
import { POLICIES, type Policy, type ReadBy, STATES, type State } from './stage.js';

const STATE_TEXT: Record<State, string> = {
  idle: 'idle',
  free: 'free',
  'one-full': 'one full',
  'half-full': 'half full',
  'all-full': 'all full',
};

const READ_BY_TEXT: Record<ReadBy, string> = {
  cast: '`bpf_rdonly_cast` (Linux 6.2)',
  probe: '`bpf_probe_read_kernel` (before 6.2)',
};

const LEGEND = [
  'idle: (nearly) every queue is empty. free: somebody waits in every queue, all have room.',
  'one full, half full: the others are as with free. all full: every SYN is dropped.',
];

const whole = (value: number) => String(Math.round(value));
const fraction = (value: number) => value.toFixed(3);

/** A table without its looks: the first row is the head, the first columns are names. */
interface Grid {
  title: string;
  head: string[];
  rows: (string | Figure)[][];
  write: (value: number) => string;
}

function decisionGrids(report: DecisionReport): Grid[] {
  const { sockets, readBy } = report.options;
  return readBy.map((reads) => ({
    title: `Nanoseconds per decision, listeners read by ${READ_BY_TEXT[reads]}`,
    head: ['policy', 'queues', ...sockets.map((size) => `N = ${size}`)],
    rows: POLICIES.flatMap((policy) =>
      STATES.map((state) => [
        policy,
        STATE_TEXT[state],
        ...sockets.map((size) => find(report.decisions, reads, policy, state, size)?.nanoseconds ?? '·'),
      ]),
    ),
    write: whole,
  }));
}

function find(
  rows: readonly DecisionRow[],
  readBy: ReadBy,
  policy: Policy,
  state: State,
  sockets: number,
): DecisionRow | undefined {
  return rows.find(
    (row) => row.readBy === readBy && row.policy === policy && row.state === state && row.sockets === sockets,
  );
}

function connectionGrids(report: DecisionReport): Grid[] {
  const sizes = report.options.connectionSockets;
  if (sizes.length === 0) return [];
  const rivals = [...new Set(report.connections.map(({ rival }) => rival))];
  const grid = (title: string, pick: (row: ConnectionRow) => Figure, write: Grid['write']): Grid => ({
    title,
    head: ['chosen by', ...sizes.map((size) => `N = ${size}`)],
    rows: rivals.map((rival) => [
      rivalText(rival),
      ...sizes.map((size) => {
        const row = report.connections.find((each) => each.rival === rival && each.sockets === size);
        return row ? pick(row) : '·';
      }),
    ]),
    write,
  });
  return [
    grid('Nanoseconds per loopback connection', ({ nanoseconds }) => nanoseconds, whole),
    grid('The same, plain SO_REUSEPORT being 1', ({ ratio }) => ratio, fraction),
  ];
}

function rivalText(rival: Rival): string {
  if (rival === 'none') return 'plain SO_REUSEPORT';
  if (rival === 'counted') return 'selector, hash, connections counted';
  if (rival === 'limited') return 'selector, hash, with a limit';
  return `selector, ${rival}`;
}

/** What a decision costs while there is room, over all sizes, and what accounts for part of it. */
function summary(report: DecisionReport): string[] {
  const { rounds } = report.options;
  const lines = [
    `Medians of ${rounds} rounds, with the distance of the furthest round or with the lowest and the highest one.`,
    `Every figure contains the kernel's accounting: ${spread(report.accounting, whole)} ns for an empty program.`,
  ];
  for (const policy of POLICIES) {
    const parts = report.options.readBy.map((reads) => {
      const medians = report.decisions
        .filter(
          (row) =>
            row.readBy === reads && row.policy === policy && (row.state === 'idle' || row.state === 'free'),
        )
        .map(({ nanoseconds }) => nanoseconds.median);
      return `${whole(Math.min(...medians))} to ${whole(Math.max(...medians))} ns (${reads})`;
    });
    lines.push(`Nobody full, all N, ${policy}: ${parts.join(', ')}.`);
  }
  return lines;
}

function gridsOf(report: DecisionReport): Grid[] {
  return [...decisionGrids(report), ...connectionGrids(report)];
}

function isSize(name: string): boolean {
  return name.startsWith('N = ');
}

function spread({ median, min, max }: Figure, write: (value: number) => string): string {
  return `${write(median)} (${write(min)}–${write(max)})`;
}

function environmentLines({
  date,
  kernel,
  arch,
  cpu,
  virtual,
  spectreV2,
  node,
  load,
  git,
}: Environment): string[] {
  const machine = virtual ? ', in a virtual machine' : '';
  const changed = git?.changed ? ', with changes' : '';
  const revision = git ? `${git.revision.slice(0, 12)}${changed}` : 'unknown revision';
  return [
    `${date.slice(0, 10)}, Linux ${kernel} (${arch}), ${cpu.count} × ${cpu.model}${machine}, Node ${node}, ${revision}`,
    `load average ${load.toFixed(2)} at the start; spectre_v2: ${spectreV2 ?? 'unknown'}`,
  ];
}

export function toTerminal(report: DecisionReport): string {
  const tables = gridsOf(report).map(({ title, head, rows, write }) => {
    const table = new Table({
      head: head.map((name) => pc.bold(name)),
      colAligns: head.map((name) => (isSize(name) ? 'right' : 'left')),
      // Colours are ours: the table would use them for a file as well. No lines between the rows.
      style: { head: [], border: [] },
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    });
    let before: string | Figure | undefined;
    for (const [name = '', ...cells] of rows) {
      table.push([name === before ? '' : name, ...cells].map((cell) => terminalCell(cell, write)));
      before = name;
    }
    return `${pc.bold(title.replaceAll('`', ''))}\n${table}`;
  });
  const lines = [...LEGEND, ...summary(report), '', ...environmentLines(report.environment), ''];
  return [...tables, ...lines].join('\n');
}

/** How far the round that was furthest off lies from the median. */
function terminalCell(cell: string | Figure, write: Grid['write']): string {
  if (typeof cell === 'string') return cell;
  const off = Math.max(cell.max - cell.median, cell.median - cell.min);
  return `${write(cell.median)} ${pc.dim(`±${write(off)}`)}`;
}

export function toMarkdown(report: DecisionReport): string {
  const tables = gridsOf(report).map(({ title, head, rows, write }) =>
    [
      `## ${title}`,
      '',
      tableRow(head),
      tableRow(head.map((name) => (isSize(name) ? '---:' : '---'))),
      ...rows.map((row) =>
        tableRow(row.map((cell) => (typeof cell === 'string' ? cell : spread(cell, write)))),
      ),
      '',
    ].join('\n'),
  );
  return [
    '# Cost of a decision',
    '',
    '<!-- Written by `npm run bench -- decision --save`; the figures are in decision.json. -->',
    '',
    ...summary(report).map((line) => `- ${line}`),
    '',
    ...tables,
    ...LEGEND,
    '',
    '## Where',
    '',
    ...environmentLines(report.environment).map((line) => `- ${line}`),
    '',
  ].join('\n');
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}
