/** Groups come and go by the thousand, and leave nothing. A file of its own, as it takes as long as several others. */
import { expect, test } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import { ownNetwork } from '../support/network.js';
import { openDescriptors, useScene } from '../support/scene.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();

test('1000 groups are opened and closed, each works, and no descriptor is left', {
  timeout: 300_000,
}, async () => {
  const before = openDescriptors().size;
  for (let batch = 0; batch < 100; batch++) {
    const groups: SocketGroup[] = [];
    for (let count = 0; count < 10; count++) groups.push(await scene.open({ sockets: 2, backlog: 1 }));
    for (const group of groups) expect(scene.connect(group, 5).established).toBe(4);
    scene.end();
  }
  await until('no descriptor is left', () => openDescriptors().size <= before);
});
