/** What `stats()` tells of who comes for the connections of a slot; test/process/master-status.test.ts has real workers. */
import { closeSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { native } from '../../lib/native.js';
import { ownNetwork } from '../support/network.js';
import { useScene } from '../support/scene.js';
import { testing } from '../support/testing.js';

ownNetwork();
const scene = useScene();
const cleanUps: (() => void)[] = [];

afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

const readiness = (group: SocketGroup) => group.stats().sockets.map((socket) => socket.readiness);

test('a worker of whom nothing is known is taken for one that comes, until it says that it wants nothing new', async () => {
  const map = native().createHintsMap(3);
  cleanUps.push(() => closeSync(map));
  const group = await scene.open({ sockets: 3, selector: 'ebpf', service: { hints: map } });
  for (const slot of group.slots) group.setWorker(slot, { hints: slot, helps: false });
  expect(readiness(group)).toEqual(['running', 'running', 'running']);

  const fd = native().openHintsPage(map, 1);
  const page = new (native().Hints)('map', fd);
  cleanUps.push(
    () => page.close(),
    () => closeSync(fd),
  );
  page.drain();
  expect(readiness(group)).toEqual(['running', 'leaving', 'running']);
});

test('nothing is told of a listener that the program in the kernel does not know, as another holder has shut it down', async () => {
  const group = await scene.open({ sockets: 3, selector: 'ebpf' });
  testing().shutdown(group.fd(1));
  group.setOption('selector', 'cbpf');
  group.setOption('selector', 'ebpf');
  expect(group.stats().sockets.map(({ listening }) => listening)).toEqual([true, false, true]);
  expect(readiness(group)).toEqual(['running', null, 'running']);
});

test.each(['cbpf', 'none'] as const)('under %s nothing is told of anybody', async (selector) => {
  const group = await scene.open({ sockets: 2, selector });
  expect(readiness(group)).toEqual([null, null]);
});
