import { expect } from 'vitest';
import type { GroupStats, SocketGroup } from '../../lib/group/group.js';
import type { Clients } from './clients.js';
import { sum, taken } from './scene.js';

/**
 * Holds what clients count against what the group counts. Exact wherever every SYN is one decision, which is so on
 * loopback without SYN cookies: a SYN sent again, because the first was dropped, is one more.
 *
 * The clients must be all there ever were, and none of their connections may have been accepted or moved.
 */
export function expectAgreement(group: SocketGroup, ...clients: readonly Clients[]): GroupStats {
  const syns = () => sum(clients.map((each) => each.syns));
  let stats: GroupStats;
  let sent: number;
  // A SYN that is repeated between the two looks would be on one side only.
  do {
    sent = syns();
    stats = group.stats();
  } while (syns() !== sent);

  const all = sum(clients.map(({ fds }) => fds.length));
  const established = sum(clients.map((each) => each.established));
  const refused = sum(clients.map((each) => each.count('ECONNREFUSED')));
  const unanswered = sum(clients.map((each) => each.unanswered));
  const decided = stats.decisions!;
  expect(established + refused + unanswered).toBe(all);
  expect(decided.syn).toEqual({
    first: established - stats.redirected!,
    redirected: stats.redirected,
    dropped: sent - established - refused,
    reset: refused,
    failed: 0,
    waiting: 0,
  });
  expect(stats.dropped).toBe(decided.syn.dropped);
  expect(stats.reset).toBe(decided.syn.reset);
  expect(taken(stats, 'cookieAck')).toBe(0);
  expect(taken(stats, 'migration')).toBe(0);
  expect(stats.stale).toBe(0);
  expect(stats.kernelDrops).toBe(0);
  expect(sum(stats.sockets.map(({ queue }) => queue))).toBe(established);
  for (const { queue, chosen } of stats.sockets)
    expect(chosen).toEqual({ syn: queue, cookieAck: 0, migration: 0 });
  expect(sum(stats.sockets.map(({ redirectedIn }) => redirectedIn!))).toBe(stats.redirected);
  expect(sum(stats.sockets.map(({ redirectedOut }) => redirectedOut!))).toBe(stats.redirected);
  return stats;
}
