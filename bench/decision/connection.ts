/** What a whole connection over loopback costs, with the selector and with the kernel's own choice. */
import { type OpenOptions, SocketGroup } from '../../lib/group/group.js';
import { testing } from '../../test/support/testing.js';
import { median, rotated } from '../method/statistics.js';
import { POLICIES } from './stage.js';

/**
 * `none` is plain SO_REUSEPORT: the kernel chooses by its hash, no program runs. `counted` and `limited` are `hash` with
 * connections counted by worker, and with a limit besides that nobody reaches.
 */
export const RIVALS = ['none', ...POLICIES, 'counted', 'limited'] as const;
export type Rival = (typeof RIVALS)[number];

/**
 * Those that count connections see all of the machine's, those of the other rivals as well: they are there for their turns
 * only.
 */
const COUNTING: readonly Rival[] = ['idle-first', 'counted', 'limited'];

/** More than are ever open here. */
const HIGH_LIMIT = 1_000_000;

function optionsOf(rival: Rival): Partial<OpenOptions> {
  switch (rival) {
    case 'none':
      return { selector: 'none' };
    case 'counted':
      return { selector: 'ebpf', policy: 'hash', countConnections: true };
    case 'limited':
      return { selector: 'ebpf', policy: 'hash', maxConnections: HIGH_LIMIT };
    default:
      return { selector: 'ebpf', policy: rival };
  }
}

export interface ConnectionAmount {
  /** How often every rival has its turn in a round; the median of the turns counts. */
  turns: number;
  /** Connections of one turn. */
  connections: number;
}

/** Connections in a row before the server accepts them all. */
const BURST = 256;
/** So that every burst fits, however the hash falls out. */
const BACKLOG = 1023;

/**
 * Nanoseconds per connection: socket, connect, RST by the client, accept and close by the server, all in this thread.
 * The rivals take many short turns. Run-time accounting must be off, it would be counted.
 */
export async function sampleConnections(
  sockets: number,
  { turns, connections }: ConnectionAmount,
  round: number,
): Promise<Record<Rival, number>> {
  const groups: SocketGroup[] = [];
  const open = (rival: Rival) =>
    SocketGroup.open({ host: '127.0.0.1', sockets, backlog: BACKLOG, ...optionsOf(rival) });
  try {
    const rivals = new Map<Rival, { turn: () => Promise<number>; taken: number[] }>();
    for (const rival of RIVALS) {
      if (COUNTING.includes(rival)) {
        rivals.set(rival, { turn: async () => timeAlone(await open(rival), connections), taken: [] });
        continue;
      }
      const group = await open(rival);
      groups.push(group);
      rivals.set(rival, { turn: async () => timePerConnection(group, connections), taken: [] });
    }
    for (const { turn } of rivals.values()) await turn();
    for (let turn = 0; turn < turns; turn++) {
      for (const rival of rotated([...rivals.values()], round + turn)) rival.taken.push(await rival.turn());
    }
    return Object.fromEntries([...rivals].map(([name, { taken }]) => [name, median(taken)])) as Record<
      Rival,
      number
    >;
  } finally {
    for (const group of groups) group.close();
  }
}

/** The group is there for this turn only. */
function timeAlone(group: SocketGroup, atLeast: number): number {
  try {
    timePerConnection(group, BURST);
    return timePerConnection(group, atLeast);
  } finally {
    group.close();
  }
}

function timePerConnection(group: SocketGroup, atLeast: number): number {
  const { port } = group.address;
  const target = { address: '127.0.0.1', family: 4, port, count: BURST } as const;
  let accepted = 0;
  const start = process.hrtime.bigint();
  for (let connected = 0; connected < atLeast; connected += BURST) {
    testing().timeConnections(target);
    for (let slot = 0; slot < group.size; slot++) {
      const connections = testing().acceptMany(group.fd(slot));
      testing().closeMany(connections);
      accepted += connections.length;
    }
  }
  const took = Number(process.hrtime.bigint() - start);
  const expected = Math.ceil(atLeast / BURST) * BURST;
  if (accepted !== expected) throw new Error(`${expected} clients connected, ${accepted} were accepted`);
  return took / accepted;
}
