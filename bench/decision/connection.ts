/** What a whole connection over loopback costs, with the selector and with the kernel's own choice. */
import { SocketGroup } from '../../lib/group/group.js';
import { testing } from '../../test/support/testing.js';
import { median, rotated } from '../method/statistics.js';
import { POLICIES, type Policy } from './stage.js';

/** `none` is plain SO_REUSEPORT: the kernel chooses by its hash, no program runs. */
export const RIVALS = ['none', ...POLICIES] as const;
export type Rival = (typeof RIVALS)[number];

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
  try {
    const serve = async (selector: 'none' | 'ebpf', policy: Policy) => {
      const group = await SocketGroup.open({
        host: '127.0.0.1',
        sockets,
        backlog: BACKLOG,
        selector,
        policy,
      });
      groups.push(group);
      return () => timePerConnection(group, connections);
    };
    const rivals = new Map<Rival, { turn: () => number; taken: number[] }>();
    rivals.set('none', { turn: await serve('none', 'hash'), taken: [] });
    for (const policy of POLICIES) rivals.set(policy, { turn: await serve('ebpf', policy), taken: [] });
    for (const { turn } of rivals.values()) turn();
    for (let turn = 0; turn < turns; turn++) {
      for (const rival of rotated([...rivals.values()], round + turn)) rival.taken.push(rival.turn());
    }
    return Object.fromEntries([...rivals].map(([name, { taken }]) => [name, median(taken)])) as Record<
      Rival,
      number
    >;
  } finally {
    for (const group of groups) group.close();
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
