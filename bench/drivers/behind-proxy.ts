/** Workers with addresses of their own, and a proxy of Debian's in front of them. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Driver, Found, Service, ServiceOrder } from './driver.js';
import { startKeeper } from './keeper.js';

/** Where a worker listens. */
export interface Backend {
  host: string;
  port: number;
}

export interface ProxyServer {
  name: string;
  /** Its file, and the Debian package that has it; default: the name. */
  executable?: string;
  title: string;
  about: string;
  /** Prints the version. */
  versionArgs: readonly string[];
  /** @throws {Error} when it cannot do what is ordered, and what would help. */
  configuration(order: ServiceOrder, backends: readonly Backend[]): string;
  /** Runs it in the foreground. */
  command(configuration: string, order: ServiceOrder): [string, ...string[]];
}

/** Whether the service speaks lines over TCP, not HTTP. */
export const isTcp = ({ env }: ServiceOrder) => env.BENCH_PROTOCOL === 'tcp';

/**
 * One port beside the service's own, on addresses that nobody else uses: the ports of clients on them cannot be in the
 * way, as they could on 127.0.0.1.
 */
function backendsOf({ workers, port }: ServiceOrder): Backend[] {
  const beside = port < 65_535 ? port + 1 : port - 1;
  return Array.from({ length: workers }, (_, slot) => ({ host: `127.77.0.${slot + 1}`, port: beside }));
}

async function find({ name, executable = name, versionArgs }: ProxyServer): Promise<Found> {
  try {
    const { stdout, stderr } = await promisify(execFile)(executable, versionArgs);
    const version = /\d+(\.\d+)+/.exec(stdout + stderr)?.[0];
    return { version: `${executable} ${version}, Node ${process.versions.node}` };
  } catch {
    return {
      missing: `there is no ${executable} in PATH. Type: apt-get install --no-install-recommends ${executable}`,
    };
  }
}

async function start(proxy: ProxyServer, order: ServiceOrder): Promise<Service> {
  const backends = backendsOf(order);
  const configuration = join(order.folder, `${proxy.name}.conf`);
  await writeFile(configuration, proxy.configuration(order, backends));
  return startKeeper(order, {
    workers: backends.map(({ host, port }) => ({ HOST: host, PORT: String(port) })),
    front: { command: proxy.command(configuration, order), port: order.port },
  });
}

export function behindProxy(proxy: ProxyServer): Driver {
  const { name, title, about } = proxy;
  return {
    name,
    title,
    workersAre: 'processes behind a proxy',
    about,
    find: () => find(proxy),
    start: (order) => start(proxy, order),
  };
}
