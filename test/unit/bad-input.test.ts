/** Bad input gets a clear error with a stable code, and nothing is left half-done. Holds in every tier. */
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type AddOptions, SocketGroup } from '../../lib/group/group.js';
import { type NativeSocket, native } from '../../lib/native.js';

const host = '127.0.0.1';

function openFds(): string[] {
  return readdirSync('/proc/self/fd');
}

/** Descriptors before and after; libuv opens its own at first use, so a first call is made before counting. */
async function expectNothingLeft(action: () => Promise<unknown>): Promise<void> {
  await action();
  const before = openFds().length;
  await action();
  expect(openFds().length).toBe(before);
}

async function expectRefusal(
  action: () => Promise<unknown>,
  code: string,
  named: string | RegExp,
): Promise<void> {
  await expectNothingLeft(async () => {
    const error = await action().then(
      (group) => {
        (group as SocketGroup | undefined)?.close?.();
        throw new Error('no error was thrown');
      },
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ name: 'SpillwayError', code, hint: expect.stringMatching(/\w/) });
    expect((error as Error).message).toMatch(named);
  });
}

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function listening(options: { port?: number; host?: string } = {}): Promise<Server> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(options.port ?? 0, options.host ?? host, done));
  cleanUps.push(() => new Promise((done) => server.close(done)));
  return server;
}

/** A socket made by hand, as another program would have it. */
function handMade({ port = 0, reusePort = true, listen = true, address = host } = {}): NativeSocket {
  const { SOL_SOCKET, SO_REUSEPORT, SO_REUSEADDR } = native().constants as Record<string, number>;
  const socket = new (native().Socket)('create', 4);
  cleanUps.push(() => socket.close());
  socket.setInt(SOL_SOCKET as number, SO_REUSEADDR as number, 1);
  if (reusePort) socket.setInt(SOL_SOCKET as number, SO_REUSEPORT as number, 1);
  socket.bind(address, port, 4);
  if (listen) socket.listen(8);
  return socket;
}

describe('opening', () => {
  test.each([
    ['port out of range', { port: 65536 }, 'ERR_SPILLWAY_OPTION_RANGE', /port.*65536/],
    ['port below zero', { port: -1 }, 'ERR_SPILLWAY_OPTION_RANGE', /port/],
    ['no sockets', { sockets: 0 }, 'ERR_SPILLWAY_OPTION_RANGE', /sockets.*0.*1 to 1024/],
    ['too many sockets', { sockets: 1025 }, 'ERR_SPILLWAY_OPTION_RANGE', /sockets.*1025/],
    ['half a socket', { sockets: 1.5 }, 'ERR_SPILLWAY_OPTION_RANGE', /sockets/],
    ['unknown host', { host: 'no-such-host.invalid' }, 'ERR_SPILLWAY_HOST_UNKNOWN', /no-such-host/],
    [
      'an address of another machine',
      { host: '192.0.2.1' },
      'ERR_SPILLWAY_ADDRESS_UNAVAILABLE',
      /192\.0\.2\.1/,
    ],
    ['unknown option', { backlogg: 8 }, 'ERR_SPILLWAY_OPTION_UNKNOWN', /backlogg/],
    ['option out of range', { backlog: 0 }, 'ERR_SPILLWAY_OPTION_RANGE', /backlog.*0.*1 to 65535/],
    ['unknown congestion', { congestion: 'nonesuch' }, 'ERR_SPILLWAY_OPTION_RANGE', /nonesuch/],
    ['unknown device', { bindToDevice: 'nonesuch0' }, /ADDRESS_UNAVAILABLE|PERMISSION/, /nonesuch0/],
    ['v6Only on IPv4', { v6Only: true }, 'ERR_SPILLWAY_OPTION_RANGE', /v6Only/],
    [
      'a policy the tier cannot give',
      { selector: 'cbpf', policy: 'least-queue' },
      'ERR_SPILLWAY_OPTION_TIER',
      /ebpf/,
    ],
    [
      'an overflow the tier cannot give',
      { selector: 'none', overflow: 'reset' },
      'ERR_SPILLWAY_OPTION_TIER',
      /ebpf/,
    ],
    ['a weight the tier cannot give', { selector: 'none', weight: 2 }, 'ERR_SPILLWAY_OPTION_TIER', /cbpf/],
  ] as const)('%s', async (_, options, code, named) => {
    await expectRefusal(
      () => SocketGroup.open({ host, port: 0, sockets: 2, ...options } as never),
      typeof code === 'string' ? code : expect.stringMatching(code),
      named,
    );
  });

  test('a port in use without SO_REUSEPORT is named', async () => {
    const { port } = (await listening()).address() as { port: number };
    await expectRefusal(
      () => SocketGroup.open({ host, port, sockets: 2 }),
      'ERR_SPILLWAY_ADDRESS_IN_USE',
      new RegExp(`127\\.0\\.0\\.1:${port}`),
    );
  });

  test('a port that another service shares is not shared: its user is named', async () => {
    const { port } = handMade().localEndpoint();
    await expectRefusal(
      () => SocketGroup.open({ host, port, sockets: 2 }),
      'ERR_SPILLWAY_ADDRESS_IN_USE',
      new RegExp(`taken.*user ${process.getuid?.()}`),
    );
  });

  test('a second group on the port of a first is refused, and the first goes on', async () => {
    const group = await SocketGroup.open({ host, sockets: 2 });
    cleanUps.push(() => group.close());
    await expectRefusal(
      () => SocketGroup.open({ host, port: group.address.port, sockets: 2 }),
      'ERR_SPILLWAY_ADDRESS_IN_USE',
      /taken/,
    );
    expect(group.stats().sockets).toHaveLength(2);
  });

  test('too few descriptors: the limit is named', () => {
    const script = `
      import { SocketGroup } from '${new URL('../../dist/lib/group/group.js', import.meta.url)}';
      import { readdirSync } from 'node:fs';
      const before = readdirSync('/proc/self/fd').length;
      const error = await SocketGroup.open({ host: '127.0.0.1', sockets: 200, selector: 'none' }).catch((e) => e);
      console.log(error.code, readdirSync('/proc/self/fd').length - before);`;
    const { stdout } = spawnSync('sh', [
      '-c',
      'ulimit -n 100; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      script,
    ]);
    expect(stdout.toString()).toBe('ERR_SPILLWAY_LIMIT 0\n');
  });
});

describe('a list of sockets', () => {
  test('an empty list', () => expectRefusal(() => SocketGroup.of([]), 'ERR_SPILLWAY_BAD_FD', /empty/));

  test.each([
    ['a negative descriptor', -1, /-1 is not a descriptor/],
    ['a number that is no descriptor', 1.5, /not a descriptor/],
    ['a closed descriptor', 9999, /9999 is not a socket/],
  ])('%s', (_, fd, named) => expectRefusal(() => SocketGroup.of([fd]), 'ERR_SPILLWAY_BAD_FD', named));

  test('a file', async () => {
    const fd = openSync('/dev/null', 'r');
    cleanUps.push(() => closeSync(fd));
    await expectRefusal(
      () => SocketGroup.of([fd]),
      'ERR_SPILLWAY_BAD_FD',
      new RegExp(`${fd} is not a socket`),
    );
  });

  test('a UDP socket', async () => {
    const udp = createSocket('udp4');
    await new Promise<void>((done) => udp.bind(0, host, done));
    cleanUps.push(() => udp.close());
    const { fd } = (udp as unknown as { _handle: { fd: number } })._handle;
    await expectRefusal(
      () => SocketGroup.of([fd]),
      'ERR_SPILLWAY_BAD_FD',
      new RegExp(`${fd} is not a TCP socket`),
    );
  });

  test.each([
    ['one that does not listen', { listen: false }, /does not listen/],
    ['one that was not bound with SO_REUSEPORT', { reusePort: false }, /SO_REUSEPORT/],
  ])('%s', async (_, how, named) => {
    const good = handMade();
    const bad = handMade(how);
    await expectRefusal(() => SocketGroup.of([good.fd, bad.fd]), 'ERR_SPILLWAY_BAD_FD', named);
    expect(good.acceptQueue()?.limit).toBe(8);
  });

  test('sockets on different ports', async () => {
    const [one, other] = [handMade(), handMade()];
    await expectRefusal(() => SocketGroup.of([one.fd, other.fd]), 'ERR_SPILLWAY_BAD_FD', /others on/);
  });

  test('one socket given twice, also by another descriptor', async () => {
    const one = handMade();
    const twin = new (native().Socket)('duplicate', one.fd);
    cleanUps.push(() => twin.close());
    await expectRefusal(() => SocketGroup.of([one.fd, one.fd]), 'ERR_SPILLWAY_BAD_FD', /same socket/);
    await expectRefusal(() => SocketGroup.of([one.fd, twin.fd]), 'ERR_SPILLWAY_BAD_FD', /same socket/);
  });

  test('a socket that is already in a group', async () => {
    const group = await SocketGroup.open({ host, sockets: 2 });
    cleanUps.push(() => group.close());
    await expectRefusal(() => SocketGroup.of([group.fd(0)]), 'ERR_SPILLWAY_BAD_FD', /already/);
    await expectRefusal(() => group.add({ fd: group.fd(1) }), 'ERR_SPILLWAY_BAD_FD', /already/);
    expect(group.size).toBe(2);
  });

  test('an option of sockets that are not bound yet', async () => {
    const one = handMade();
    await expectRefusal(
      () => SocketGroup.of([one.fd], { freeBind: true }),
      'ERR_SPILLWAY_OPTION_FIXED',
      /freeBind/,
    );
  });

  test("the descriptors stay the caller's: still listening, with their own limit, after the group is closed", async () => {
    const one = handMade();
    const group = await SocketGroup.of([one.fd], { backlog: 16 });
    expect(group.getOption('backlog')).toBe(16);
    group.close();
    expect(one.acceptQueue()).toEqual({ length: 0, limit: 16 });
  });
});

describe('an open group', () => {
  async function open(options = {}): Promise<SocketGroup> {
    const group = await SocketGroup.open({ host, sockets: 2, ...options });
    cleanUps.push(() => group.close());
    return group;
  }

  const refusal = (action: () => unknown, code: string, named: RegExp) => {
    expect(action).toThrowError(expect.objectContaining({ code }));
    expect(action).toThrowError(named);
  };

  test('refuses unknown options, values out of range, fixed ones and slots that are not there', async () => {
    const group = await open();
    refusal(() => group.setOption('polic' as never, 'hash' as never), 'ERR_SPILLWAY_OPTION_UNKNOWN', /polic/);
    refusal(() => group.getOption('polic' as never), 'ERR_SPILLWAY_OPTION_UNKNOWN', /polic/);
    refusal(() => group.setOption('weight', 0, 1), 'ERR_SPILLWAY_OPTION_RANGE', /weight/);
    refusal(() => group.setOption('v6Only', true), 'ERR_SPILLWAY_OPTION_FIXED', /v6Only/);
    refusal(() => group.setOption('enabled', false, 2), 'ERR_SPILLWAY_NO_SUCH_SLOT', /slot 2/);
    refusal(() => group.setOption('policy', 'hash', 0), 'ERR_SPILLWAY_OPTION_RANGE', /not of one slot/);
    refusal(() => group.fd(-1), 'ERR_SPILLWAY_NO_SUCH_SLOT', /-1/);
  });

  test('changes no socket when one of them refuses an option', async () => {
    const group = await open({ congestion: 'reno' });
    refusal(() => group.setOption('congestion', 'nonesuch'), 'ERR_SPILLWAY_OPTION_RANGE', /nonesuch/);
    expect([0, 1].map((slot) => group.getOption('congestion', slot))).toEqual(['reno', 'reno']);
  });

  test('does not let the last socket leave, and still has it', async () => {
    const group = await open({ sockets: 1 });
    await expect(group.remove(0)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_NO_SIBLING' });
    expect(group.stats().sockets).toHaveLength(1);
  });

  test('takes no more sockets than its capacity', async () => {
    const group = await open({ capacity: 3, sockets: 2 });
    expect(await group.add()).toBe(2);
    await expect(group.add()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_LIMIT' });
    expect(group.size).toBe(3);
  });

  test.each([
    ['a slot below 0', { slot: -1 }, 'ERR_SPILLWAY_OPTION_RANGE', /slot cannot be -1/],
    ['half a slot', { slot: 2.5 }, 'ERR_SPILLWAY_OPTION_RANGE', /slot cannot be 2.5/],
    ['a slot with a socket', { slot: 1 }, 'ERR_SPILLWAY_OPTION_RANGE', /slot cannot be 1/],
    ['a slot beyond the capacity', { slot: 3 }, 'ERR_SPILLWAY_LIMIT', /no slot 3.*capacity of 3/],
    ['a weight out of range', { weight: 0 }, 'ERR_SPILLWAY_OPTION_RANGE', /weight cannot be 0/],
    ['enabled as a word', { enabled: 'no' }, 'ERR_SPILLWAY_OPTION_RANGE', /enabled cannot be "no"/],
    ['a descriptor as a word', { fd: 'three' }, 'ERR_SPILLWAY_OPTION_RANGE', /fd cannot be "three"/],
    ['what is no option of add()', { backlog: 3 }, 'ERR_SPILLWAY_OPTION_UNKNOWN', /no 'backlog'/],
    ['a descriptor alone', 3, 'ERR_SPILLWAY_OPTION_RANGE', /object such as \{ fd, slot \}, not 3/],
    ['nothing by name', null, 'ERR_SPILLWAY_OPTION_RANGE', /not null/],
  ])('adds no socket for %s', async (_, how, code, named) => {
    const group = await open({ capacity: 3 });
    await expectRefusal(() => group.add(how as AddOptions), code, named);
    expect(group.size).toBe(2);
  });

  test('refuses everything but close() once it is closed', async () => {
    const group = await open();
    group.close();
    group.close();
    refusal(() => group.stats(), 'ERR_SPILLWAY_CLOSED', /closed/);
    refusal(() => group.setOption('backlog', 8), 'ERR_SPILLWAY_CLOSED', /closed/);
    await expect(group.add()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
    await expect(group.remove(0)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_CLOSED' });
  });
});
