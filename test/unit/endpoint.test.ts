import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { listenersAt, procAddress, resolveEndpoint, describe as show } from '../../lib/group/endpoint.js';

test.each([
  ['127.0.0.1', 4, 8080, '0100007F:1F90'],
  ['0.0.0.0', 4, 1, '00000000:0001'],
  ['::', 6, 80, '00000000000000000000000000000000:0050'],
  ['::1', 6, 65535, '00000000000000000000000001000000:FFFF'],
  ['2001:db8::1:2', 6, 443, 'B80D0120000000000000000002000100:01BB'],
  ['::ffff:192.0.2.1', 6, 80, '0000000000000000FFFF0000010200C0:0050'],
  ['fe80::1%lo', 6, 80, '000080FE000000000000000001000000:0050'],
] as const)('%s (IPv%d) port %d is %s in /proc/net/tcp', (address, family, port, expected) => {
  expect(procAddress({ address, family, port })).toBe(expected);
});

test.each(['127.0.0.1', '::1'])('a real listener on %s is found by its address', async (host) => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, host, done));
  const { port } = server.address() as { port: number };
  const endpoint = await resolveEndpoint(host, port);
  expect(listenersAt(endpoint)).toEqual([
    expect.objectContaining({ uid: process.getuid?.(), inode: expect.any(Number) }),
  ]);
  expect(listenersAt({ ...endpoint, port: port === 65535 ? 1024 : port + 1 })).toEqual([]);
  await new Promise((done) => server.close(done));
});

test.each([
  [undefined, 80, /^\[::\]:80$|^0\.0\.0\.0:80$/],
  ['[::1]', 80, /^\[::1\]:80$/],
  ['::1', 80, /^\[::1\]:80$/],
  ['127.0.0.1', 0, /^127\.0\.0\.1:0$/],
  ['localhost', 80, /^127\.0\.0\.1:80$|^\[::1\]:80$/],
] as const)('host %s and port %d resolve to %s', async (host, port, expected) => {
  expect(show(await resolveEndpoint(host, port))).toMatch(expected);
});

test('an unknown host is named in the error', async () => {
  await expect(resolveEndpoint('no-such-host.invalid', 80)).rejects.toMatchObject({
    code: 'ERR_SPILLWAY_HOST_UNKNOWN',
    message: expect.stringContaining('no-such-host.invalid'),
  });
});

test.each([-1, 65536, 1.5, Number.NaN])('port %d is out of range', async (port) => {
  await expect(resolveEndpoint('127.0.0.1', port)).rejects.toMatchObject({
    code: 'ERR_SPILLWAY_OPTION_RANGE',
  });
});
