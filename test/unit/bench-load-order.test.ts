import { expect, test } from 'vitest';
import { runLoad } from '../../bench/load/generator.js';
import type { LoadOrder, Work } from '../../bench/load/order.js';
import { named } from '../support/named.js';

const arrivals = { at: Float64Array.of(0, 1), kind: Uint8Array.of(0, 0) };
const connections: Work = { mode: 'connections', arrivals };
const closed: Work = { mode: 'closed', concurrency: 1, milliseconds: 10, kind: 0 };

const order: LoadOrder = {
  target: { host: '127.0.0.1', port: 1 },
  work: connections,
  requests: ['/\n'],
  timeout: 100,
  sources: [],
  cpu: null,
  network: null,
};

const WRONG: { what: string; change: Partial<LoadOrder>; says: RegExp }[] = [
  { what: 'a host name', change: { target: { host: 'localhost', port: 1 } }, says: /localhost/ },
  { what: 'a source that is no address', change: { sources: ['127.0.0.1', '::1'] }, says: /::1/ },
  { what: 'port 0', change: { target: { host: '127.0.0.1', port: 0 } }, says: /port/ },
  { what: 'no time limit', change: { timeout: Number.POSITIVE_INFINITY }, says: /timeout/ },
  { what: 'nothing to send', change: { requests: [] }, says: /requests/ },
  { what: 'an empty request', change: { requests: [''] }, says: /request/ },
  { what: 'a request that may not fit', change: { requests: ['x'.repeat(4097)] }, says: /4097/ },
  { what: 'a kind that is not there', change: { work: { ...closed, kind: 1 } }, says: /kind/ },
  { what: 'no connections', change: { work: { ...closed, concurrency: 0 } }, says: /concurrency/ },
  {
    what: 'a closed load of a day',
    change: { work: { ...closed, milliseconds: 86_400_000 } },
    says: /milliseconds/,
  },
  {
    what: 'arrivals out of order',
    change: { work: { ...connections, arrivals: { ...arrivals, at: Float64Array.of(2, 1) } } },
    says: /at 1 ms/,
  },
  {
    what: 'an arrival without a time',
    change: { work: { ...connections, arrivals: { ...arrivals, at: Float64Array.of(0, Number.NaN) } } },
    says: /NaN/,
  },
  {
    what: 'arrivals without a kind',
    change: { work: { ...connections, arrivals: { ...arrivals, kind: new Uint8Array(1) } } },
    says: /kinds/,
  },
  {
    what: 'arrivals of a kind that is not there',
    change: { work: { ...connections, arrivals: { ...arrivals, kind: Uint8Array.of(0, 1) } } },
    says: /kind/,
  },
];

test.each(named(WRONG, ({ what }) => what))('an order with %s is refused', async (_, { change, says }) => {
  const load = runLoad({ ...order, ...change });
  await expect(load).rejects.toThrow(RangeError);
  await expect(load).rejects.toThrow(says);
});

test('a load that is aborted before it begins rejects with the reason', async () => {
  const reason = new Error('no time');
  await expect(runLoad(order, AbortSignal.abort(reason))).rejects.toBe(reason);
});
