import { afterEach, describe, expect, test, vi } from 'vitest';
import { listenersAt, resolveEndpoint, describe as show } from '../../lib/group/endpoint.js';
import { inodeOf } from '../../lib/group/listeners.js';
import { procAddress, socketsInProc } from '../../lib/group/proc-net.js';
import { type Endpoint, type NativeSocket, native } from '../../lib/native.js';

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

const LISTEN = 10;

const sockets: NativeSocket[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  for (const socket of sockets.splice(0)) socket.close();
});

/** A listener that shares its port; port 0 becomes any free one. */
async function listenOn(host: string, port = 0): Promise<{ endpoint: Endpoint; inode: number }> {
  const { SOL_SOCKET, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY } = native().constants;
  const { address, family } = await resolveEndpoint(host, port);
  const socket = new (native().Socket)('create', family);
  sockets.push(socket);
  socket.setInt(SOL_SOCKET!, SO_REUSEPORT!, 1);
  if (host === '::') socket.setInt(IPPROTO_IPV6!, IPV6_V6ONLY!, 1);
  socket.bind(address, port, family);
  socket.listen(8);
  return { endpoint: socket.localEndpoint(), inode: inodeOf(socket) };
}

async function listenTogether(host: string, count: number) {
  const { endpoint, inode } = await listenOn(host);
  const inodes = [inode];
  while (inodes.length < count) inodes.push((await listenOn(host, endpoint.port)).inode);
  return { endpoint, inodes };
}

const HOSTS = ['127.0.0.1', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1'];

describe.each(HOSTS)('listeners on %s', (host) => {
  test('are told in the order they joined, with their owner, and nobody else', async () => {
    const { endpoint, inodes } = await listenTogether(host, 8);
    const peer = endpoint.family === 6 ? `${'0'.repeat(32)}:0000` : '00000000:0000';
    expect(listenersAt(endpoint)).toEqual(inodes.map((inode) => ({ inode, uid: process.getuid?.(), peer })));
    expect(listenersAt({ ...endpoint, port: endpoint.port === 65535 ? 1024 : endpoint.port + 1 })).toEqual(
      [],
    );
  });

  test('are the same, in the same order, asked by sock_diag and read from /proc', async () => {
    // So many that the kernel needs several messages for them.
    const { endpoint } = await listenTogether(host, 200);
    const { address, family, port } = endpoint;
    const asked = native().socketsAt(address, port, family, 1 << LISTEN);
    expect(asked).toHaveLength(200);
    expect(asked).toEqual(socketsInProc(endpoint, LISTEN));
  });
});

test('listeners on other addresses of the port are not told', async () => {
  const first = await listenOn('0.0.0.0');
  const others = await Promise.all(
    ['127.0.0.1', '127.0.0.2', '::', '::1'].map((host) => listenOn(host, first.endpoint.port)),
  );
  for (const { endpoint, inode } of [first, ...others]) {
    expect(listenersAt(endpoint)).toEqual([expect.objectContaining({ inode })]);
  }
});

test('a socket that is bound and does not listen is not told', async () => {
  const { endpoint } = await listenOn('127.0.0.1');
  sockets[0]!.shutdown();
  expect(listenersAt(endpoint)).toEqual([]);
});

describe('the kernel refuses to be asked', () => {
  const refuseWith = (code: string) =>
    vi.spyOn(native(), 'socketsAt').mockImplementation(() => {
      throw Object.assign(new Error(code), { code });
    });

  test.each(['EAFNOSUPPORT', 'EPROTONOSUPPORT', 'EOPNOTSUPP', 'ENOENT', 'EACCES', 'EPERM'])(
    'with %s: /proc is read',
    async (code) => {
      const { endpoint, inodes } = await listenTogether('127.0.0.1', 3);
      const asking = refuseWith(code);
      expect(listenersAt(endpoint).map(({ inode }) => inode)).toEqual(inodes);
      expect(asking).toHaveBeenCalledOnce();
    },
  );

  test('with any other error: it is passed on', async () => {
    refuseWith('EMFILE');
    const endpoint = await resolveEndpoint('127.0.0.1', 80);
    expect(() => listenersAt(endpoint)).toThrowError(expect.objectContaining({ code: 'EMFILE' }));
  });
});

test('an address that is none is refused by name', () => {
  expect(() => native().socketsAt('nonsense', 80, 4, 1 << LISTEN)).toThrowError(
    expect.objectContaining({ code: 'EINVAL', syscall: 'inet_pton', detail: 'nonsense' }),
  );
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
