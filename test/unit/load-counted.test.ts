/** What is known of a program that is counted: by its notes, and by its descriptors. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { heldConnections, Notes } from '../support/apps/counted.js';
import { freePort } from '../support/cli.js';
import { Load } from '../support/load.js';
import { until } from '../support/until.js';

test('the connections a process holds are those it has accepted and not closed', async () => {
  const notes = new Notes();
  const port = await freePort();
  const { script, env } = notes.program;
  const child = spawn(process.execPath, [script], {
    env: { ...process.env, ...env, PORT: String(port) },
    stdio: 'inherit',
  });
  const sockets: Socket[] = [];
  try {
    const load = await Load.start({ port, mode: 'per-request', rate: 200 });
    await until('it listens', () => load.answered > 0);
    const { answered } = (await load.stop()).totals;
    expect(heldConnections(child.pid!, port).size).toBe(0);
    expect(notes.of('answered')).toEqual(notes.of('began', child.pid));
    expect(notes.of('accepted')).toHaveLength(answered);

    for (let count = 0; count < 5; count++) {
      const socket = connect(port, '127.0.0.1');
      sockets.push(socket);
      await once(socket, 'connect');
    }
    const ports = sockets.map(({ localPort }) => localPort!);
    await until('it has accepted them', () => notes.of('accepted').length === answered + 5);
    expect(heldConnections(child.pid!, port)).toEqual(new Set(ports));
    expect(heldConnections(child.pid!, port + 1)).toEqual(new Set());
    expect(heldConnections(process.pid, port)).toEqual(new Set());
    sockets[0]!.destroy();
    await until('it has closed one', () => heldConnections(child.pid!, port).size === 4);
    expect(heldConnections(child.pid!, port)).toEqual(new Set(ports.slice(1)));
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGKILL');
  }
});
