/**
 * A master that dies, or hangs, is followed by another one (`--monitor`), and neither workers nor their clients notice:
 * nothing is lost, nobody is started twice, counters and limits go on.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import { Notes } from '../support/apps/counted.js';
import { CLI, descendants, freePort, Run } from '../support/cli.js';
import { Load } from '../support/load.js';
import { gone, status as ofProcess, program, stop, TIERS } from '../support/serving.js';
import { until } from '../support/until.js';

let folder: string;
const services: Service[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-monitor-'));
});

afterEach(async () => {
  for (const service of services.splice(0)) {
    const all = [service.pid, ...below(service.pid)];
    // The workers' lifelines end with the keeper and the master.
    service.child.kill('SIGKILL');
    for (const pid of all) end(pid);
    for (const pid of all) await gone(pid);
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Of one that may have gone. */
function below(pid: number): number[] {
  try {
    return descendants(pid);
  } catch {
    return [];
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

class Service extends Run {
  readonly port: number;
  readonly #socket: string;
  master: number | undefined;

  constructor(port: number, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    const place = ['--name', 'kept', '--host', '127.0.0.1', '--port', String(port), '--monitor'];
    super(process.execPath, [CLI, 'start', ...args, ...place], {
      ...env,
      XDG_RUNTIME_DIR: folder,
      XDG_STATE_HOME: folder,
    });
    this.port = port;
    this.#socket = join(folder, 'spillway', 'kept.sock');
    services.push(this);
  }

  static async start(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Service> {
    const service = new Service(await freePort(), args, env);
    await service.serving();
    return service;
  }

  /** Undefined while no master answers. */
  status(): Promise<ServiceStatus | undefined> {
    return this.#ask('GET', '/v1/status') as Promise<ServiceStatus | undefined>;
  }

  order(path: string, body: object = {}): Promise<unknown> {
    return this.#ask('POST', path, body);
  }

  #ask(method: string, path: string, body?: object): Promise<unknown> {
    return new Promise((resolve) => {
      const query = request({ socketPath: this.#socket, path, method, timeout: 20_000 }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
        });
        response.on('end', () => resolve(text === '' ? undefined : JSON.parse(text)));
        response.on('error', () => resolve(undefined));
      });
      query.on('error', () => resolve(undefined));
      query.on('timeout', () => query.destroy());
      query.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Another master than before answers, and all workers serve. */
  async serving(): Promise<ServiceStatus> {
    const before = this.master;
    const status = await until('a master serves', async () => {
      const now = await this.status();
      const serves = now?.state === 'running' && now.workers.every(({ state }) => state === 'running');
      return serves && now.pid !== before ? now : undefined;
    }).catch(async (error: Error) => {
      const now = JSON.stringify(await this.status());
      throw new Error(`${error.message}; ${now}\n${this.stderr.slice(-3000)}`);
    });
    this.master = status.pid;
    return status;
  }
}

/** Who watches over a worker that outlives its master. */
const LIFELINE = 'spillway-life';

const pidsOf = ({ workers }: ServiceStatus) => workers.map(({ pid }) => pid!).sort();

for (const { selector, missing } of TIERS) {
  describe.skipIf(missing.length > 0)(`with the selector ${selector}`, () => {
    const kills = selector === 'ebpf' ? 20 : 5;
    test(`a master that is killed ${kills} times under load loses nothing, and doubles nobody`, async () => {
      const notes = new Notes();
      const { script, env } = notes.program;
      const service = await Service.start([script, '-i', '3', '--selector', selector], env);
      const before = await service.status();
      const loads = await Promise.all([
        Load.start({ name: 'new', port: service.port, mode: 'per-request', rate: 120 }),
        Load.start({ name: 'kept', port: service.port, mode: 'keep-alive', rate: 100, connections: 20 }),
      ]);
      let chosen = 0;
      for (let count = 0; count < kills; count++) {
        const begun = performance.now();
        process.kill(service.master!, 'SIGKILL');
        const now = await service.serving();
        expect(performance.now() - begun).toBeLessThan(3000);
        expect(pidsOf(now)).toEqual(pidsOf(before!));
        if (selector === 'ebpf') {
          const given = now.ports[0]!.sockets.reduce((sum, each) => sum + (each.chosen ?? 0), 0);
          expect(given).toBeGreaterThan(chosen);
          chosen = given;
        }
      }
      await loads[0]!.goesOn(30);
      for (const load of loads) {
        const { failures, connections } = await load.stop();
        expect(failures).toEqual([]);
        expect(connections.reset).toBe(0);
      }
    }, 90_000);

    test('a master that is killed during a reload or a scale leaves as many workers as there are to be', async () => {
      const notes = new Notes();
      const { script, env } = notes.program;
      const service = await Service.start([script, '-i', '3', '--selector', selector], env);
      const load = await Load.start({ port: service.port, mode: 'per-request', rate: 100 });
      for (let count = 0; count < (selector === 'ebpf' ? 10 : 4); count++) {
        const order =
          count % 2 === 0
            ? service.order('/v1/reload')
            : service.order('/v1/scale', { workers: count % 4 === 1 ? 5 : 2 });
        // Somewhere in the middle of it.
        await new Promise((resolve) => setTimeout(resolve, selector === 'ebpf' ? 37 * count : 90 * count));
        process.kill(service.master!, 'SIGKILL');
        await order;
        const now = await service.serving();
        expect(new Set(now.workers.map(({ slot }) => slot)).size).toBe(now.wanted);
        await until('only those are left', async () => {
          const status = await service.status();
          const living = below(service.pid).filter(
            (pid) => pid !== status?.pid && ofProcess(pid, 'Name') !== LIFELINE,
          );
          return status?.workers.length === status?.wanted && living.length === status?.wanted;
        });
      }
      await load.goesOn(20);
      const { failures } = await load.stop();
      if (selector === 'ebpf') expect(failures).toEqual([]);
      // Below it the queue of a leaving listener goes through the master's hands, and ends with them.
      expect(failures.filter(({ outcome }) => outcome !== 'cut')).toEqual([]);
      expect(failures.length).toBeLessThanOrEqual(5);
    }, 90_000);
  });
}

test('a master that hangs is followed as well', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const before = await service.status();
  await stop(service.master!);
  const after = await service.serving();
  expect(pidsOf(after)).toEqual(pidsOf(before!));
  expect(service.stderr).toContain('has not answered');
});

test('workers that log while there is no master go on, and what they say is not lost', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '1', '--logs', folder]);
  const { pid } = (await service.status())!.workers[0]!;
  process.kill(service.master!, 'SIGKILL');
  await service.serving();
  expect(existsSync(`/proc/${pid}`)).toBe(true);
});

test('a worker that dies while there is no master is replaced by the next one', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const before = (await service.status())!;
  process.kill(service.master!, 'SIGKILL');
  process.kill(before.workers[0]!.pid!, 'SIGKILL');
  const after = await service.serving();
  expect(after.workers).toHaveLength(2);
  expect(pidsOf(after)).not.toEqual(pidsOf(before));
});

test('when keeper and master are both killed, the workers end as well', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const workers = pidsOf((await service.status())!);
  service.child.kill('SIGKILL');
  process.kill(service.master!, 'SIGKILL');
  for (const pid of workers) await gone(pid);
});

test('stop ends all of it', async () => {
  const service = await Service.start([program('esm-server.mjs'), '-i', '2']);
  const all = descendants(service.pid);
  await service.order('/v1/stop');
  expect(await service.ended).toEqual([0, null]);
  for (const pid of all) await gone(pid);
});
