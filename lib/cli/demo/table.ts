/** The live table. Pure: a snapshot and the size of the terminal in, text out. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import type { Colors } from 'picocolors/types.js';
import { wrapped } from '../text.js';
import type { Snapshot, WorkerFacts } from './snapshot.js';
import { byHand, whatOneSees } from './words.js';

export interface Scene {
  url: string;
  policy: string;
  /** Sentences that stay: what is missing, what went wrong. */
  notices: readonly string[];
  /** The worker that the flood makes slow. */
  victim: number;
  flooded: boolean;
  /** Whether keys are read. */
  keys: boolean;
  /** Whether it is the last view, when nothing can be tried any more. */
  ended: boolean;
}

export interface Size {
  columns: number;
  rows: number;
}

interface Column {
  head: string;
  align: 'left' | 'right';
  cell(worker: WorkerFacts): string;
}

/** So many workers stay in sight before sentences do. */
const LEAST_WORKERS = 4;

/** A part of the view. In a low window the parts with the lowest rank are left out first. */
interface Part {
  rank: number;
  lines: string[];
}

export function renderTable(snapshot: Snapshot, scene: Scene, { columns, rows }: Size, c: Colors): string {
  // The last column stays free: some terminals wrap a line that fills it. The last row is the cursor's.
  const width = columns - 1;
  const height = rows - 1;
  const sentence = (text: string, paint = (line: string) => line) => wrapped(text, width).map(paint);
  const blank: Part = { rank: 3, lines: [''] };
  const [head = '', ...workers] = workerLines(snapshot.workers, width, c);
  const live = scene.ended
    ? []
    : [
        { rank: 2, lines: sentence(`By hand, in another terminal: ${byHand(scene.url)}`, c.dim) },
        { rank: 8, lines: scene.keys ? sentence(keyFacts(scene), c.cyan) : [] },
      ];
  let above: Part[] = [
    { rank: 6, lines: sentence(`Spillway demo on ${scene.url}`, c.bold) },
    { rank: 5, lines: sentence(`selector ${snapshot.selector}, policy ${scene.policy}`, c.dim) },
    { rank: 6, lines: scene.notices.flatMap((notice) => sentence(`! ${notice}`, c.yellow)) },
    blank,
  ];
  let below: Part[] = [
    blank,
    { rank: 7, lines: sentence(groupFacts(snapshot)) },
    { rank: 4, lines: sentence(loadFacts(snapshot)) },
    blank,
    { rank: 1, lines: sentence(whatOneSees(snapshot), c.dim) },
    blank,
    ...live,
  ];

  const linesOf = (parts: Part[]) => parts.flatMap(({ lines }) => lines);
  const room = () => height - linesOf(above).length - linesOf(below).length - 1;
  for (let rank = 1; room() < Math.min(workers.length, LEAST_WORKERS) && rank <= 8; rank++) {
    above = above.filter((part) => part.rank > rank);
    below = below.filter((part) => part.rank > rank);
  }
  return [...linesOf(above), head, ...firstOf(workers, room(), c), ...linesOf(below)].join('\n');
}

/** As many lines as there is room for; what is left out is counted, in the last one of them. */
function firstOf(lines: readonly string[], room: number, c: Colors): string[] {
  if (lines.length <= room) return [...lines];
  const shown = Math.max(1, room - 1);
  return [...lines.slice(0, shown), ...(room > 1 ? [c.dim(`… and ${lines.length - shown} more`)] : [])];
}

/** The head and a line per worker, in the widest layout that fits. */
function workerLines(workers: readonly WorkerFacts[], width: number, c: Colors): string[] {
  const tables = layouts(c).map((layout) => tableOf(workers, layout, c).split('\n'));
  const fitting = tables.find((lines) => lines.every((line) => visibleLength(line) <= width));
  return (fitting ?? tables.at(-1) ?? []).map((line) => line.trimEnd());
}

function layouts(c: Colors): Column[][] {
  const left = (head: string, cell: Column['cell']): Column => ({ head, align: 'left', cell });
  const right = (head: string, cell: Column['cell']): Column => ({ head, align: 'right', cell });
  const name = left('worker', (worker) => nameOf(worker, c));
  const pid = right('pid', (worker) => dash(worker.pid));
  const queue = (bar: number) => left('queue', (worker) => queueOf(worker, bar, c));
  const served = right('served', (worker) => String(worker.served));
  const perSecond = right('per s', (worker) => String(worker.servedPerSecond));
  const chosen = right('chosen', (worker) => dash(worker.chosen));
  const into = (head: string) => right(head, (worker) => dash(worker.redirectedIn));
  const out = right('out', (worker) => dash(worker.redirectedOut));
  return [
    [name, pid, queue(12), served, perSecond, chosen, into('redir. in'), out],
    [name, queue(4), served, into('in'), out],
    [name, queue(0), served],
  ];
}

function tableOf(workers: readonly WorkerFacts[], layout: readonly Column[], c: Colors): string {
  const table = new Table({
    head: layout.map(({ head }) => c.dim(head)),
    colAligns: layout.map(({ align }) => align),
    chars: BORDERLESS,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2, compact: true },
  });
  for (const worker of workers) table.push(layout.map(({ cell }) => cell(worker)));
  return table.toString();
}

const BORDERLESS = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
  ].map((name) => [name, '']),
);

function nameOf({ slot, slow, alive }: WorkerFacts, c: Colors): string {
  if (!alive) return `${slot} ${c.red('gone')}`;
  return slow > 0 ? `${slot} ${c.yellow('slow')}` : `${slot}     `;
}

function queueOf({ queue, places }: WorkerFacts, bar: number, c: Colors): string {
  if (queue === null || places === null) return dash(null);
  const share = Math.min(1, queue / places);
  // One connection is to be seen, and only a full queue fills the bar.
  const filled =
    queue === 0 ? 0 : share === 1 ? bar : Math.min(bar - 1, Math.max(1, Math.round(share * bar)));
  const paint = share === 1 ? c.red : share >= 0.5 ? c.yellow : c.green;
  const numbers = `${String(queue).padStart(String(places).length)}/${places}`;
  return bar === 0 ? numbers : `${paint('█'.repeat(filled))}${c.dim('░'.repeat(bar - filled))} ${numbers}`;
}

export function dash(value: number | null): string {
  return value === null ? '–' : String(value);
}

function groupFacts({
  connectionsPerSecond,
  redirected,
  redirectedPerSecond,
  dropped,
  kernelDrops,
}: Snapshot): string {
  const rate = redirectedPerSecond === null ? '' : ` (${redirectedPerSecond}/s)`;
  return `group: ${connectionsPerSecond} connections/s, ${dash(redirected)} redirected${rate}, ${dash(dropped)} dropped, ${kernelDrops} kernel drops`;
}

function loadFacts({ load }: Snapshot): string {
  const doing = load.rate === null ? 'off' : `${load.rate}/s`;
  return `load:  ${doing}, ${load.answered} of ${load.sent} answered, ${load.underWay} waiting, ${load.failed} failed, ${load.timedOut} timed out`;
}

function keyFacts({ flooded, victim }: Scene): string {
  const flood = flooded ? 'f ends the flood' : `f floods, with worker ${victim} slow`;
  return `${flood} · s makes another worker the slow one · q quits`;
}

function visibleLength(line: string): number {
  return stripVTControlCharacters(line).trimEnd().length;
}
