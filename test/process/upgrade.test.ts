/**
 * `spillway start` of a service that runs under a keeper, from files that have been replaced since: another master goes on,
 * from what is installed now; workers and clients notice nothing. Where nothing has changed, or nobody keeps anything, the
 * name is taken as ever.
 */
import { cpSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import { packageRoot } from '../../lib/native.js';
import { Run, undescribed } from '../support/cli.js';
import { Load } from '../support/load.js';
import { folder, folders, Service } from '../support/monitored.js';
import { program } from '../support/serving.js';

/** What is installed: a copy that may be changed. */
function install(): string {
  const root = join(folder(), 'installed');
  for (const part of ['dist/lib', 'build/Release', 'package.json']) {
    cpSync(join(packageRoot, part), join(root, part), {
      recursive: true,
      preserveTimestamps: true,
      filter: (path) => !path.includes('/obj'),
    });
  }
  symlinkSync(join(packageRoot, 'node_modules'), join(root, 'node_modules'));
  return root;
}

function replaceBy(root: string, version: string): void {
  const path = join(root, 'package.json');
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), version }));
}

const cliOf = (root: string) => join(root, 'dist/lib/cli/main.js');
const pidsOf = ({ workers }: ServiceStatus) => workers.map(({ pid }) => pid).sort();

/** The same command once more. */
async function again({ args }: Service, ...more: string[]) {
  const run = new Run(process.execPath, [...args, ...more], folders());
  const [code] = await run.ended;
  return { code, stdout: run.stdout, stderr: run.stderr };
}

test('a master from older files is followed by one from those that are there now, under load', async () => {
  const root = install();
  const service = await Service.start([program('esm-server.mjs'), '-i', '3'], {}, cliOf(root));
  const before = (await service.status())!;
  expect(before.kept).toBe(true);
  const load = await Load.start({ port: service.port, mode: 'per-request', rate: 100 });

  const same = await again(service);
  expect(same.code).toBe(1);
  expect(same.stderr).toContain('ERR_SPILLWAY_NAME_TAKEN');
  expect((await service.status())!.pid).toBe(before.pid);

  replaceBy(root, '99.1.0');
  const { code, stdout, stderr } = await again(service);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const after = (await service.status())!;
  expect(stdout).toBe(
    `kept: process ${after.pid} goes on for process ${before.pid}, ${before.version} → 99.1.0; 3 workers served on\n`,
  );
  expect(pidsOf(after)).toEqual(pidsOf(before));
  expect(service.stderr).toContain('this master ends, and the next one goes on');

  // And so on; told to a machine.
  utimesSync(join(root, 'dist/lib/index.js'), 1, 1);
  const told = JSON.parse((await again(service, '--daemon', '--json')).stdout);
  expect(told).toEqual({
    name: 'kept',
    pid: (await service.status())!.pid,
    replaced: after.pid,
    version: '99.1.0',
    from: '99.1.0',
    workers: 3,
  });
  expect(undescribed('start', told)).toEqual([]);

  await load.goesOn(20);
  const { failures } = await load.stop();
  expect(failures).toEqual([]);
});

test('files elsewhere are not what the keeper would start: the name is taken', async () => {
  const root = install();
  const service = await Service.start([program('esm-server.mjs'), '-i', '1'], {}, cliOf(root));
  const { pid } = (await service.status())!;
  const [, ...args] = service.args;
  const run = new Run(process.execPath, [join(packageRoot, 'dist/lib/cli/main.js'), ...args], folders());
  expect(await run.ended).toEqual([1, null]);
  expect(run.stderr).toContain('ERR_SPILLWAY_NAME_TAKEN');
  expect((await service.status())!.pid).toBe(pid);
});

test('what a worker says meanwhile is in its log, all of it', async () => {
  const root = install();
  const service = await Service.start(
    [program('counts-aloud.mjs'), '-i', '1', '--logs', folder()],
    {},
    cliOf(root),
  );
  for (let count = 0; count < 3; count++) {
    replaceBy(root, `99.${count}.0`);
    expect((await again(service)).code).toBe(0);
    await service.serving();
  }
  await service.order('/v1/stop');
  await service.ended;
  const text = readFileSync(join(folder(), 'kept-0.out.log'), 'utf8');
  const numbers = [...text.matchAll(/^line (\d+)$/gm)].map(([, number]) => Number(number));
  expect(numbers.length).toBeGreaterThan(100);
  expect(numbers).toEqual(numbers.map((_, index) => index));
});
