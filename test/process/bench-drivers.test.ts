/**
 * Every rival of the benchmark, with the benchmark's own program: it starts, serves with all of its workers, lives
 * through the loss of one, reloads, and leaves nothing. A rival that is not installed here says what to type.
 */
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { behindProxy, type ProxyServer } from '../../bench/drivers/behind-proxy.js';
import type { Driver, Service, ServiceOrder } from '../../bench/drivers/driver.js';
import { CORE, DRIVERS, driverNamed } from '../../bench/drivers/index.js';
import { findOnNewerNode, findPackage } from '../../bench/rivals.js';
import { Desk } from '../../bench/service/desk.js';
import { runs, sessionOf, treeOf } from '../../bench/service/processes.js';
import { packageRoot } from '../../lib/native.js';
import { freePort, Run } from '../support/cli.js';
import { listeningPorts, ownNetwork } from '../support/network.js';
import { status } from '../support/serving.js';
import { until } from '../support/until.js';

ownNetwork();

const WORKERS = 3;

/** Of this process: a service may run where the test may. */
const CPUS = Array.from({ length: cpus().length }, (_, cpu) => cpu);

/** Milliseconds after which a request counts as lost: a rival may forget one while it reloads. */
const LOST_AFTER = 2000;

/** Milliseconds that a worker is made to stand still: time enough to ask its siblings meanwhile. */
const STANDS_STILL = 500;

let folder: string;
let desk: Desk;
let port: number;
let service: Service | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spw-'));
  desk = await Desk.open(folder);
  port = await freePort();
});

afterEach(async () => {
  await service?.stop();
  service = undefined;
  await desk.close();
  rmSync(folder, { recursive: true, force: true });
});

const order = (env: Record<string, string> = {}): ServiceOrder => ({
  workers: WORKERS,
  host: '127.0.0.1',
  port,
  backlog: 128,
  cpus: CPUS,
  env: { ...desk.env, ...env },
  folder,
});

const workersOf = (driver: Driver) => Math.min(WORKERS, driver.mostWorkers ?? WORKERS);

/** What one request on a connection of its own, from that address, is answered: the id of the worker. */
function ask(localAddress = '127.0.0.1'): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, localAddress, agent: false, timeout: LOST_AFTER };
    const query = request(options, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve(body));
      response.on('error', reject);
    });
    query.on('timeout', () => query.destroy(new Error('nobody has answered')));
    query.on('error', reject);
    query.end();
  });
}

const ids = () =>
  desk
    .workers()
    .map(({ id }) => id)
    .sort();

const found = new Map(
  await Promise.all(DRIVERS.map(async (driver) => [driver, await driver.find()] as const)),
);
const installed = DRIVERS.filter((driver) => 'version' in found.get(driver)!);

const HINT = expect.stringMatching(/Type: (npm ci --ignore-scripts --prefix bench|apt-get install .*\w)$/);

const PROXY: ProxyServer = {
  name: '',
  title: '',
  about: '',
  versionArgs: ['-v'],
  configuration: () => '',
  command: () => [''],
};

test('names are unique, and lead to their drivers', () => {
  expect(new Set(DRIVERS.map(({ name }) => name)).size).toBe(DRIVERS.length);
  for (const driver of DRIVERS) {
    expect(driver.name).toMatch(/^[a-z0-9-]+(:[a-z0-9-]+)?$/);
    expect(driverNamed(driver.name)).toBe(driver);
  }
  expect(driverNamed('nobody')).toBeUndefined();
  expect(DRIVERS.slice(0, CORE.length)).toEqual(CORE);
});

test('what is installed tells its version, what is not says what to type', async () => {
  for (const driver of installed)
    expect(found.get(driver)).toEqual({ version: expect.stringMatching(/\w \d+\.\d+\.\d+/) });
  for (const driver of DRIVERS.filter((each) => !installed.includes(each)))
    expect(found.get(driver)).toEqual({ missing: HINT });
  // Whatever is installed here: these are not.
  expect(findPackage('no-such-rival')).toEqual({ missing: HINT });
  expect(findOnNewerNode('no-such-rival', 'nor-this')).toEqual({ missing: HINT });
  expect(await behindProxy({ ...PROXY, name: 'no-such-proxy' }).find()).toEqual({ missing: HINT });
});

/** Variants of one driver differ in what it is told on its command line alone. */
const isVariant = ({ name }: Driver) => name.includes(':');
const families = installed.filter((driver) => !isVariant(driver));

describe.each(installed.map((driver) => [driver.name, driver] as const))('%s', (_, driver) => {
  // Some take seconds for a start and for a reload, and more of them while the machine is busy.
  const timeout = 90_000;
  test('serves with all workers, lives through losses and reloads, and leaves nothing', {
    timeout,
  }, async () => {
    const count = workersOf(driver);
    service = await driver.start(order());
    await desk.untilListening(count);
    await answersComeFromAll();
    if (count > 1 && !isVariant(driver)) {
      await oneStandsStill();
      if (driver.workersAre !== 'threads') await oneIsKilled();
      await allAreReplaced(service.reload!);
    }

    const processes = new Set([...treeOf(service.pid), ...sessionOf(service.pid)]);
    expect(processes).toContain(service.pid);
    for (const { pid } of desk.workers()) expect(processes).toContain(pid);
    await service.stop();
    expect([...processes].filter(runs)).toEqual([]);
    expect(listeningPorts()).not.toContain(port);
  });
});

async function answersComeFromAll(): Promise<void> {
  const known = ids();
  const seen = new Set<string>();
  let asked = 0;
  // From one address after another: there are drivers with which all clients of one address have the same worker.
  await until('every worker has answered', async () => {
    seen.add(await ask(`127.0.0.${1 + (asked++ % 250)}`));
    return seen.size >= known.length;
  });
  expect([...seen].sort()).toEqual(known);
}

/** Its siblings answer meanwhile, it does not. */
async function oneStandsStill(): Promise<void> {
  const still = desk.workers()[0]!;
  const others = treeOf(still.pid).length;
  // The command that it waits for shows when it stands still, and no longer does.
  const standsStill = () => treeOf(still.pid).length > others;
  still.block('exec-sync', STANDS_STILL);
  await until('it stands still', standsStill);
  const meanwhile: string[] = [];
  const asked = Array.from({ length: 12 }, async () => {
    const id = await ask();
    if (standsStill()) meanwhile.push(id);
    return id;
  });
  const answers = await Promise.all(asked);
  expect(meanwhile.length).toBeGreaterThan(0);
  expect(meanwhile).not.toContain(still.id);
  for (const id of answers) expect(ids()).toContain(id);
}

async function oneIsKilled(): Promise<void> {
  const [killed, ...others] = desk.workers();
  process.kill(killed!.pid, 'SIGKILL');
  await until('the desk has lost it', () => !ids().includes(killed!.id));
  await desk.untilListening(WORKERS);
  expect(ids()).toEqual(expect.arrayContaining(others.map(({ id }) => id)));
}

async function allAreReplaced(reload: () => Promise<void>): Promise<void> {
  const before = ids();
  let over = false;
  let answered = 0;
  // Whether all of them are answered is what the benchmark measures, and no property that all rivals have.
  const asking = (async () => {
    while (!over)
      await ask().then(
        () => answered++,
        () => {},
      );
  })();
  await reload();
  over = true;
  await asking;
  expect(answered).toBeGreaterThan(0);
  await until('the old ones have gone', () => !ids().some((id) => before.includes(id)));
  await desk.untilListening(WORKERS);
}

describe.each(families.map((driver) => [driver.name, driver] as const))('%s', (_, driver) => {
  test('does not start on a port that is taken, and says why', async () => {
    const other = createServer().listen(port, '127.0.0.1');
    try {
      await expectFailure(driver, order(), /EADDRINUSE|ADDRESS_IN_USE|Address already in use|in use/i);
    } finally {
      other.close();
    }
  });

  test('does not start with a program that fails, and says why', async () => {
    await expectFailure(driver, order({ BENCH_PROTOCOL: 'gopher' }), /is not a function/);
  });
});

/** It rejects with the reason, and nothing of it is left. */
async function expectFailure(driver: Driver, what: ServiceOrder, why: RegExp): Promise<void> {
  const start = driver.start(what).then((started) => {
    service = started;
  });
  await expect(start).rejects.toThrow(why);
  expect(processesOf(what.folder)).toEqual([]);
  await until('the desk has lost all workers', () => desk.workers().length === 0);
}

/** Starts a service and waits to be killed. */
const BENCHMARK = `
  const { driverNamed } = await import('${pathToFileURL(join(packageRoot, 'dist/bench/drivers/index.js'))}');
  const [name, order] = process.argv.slice(1);
  await driverNamed(name).start(JSON.parse(order));
  console.log('started');
  setInterval(() => {}, 1000);
`;

const proxies = families.filter(({ workersAre }) => workersAre === 'processes behind a proxy');

test.each(proxies.map((driver) => [driver.name, driver] as const))(
  '%s passes bare TCP on',
  async (_, driver) => {
    try {
      service = await driver.start(order({ BENCH_PROTOCOL: 'tcp' }));
    } catch (error) {
      // A part of nginx that Debian has apart from the rest.
      expect((error as Error).message).toMatch(/Type: apt-get install .*libnginx-mod-stream$/);
      return;
    }
    await desk.untilListening(WORKERS);
    const socket = connect(port, '127.0.0.1').setEncoding('utf8');
    socket.write('/\n');
    const [answer] = await once(socket, 'data');
    socket.destroy();
    expect(ids()).toContain(answer.trim());
  },
);

test('runs on the processors that were ordered', async () => {
  service = await driverNamed('cluster-round-robin')!.start({ ...order(), cpus: [CPUS.at(-1)!] });
  for (const pid of treeOf(service.pid)) expect(status(pid, 'Cpus_allowed_list')).toBe(String(CPUS.at(-1)));
});

/** Of so many requests at once while one worker of three is stopped, how many are answered. */
async function answeredWithoutOne(name: string, requests: number): Promise<number> {
  service = await driverNamed(name)!.start(order());
  await desk.untilListening(WORKERS);
  const [stopped] = desk.workers();
  process.kill(stopped!.pid, 'SIGSTOP');
  const answers = await Promise.allSettled(Array.from({ length: requests }, () => ask()));
  process.kill(stopped!.pid, 'SIGCONT');
  return answers.filter(({ status }) => status === 'fulfilled').length;
}

test('node:cluster hands connections to a stopped worker with round robin, and to none with the shared handle', async () => {
  expect(await answeredWithoutOne('cluster-shared', 12)).toBe(12);
  await service?.stop();
  const answered = await answeredWithoutOne('cluster-round-robin', 12);
  expect(answered).toBeGreaterThan(0);
  expect(answered).toBeLessThan(12);
});

// A service of one process ends like any other process of one.
const ofProcesses = families.filter(({ workersAre }) => workersAre !== 'threads');

test.each(ofProcesses.map(({ name }) => [name]))('%s ends when the benchmark is killed', async (name) => {
  const benchmark = new Run(process.execPath, [
    '--input-type=module',
    ...['--eval', BENCHMARK, name, JSON.stringify(order())],
  ]);
  await benchmark.says('started');
  expect(processesOf(folder).length).toBeGreaterThan(0);
  benchmark.child.kill('SIGKILL');
  await until('nothing of it is left', () => processesOf(folder).length === 0);
});

/** The processes that got the order with this folder: the desk in it is in their environment. */
function processesOf(orderFolder: string): number[] {
  const desk = Buffer.from(`BENCH_DESK=${orderFolder}/`);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`).includes(desk) && runs(pid);
      } catch {
        return false;
      }
    });
}
