/**
 * Where workers run: which processors each slot is given. Pure, but for reading what the machine has.
 *
 * A placement is a list of places, one for each slot in turn and from the beginning again when there are more slots, or
 * `auto`: one processor for each, as evenly as possible, those of one core last.
 */
import { readFileSync } from 'node:fs';
import { SpillwayError } from '../errors.js';

/** Processors of one place, ascending. */
export type Place = readonly number[];

/** What the machine has, by number. */
export interface Machine {
  /** Processors that are online and that this process may use. */
  cpus: readonly number[];
  /** Those of each NUMA node; empty where the kernel tells of none. */
  nodes: ReadonlyMap<number, readonly number[]>;
  /** Those that share a core with each processor, itself included. */
  siblings: ReadonlyMap<number, readonly number[]>;
}

/** A placement as it is written: `auto`, or places such as `0`, `2-3`, `0+2`, `node1`. */
export type Placement = 'auto' | readonly string[];

const LIST = /^\d+(-\d+)?(\+\d+(-\d+)?)*$/;
const NODE = /^node(\d+)$/;

/** Processors in the kernel's way of writing: `0-3,7`. */
export function parseList(text: string): number[] {
  const found = new Set<number>();
  for (const part of text.trim().split(',')) {
    const [first = '', last = first] = part.split('-');
    if (first === '') continue;
    for (let cpu = Number(first); cpu <= Number(last); cpu++) found.add(cpu);
  }
  return [...found].sort((one, other) => one - other);
}

/** Whether it can be read as a place at all. */
export function isPlace(text: string): boolean {
  if (NODE.test(text)) return true;
  if (!LIST.test(text)) return false;
  return text.split('+').every((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return first <= last && last < 8192;
  });
}

/**
 * The processors of a place that there are. Undefined when there are none of them now: whoever is placed there has to run
 * somewhere else.
 */
export function resolvePlace(text: string, { cpus, nodes }: Machine): Place | undefined {
  const node = NODE.exec(text);
  const wanted = node ? (nodes.get(Number(node[1])) ?? []) : parseList(text.replaceAll('+', ','));
  const there = wanted.filter((cpu) => cpus.includes(cpu));
  return there.length > 0 ? there : undefined;
}

/**
 * @param slots how many there are.
 * @returns the processors of each; undefined: all that there are, because its own are offline.
 */
export function assign(placement: Placement, slots: number, machine: Machine): (Place | undefined)[] {
  const places =
    placement === 'auto'
      ? spread(machine).map((cpu) => [cpu])
      : placement.map((text) => resolvePlace(text, machine));
  return Array.from({ length: slots }, (_, slot) =>
    places.length > 0 ? places[slot % places.length] : undefined,
  );
}

/** All processors, first one of each core, in turn from all nodes; then the second ones. */
function spread({ cpus, nodes, siblings }: Machine): number[] {
  const nodeOf = (cpu: number) => [...nodes].find(([, list]) => list.includes(cpu))?.[0] ?? 0;
  const inCore = (cpu: number) => (siblings.get(cpu) ?? [cpu]).indexOf(cpu);
  const counted = new Map<string, number>();
  const ranked = cpus.map((cpu) => {
    const key = `${inCore(cpu)} ${nodeOf(cpu)}`;
    const inNode = counted.get(key) ?? 0;
    counted.set(key, inNode + 1);
    return { cpu, rank: [inCore(cpu), inNode, nodeOf(cpu)] };
  });
  ranked.sort((one, other) => {
    const at = one.rank.findIndex((each, index) => each !== other.rank[index]);
    return at < 0 ? one.cpu - other.cpu : (one.rank[at] ?? 0) - (other.rank[at] ?? 0);
  });
  return ranked.map(({ cpu }) => cpu);
}

/** @param allowed processors that this process may use, online or not. */
export function readMachine(allowed: readonly number[], root = '/sys/devices/system'): Machine {
  const read = (path: string) => {
    try {
      return parseList(readFileSync(`${root}/${path}`, 'utf8'));
    } catch {
      return undefined;
    }
  };
  const online = read('cpu/online') ?? allowed;
  const cpus = allowed.filter((cpu) => online.includes(cpu));
  const nodes = new Map<number, readonly number[]>();
  for (const node of read('node/online') ?? []) nodes.set(node, read(`node/node${node}/cpulist`) ?? []);
  const siblings = new Map<number, readonly number[]>();
  for (const cpu of cpus) siblings.set(cpu, read(`cpu/cpu${cpu}/topology/thread_siblings_list`) ?? [cpu]);
  return { cpus, nodes, siblings };
}

/**
 * Every place must be one that the machine has: a number that is wrong is found at the start, and not at night.
 *
 * @param present processors that the machine has, online or not.
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE`
 */
export function assertPlaces(placement: Placement, machine: Machine, present: readonly number[]): void {
  if (placement === 'auto') return;
  for (const text of placement) {
    const node = NODE.exec(text);
    const unknown = node
      ? machine.nodes.has(Number(node[1]))
        ? []
        : [text]
      : parseList(text.replaceAll('+', ',')).filter((cpu) => !present.includes(cpu));
    if (unknown.length === 0) continue;
    const has = node ? `nodes ${[...machine.nodes.keys()].join()}` : `processors ${rangesOf(present)}`;
    throw new SpillwayError(
      'ERR_SPILLWAY_OPTION_RANGE',
      `placement cannot be '${text}': this machine has ${has || 'no NUMA nodes'}, and not ${unknown.join()}`,
    );
  }
}

/** As the kernel writes them: `0-3,7`. */
export function rangesOf(cpus: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const cpu of cpus) {
    const last = ranges.at(-1);
    if (last && last[1] === cpu - 1) last[1] = cpu;
    else ranges.push([cpu, cpu]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join();
}
