/** Which calls of listen() mean an inherited listener. */
import { describe, expect, test } from 'vitest';
import { exposes, knownAddresses, overlap, readRequest, serves } from '../../lib/serve/worker/matching.js';

const callback = () => {};
const { signal } = new AbortController();
const plain = { host: undefined, ipv6Only: false, exclusive: false, signal: undefined, callback: undefined };

const REQUESTS: {
  what: string;
  args: unknown[];
  request: Partial<ReturnType<typeof readRequest>> | undefined;
}[] = [
  { what: 'a port', args: [80], request: { port: 80 } },
  { what: 'a port as a string', args: ['80'], request: { port: 80 } },
  { what: 'a hexadecimal port', args: ['0x50'], request: { port: 80 } },
  { what: 'a port and a callback', args: [80, callback], request: { port: 80, callback } },
  { what: 'a port and a backlog', args: [80, 5], request: { port: 80 } },
  { what: 'a port and a host', args: [80, 'a.b'], request: { port: 80, host: 'a.b' } },
  { what: 'a port and an empty host', args: [80, ''], request: { port: 80 } },
  { what: 'all four', args: [80, '::1', 5, callback], request: { port: 80, host: '::1', callback } },
  { what: 'a missing host', args: [80, undefined, 5, callback], request: { port: 80, callback } },
  {
    what: 'options',
    args: [{ port: '80', host: 'h' }, callback],
    request: { port: 80, host: 'h', callback },
  },
  {
    what: 'all options',
    args: [{ port: 80, ipv6Only: true, signal }],
    request: { port: 80, ipv6Only: true, signal },
  },
  { what: 'options with a path besides the port', args: [{ port: 80, path: '/s' }], request: { port: 80 } },
  { what: 'a port of its own', args: [{ port: 80, exclusive: 1 }], request: { port: 80, exclusive: true } },
  { what: 'nothing', args: [], request: { port: 0 } },
  { what: 'a callback', args: [callback], request: { port: 0, callback } },
  { what: 'null', args: [null], request: { port: 0 } },
  { what: 'undefined and a host', args: [undefined, 'h'], request: { port: 0, host: 'h' } },
  { what: 'an undefined port', args: [{ port: undefined, host: 'h' }], request: { port: 0, host: 'h' } },
  { what: 'no port but a path', args: [{ port: null, path: '/s' }], request: { port: 0 } },
  { what: 'empty options', args: [{}], request: undefined },
  { what: 'a host that is no text', args: [{ port: 80, host: {} }], request: undefined },
  { what: 'a path', args: ['/run/s'], request: undefined },
  { what: 'options with a path', args: [{ path: '/run/s' }], request: undefined },
  { what: 'a descriptor', args: [{ fd: 3, port: 80 }], request: undefined },
  { what: 'a handle', args: [{ _handle: {}, port: 80 }], request: undefined },
  { what: 'a port out of range', args: [65536], request: undefined },
  { what: 'a fraction', args: [80.5], request: undefined },
  { what: 'a blank port', args: [{ port: ' ' }], request: undefined },
];

describe('readRequest', () => {
  for (const { what, args, request } of REQUESTS) {
    test(`${what}: ${request ? 'a TCP port' : 'not for us'}`, () => {
      expect(readRequest(args)).toEqual(request && { ...plain, ...request });
    });
  }
});

describe('knownAddresses', () => {
  for (const [host, addresses] of [
    [undefined, ['::']],
    ['127.0.0.1', ['127.0.0.1']],
    ['::1', ['::1']],
    ['localhost', ['127.0.0.1', '::1']],
    ['LocalHost.', ['127.0.0.1', '::1']],
    ['app.localhost', ['127.0.0.1', '::1']],
    ['mylocalhost', undefined],
    ['example.org', undefined],
    ['127.1', undefined],
  ] as const) {
    test(`${host ?? 'no host'}: ${addresses?.join(', ') ?? 'has to be asked for'}`, () => {
      expect(knownAddresses(host)).toEqual(addresses);
    });
  }
});

/** What is served by a listener on `bound`, and what is not. */
const SERVED: { bound: string; v6Only?: boolean; yes: string[]; no: string[] }[] = [
  {
    bound: '127.0.0.1',
    yes: ['127.0.0.1', '0.0.0.0', '::', '::ffff:127.0.0.1'],
    no: ['127.0.0.2', '10.0.0.1', '::1'],
  },
  { bound: '0.0.0.0', yes: ['0.0.0.0', '::', '127.0.0.1', '10.0.0.1'], no: ['::1', 'fe80::1%eth0'] },
  { bound: '::1', yes: ['::1', '::', '0:0:0:0:0:0:0:1'], no: ['127.0.0.1', '0.0.0.0', 'fd00::1'] },
  { bound: '::', yes: ['::', '0.0.0.0', '127.0.0.1', '::1', 'fd00::1', 'fe80::1%eth0'], no: [] },
  { bound: '::', v6Only: true, yes: ['::', '::1', 'fd00::1'], no: ['0.0.0.0', '127.0.0.1'] },
  { bound: 'fe80::1%2', yes: ['FE80::1%2', '::'], no: ['fe80::1%3', '0.0.0.0'] },
];

describe('serves', () => {
  for (const { bound, v6Only = false, yes, no } of SERVED) {
    const family = bound.includes(':') ? 6 : 4;
    const listener = { id: 1, fd: 3, address: bound, family, port: 80, v6Only } as const;
    test(`a listener on ${bound}${v6Only ? ', IPv6 only' : ''}`, () => {
      for (const address of yes) expect(serves(listener, address, false), address).toBe(true);
      for (const address of no) expect(serves(listener, address, false), address).toBe(false);
    });
  }

  test('who asks for IPv6 only does not get an IPv4 listener', () => {
    const listener = { id: 1, fd: 3, address: '0.0.0.0', family: 4, port: 80, v6Only: false } as const;
    expect(serves(listener, '::', true)).toBe(false);
  });
});

describe('exposes', () => {
  for (const [bound, host, expected] of [
    ['0.0.0.0', '127.0.0.1', true],
    ['::', '127.9.9.9', true],
    ['::', '::ffff:127.0.0.1', true],
    ['::', '::1', true],
    ['::', 'LocalHost.', true],
    ['::', undefined, false],
    ['::', '::', false],
    ['0.0.0.0', '10.0.0.1', false],
    ['::', 'a.name', false],
    ['127.0.0.1', '127.0.0.1', false],
    ['10.0.0.1', 'localhost', false],
  ] as const) {
    test(`${host ?? 'no host'}, served on ${bound}: ${expected ? 'more than' : 'not more than'} was asked for`, () => {
      const family = bound.includes(':') ? 6 : 4;
      const listener = { id: 1, fd: 3, address: bound, family, port: 80, v6Only: false } as const;
      expect(exposes(listener, host)).toBe(expected);
    });
  }
});

describe('overlap', () => {
  for (const [one, other, expected] of [
    ['127.0.0.1', '127.0.0.1', true],
    ['127.0.0.1', '::ffff:127.0.0.1', true],
    ['127.0.0.1', '127.0.0.2', false],
    ['127.0.0.1', '0.0.0.0', true],
    ['127.0.0.1', '::', true],
    ['0.0.0.0', '::', true],
    ['::1', '::', true],
    ['::1', '0.0.0.0', false],
    ['::1', '0:0:0:0:0:0:0:1', true],
  ] as const) {
    test(`${one} and ${other}: ${expected ? 'not both' : 'both'} can be listened on`, () => {
      const [a, b] = [one, other].map((address) => ({ address, ipv6Only: false })) as [never, never];
      expect([overlap(a, b), overlap(b, a)]).toEqual([expected, expected]);
    });
  }

  test('who asks for IPv6 only leaves room for IPv4', () => {
    const six = { address: '::', ipv6Only: true };
    expect(overlap(six, { address: '0.0.0.0', ipv6Only: false })).toBe(false);
    expect(overlap(six, { address: '::1', ipv6Only: false })).toBe(true);
  });
});
