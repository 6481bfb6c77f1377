/**
 * The `ebpf` selector needs CAP_BPF and CAP_PERFMON and nothing else; what is missing is named. Holds for both ways of
 * reading listeners.
 */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { ownNetwork } from '../support/network.js';

ownNetwork();

/** Runs in a process that has only some capabilities: opens a group, fills it, and says what became of it. */
const program = `
  import { SocketGroup } from '${new URL('../../dist/lib/group/group.js', import.meta.url)}';
  import { connect } from 'node:net';
  const options = JSON.parse(process.argv[1]);
  try {
    const group = await SocketGroup.open({ host: '127.0.0.1', sockets: 2, backlog: 1, overflow: 'drop', ...options });
    // Below ebpf it is a matter of chance who finds a place: only the selector is of interest then.
    const count = group.getOption('selector') === 'ebpf' ? 5 : 0;
    const clients = Array.from({ length: count }, () => connect(group.address.port, '127.0.0.1'));
    await Promise.all(clients.slice(0, 4).map((client) => new Promise((done) => client.once('connect', done))));
    const { selector, dropped } = group.stats();
    console.log(JSON.stringify({ selector, dropped, notice: group.notice ?? null }));
    for (const client of clients) client.destroy();
    group.close();
  } catch ({ code, message, hint }) {
    console.log(JSON.stringify({ code, message, hint }));
  }`;

function runWith(capabilities: readonly string[], options: object): Record<string, unknown> {
  const set = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  // User 0 gets exactly what the bounding set leaves at exec, and may read the files of the checkout.
  const output = execFileSync('setpriv', [
    `--bounding-set=${set}`,
    '--inh-caps=-all',
    ...[process.execPath, '--input-type=module', '-e', program, JSON.stringify(options)],
  ]);
  return JSON.parse(output.toString());
}

test.each(['cast', 'probe'])('CAP_BPF and CAP_PERFMON are enough to read listeners by %s', (readBy) => {
  expect(runWith(['bpf', 'perfmon'], { selector: 'ebpf', readBy })).toEqual({
    selector: 'ebpf',
    dropped: 1,
    notice: null,
  });
});

test.each([
  { has: ['bpf'], missing: 'CAP_PERFMON' },
  { has: ['perfmon'], missing: 'CAP_BPF' },
  { has: [], missing: 'CAP_BPF and CAP_PERFMON' },
  { has: ['net_admin', 'net_raw'], missing: 'CAP_BPF and CAP_PERFMON' },
])('with $has alone, $missing is named', ({ has, missing }) => {
  expect(runWith(has, { selector: 'ebpf' })).toMatchObject({
    code: 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE',
    message: expect.stringMatching(new RegExp(`missing ${missing}$`)),
  });
  expect(runWith(has, {})).toMatchObject({ selector: 'cbpf', notice: expect.stringContaining(missing) });
});

test('a SOCKMAP needs CAP_NET_ADMIN besides, which is named', () => {
  expect(runWith(['bpf', 'perfmon'], { selector: 'ebpf', sockmap: true })).toMatchObject({
    code: 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE',
    message: expect.stringContaining('CAP_NET_ADMIN'),
  });
  expect(runWith(['bpf', 'perfmon', 'net_admin'], { selector: 'ebpf', sockmap: true })).toMatchObject({
    selector: 'ebpf',
    dropped: 1,
  });
});
