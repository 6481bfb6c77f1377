/** Services that a keeper holds (`--monitor`). */
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { ServiceStatus } from '../../lib/control/protocol.js';
import { CLI, descendants, freePort, Run } from './cli.js';
import { gone } from './serving.js';
import { until } from './until.js';

let place: string;
const services: Service[] = [];

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'spillway-monitor-'));
});

afterEach(async () => {
  for (const service of services.splice(0)) {
    const all = [service.pid, ...below(service.pid)];
    // The workers' lifelines end with the keeper and the master.
    service.child.kill('SIGKILL');
    for (const pid of all) end(pid);
    for (const pid of all) await gone(pid);
  }
  rmSync(place, { recursive: true, force: true });
});

/** Descendants of a process that may have gone. */
export function below(pid: number): number[] {
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

/** Where the services of this test have their sockets and logs. */
export function folder(): string {
  return place;
}

/** By which a command finds them. */
export function folders(): NodeJS.ProcessEnv {
  return { XDG_RUNTIME_DIR: place, XDG_STATE_HOME: place };
}

/** A service under a keeper. It ends with the test. */
export class Service extends Run {
  readonly port: number;
  readonly #socket: string;
  master: number | undefined;

  /** What it was started with. */
  readonly args: readonly string[];

  private constructor(port: number, args: readonly string[], env: NodeJS.ProcessEnv, cli: string) {
    const rest = ['--name', 'kept', '--host', '127.0.0.1', '--port', String(port), '--monitor'];
    const line = [cli, 'start', ...rest, ...args];
    super(process.execPath, line, { ...env, ...folders() });
    this.args = line;
    this.port = port;
    this.#socket = join(place, 'spillway', 'kept.sock');
    services.push(this);
  }

  /** @param cli another installation of the command. */
  static async start(
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
    cli: string = CLI,
  ): Promise<Service> {
    const service = new Service(await freePort(), args, env, cli);
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
