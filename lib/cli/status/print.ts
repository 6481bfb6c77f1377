/** A service's state as text. Pure: a status and the width of the terminal in, text out. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import type { Colors } from 'picocolors/types.js';
import type { ServiceStatus } from '../../control/protocol.js';
import { READINESS, type Readiness } from '../../group/layout.js';
import { aboutSize, aboutTime, wrapped } from '../text.js';

type WorkerRow = ServiceStatus['workers'][number];
type PortRow = ServiceStatus['ports'][number];

const UNKNOWN = '–';

/** Frames cost columns that a narrow terminal needs. */
const PLAIN = {
  ...Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'].map(
      (part) => [part, ''],
    ),
  ),
  ...Object.fromEntries(
    ['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'].map((part) => [part, '']),
  ),
  middle: '  ',
};

export function printStatus(status: ServiceStatus, columns: number, colours: Colors): string {
  const width = columns - 1;
  return `${[
    ...headOf(status, width, colours),
    '',
    workerTable(status, width, colours),
    ...reasonsOf(status.workers, width, colours),
    '',
    ...(status.ports.length === 0
      ? ['no port is open yet']
      : [
          portTable(status.ports),
          ...listsOf(status.ports, colours),
          ...noticesOf(status.ports, width, colours),
        ]),
    '',
  ].join('\n')}`;
}

function headOf(
  { name, state, pid, uptime, wanted, workers, ...rest }: ServiceStatus,
  width: number,
  c: Colors,
): string[] {
  const serving = workers.filter((worker) => worker.state === 'running').length;
  const paint = state === 'running' && serving === wanted ? c.green : c.yellow;
  const lines = [
    `${c.bold(name)}  ${paint(state)}  ${serving} of ${wanted} workers serve  up ${aboutTime(uptime)}  process ${pid}  spillway ${rest.version}`,
    ...wrapped(rest.program, width),
  ];
  if (rest.config !== null) lines.push(`config ${rest.config}`);
  if (rest.logs !== null) lines.push(`logs   ${rest.logs}`);
  if (rest.droppedLines > 0)
    lines.push(c.yellow(`${rest.droppedLines} lines of output could not be written`));
  return lines;
}

const STATE_COLOURS: Partial<Record<WorkerRow['state'], 'green' | 'yellow' | 'red'>> = {
  running: 'green',
  starting: 'yellow',
  closed: 'yellow',
  draining: 'yellow',
  restarting: 'yellow',
  stuck: 'red',
  failed: 'red',
};

/** What the longest word in the column of the event loops takes, with the gap before it. */
const LOOP_COLUMN = PLAIN.middle.length + Math.max(...READINESS.map(({ length }) => length));

function workerTable({ workers, ports }: ServiceStatus, width: number, c: Colors): string {
  const head = ['worker', 'state', 'pid', 'uptime', 'restarts', 'cpu', 'memory', 'open', 'queue', 'chosen'];
  const rows: (string | number)[][] = [];
  const loops: string[] = [];
  const shown = new Set<number>();
  for (const worker of workers) {
    const paint = STATE_COLOURS[worker.state];
    // The queues belong to the slot, which two workers share during a reload.
    const queues = shown.has(worker.slot) ? undefined : queuesOf(worker.slot, ports);
    shown.add(worker.slot);
    rows.push([
      worker.slot,
      paint ? c[paint](worker.state) : worker.state,
      worker.pid ?? UNKNOWN,
      worker.uptime === null ? UNKNOWN : aboutTime(worker.uptime),
      worker.restarts > 0 ? c.yellow(String(worker.restarts)) : worker.restarts,
      worker.cpu === null ? UNKNOWN : `${Math.round(worker.cpu)}%`,
      worker.memory === null ? UNKNOWN : aboutSize(worker.memory),
      openOf(worker, ports, c),
      queues ? `${queues.queue}/${queues.limit}` : UNKNOWN,
      queues?.chosen ?? UNKNOWN,
    ]);
    const readiness = queues?.readiness ?? UNKNOWN;
    loops.push(readiness === 'late' ? c.yellow(readiness) : readiness);
  }
  const narrow = workerRows(head, rows, c);
  // The column comes and goes with the terminal, and not with what is in it.
  if (widest(narrow) + LOOP_COLUMN > width) return narrow;
  return workerRows(
    [...head, 'loop'],
    rows.map((row, index) => [...row, loops[index] ?? UNKNOWN]),
    c,
  );
}

/** Connections that it has, of those that it may have. */
function openOf({ slot, connections }: WorkerRow, ports: PortRow[], c: Colors): string {
  if (connections === null) return UNKNOWN;
  const limits = ports.flatMap(({ sockets }) => sockets.filter((socket) => socket.slot === slot));
  // On a port without a limit it may have as many as come.
  if (limits.length === 0 || limits.some(({ maxConnections }) => maxConnections === 0))
    return `${connections}`;
  const most = limits.reduce((sum, { maxConnections }) => sum + maxConnections, 0);
  const text = `${connections}/${most}`;
  return connections >= most ? c.yellow(text) : text;
}

function workerRows(head: string[], rows: (string | number)[][], c: Colors): string {
  const table = new Table({
    chars: PLAIN,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
    head: head.map((text) => c.dim(text)),
    colAligns: head.map((text) => (text === 'state' || text === 'loop' ? 'left' : 'right')),
  });
  table.push(...rows);
  return trimmed(table);
}

function widest(text: string): number {
  return Math.max(...text.split('\n').map((line) => stripVTControlCharacters(line).length));
}

interface Queues {
  queue: number;
  limit: number;
  chosen: number | null;
  /** The worst of those that are given connections. */
  readiness: Readiness | null;
}

/** A slot's sum over all ports. */
function queuesOf(slot: number, ports: PortRow[]): Queues | undefined {
  const sockets = ports.flatMap((port) => port.sockets.filter((socket) => socket.slot === slot));
  if (sockets.length === 0) return undefined;
  const sum = (values: number[]) => values.reduce((total, each) => total + each, 0);
  // The worker may not listen on all of them. One that is stuck is given nothing at any.
  const enabled = sockets.filter((socket) => socket.enabled);
  const asked = enabled.length > 0 ? enabled : sockets;
  return {
    queue: sum(sockets.map(({ queue }) => queue)),
    limit: sum(sockets.map(({ limit }) => limit)),
    chosen: sockets.some(({ chosen }) => chosen === null)
      ? null
      : sum(sockets.map(({ chosen }) => chosen ?? 0)),
    readiness: READINESS.find((each) => asked.some(({ readiness }) => readiness === each)) ?? null,
  };
}

/** Why a worker is not there, or was started again: what one looks at this table for. */
function reasonsOf(workers: WorkerRow[], width: number, c: Colors): string[] {
  return workers
    .filter(({ reason }) => reason !== null)
    .flatMap(({ slot, reason }) => wrapped(`worker ${slot}, last end: ${reason}`, width).map(c.yellow));
}

function portTable(ports: PortRow[]): string {
  const table = new Table({
    chars: PLAIN,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
    head: ['port', 'selector', 'redirected', 'dropped', 'reset', 'waited', 'migrated', 'rescues'],
    colAligns: ['left', 'left', ...Array.from({ length: 6 }, () => 'right' as const)],
  });
  for (const { address, family, port, selector, migrated, rescues, ...counts } of ports) {
    const where = family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
    const { redirected, dropped, reset, waited } = counts;
    const decided = [redirected, dropped, reset, waited].map((count) => count ?? UNKNOWN);
    table.push([where, selector, ...decided, migrated, rescues]);
  }
  return trimmed(table);
}

/** Waiting lists with somebody in them. */
function listsOf(ports: PortRow[], c: Colors): string[] {
  return ports.flatMap(({ address, family, port, waiting }) => {
    if (!waiting || waiting.length === 0) return [];
    const where = family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
    return [c.yellow(`${where}: ${waiting.length} wait, the first for ${aboutTime(waiting.age)}`)];
  });
}

function noticesOf(ports: PortRow[], width: number, c: Colors): string[] {
  const notices = new Set(
    ports.flatMap(({ notice, selector }) => (notice === null ? [] : [`selector ${selector}: ${notice}`])),
  );
  return [...notices].flatMap((notice) => wrapped(notice, width).map(c.dim));
}

/** Without the spaces that fill up the last column. */
function trimmed(table: { toString(): string }): string {
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n');
}
