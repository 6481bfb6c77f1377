/** A package that has not been built. */
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { Master } from '../../lib/serve/master.js';

vi.mock('../../lib/native.js', async (original) => ({
  ...(await original<typeof import('../../lib/native.js')>()),
  packageRoot: '/nowhere',
}));

test('a master without its launcher says what is missing, before anything is opened', async () => {
  await expect(Master.start({ script: process.argv[1] as string })).rejects.toMatchObject({
    code: 'ERR_SPILLWAY_ADDON',
    message: expect.stringContaining(join('/nowhere', 'build/Release/spillway-launch')),
  });
});
