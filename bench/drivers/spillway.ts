/** Spillway by its own command line: with no option at all, and with every policy and selector asked for by name. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { packageRoot } from '../../lib/native.js';
import type { MasterStatus } from '../../lib/serve/status.js';
import type { Driver, Found, Service, ServiceOrder } from './driver.js';
import { PROGRAM, run, startRoot } from './spawn.js';

const CLI = join(packageRoot, 'dist/lib/cli/main.js');

/** Of the service; its control socket is in the order's folder, so that no other service has the same. */
const NAME = 'bench';

const POLICIES = [
  'hash',
  'two-choices',
  'least-queue',
  'least-connections',
  'weighted',
  'sticky',
  'local-cpu',
];
const SELECTORS = ['cbpf', 'none'];

async function find(): Promise<Found> {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  return { version: `Spillway ${version}, Node ${process.versions.node}` };
}

/** @param selector that must be in force: below it, it would be something else that is measured. */
async function start(order: ServiceOrder, options: readonly string[], selector: string): Promise<Service> {
  const env = { XDG_RUNTIME_DIR: order.folder, XDG_STATE_HOME: order.folder };
  const cli = [process.execPath, CLI] as const;
  const place = ['--host', order.host, '--port', String(order.port), '--backlog', String(order.backlog)];
  const workers = ['--name', NAME, '--instances', String(order.workers)];
  const socket = join(order.folder, 'spillway', `${NAME}.sock`);
  const command = [...cli, 'start', PROGRAM, ...workers, ...place, ...options] as const;
  const root = await startRoot(order, { command, env }, (it) =>
    it.until(async () => (await statusOf(socket))?.state === 'running'),
  );
  const lesser = (await statusOf(socket))?.ports.find((port) => port.selector !== selector);
  if (lesser) {
    await root.stop();
    throw new Error(`selector ${lesser.selector} is in force, and not ${selector}: ${lesser.notice}`);
  }
  return {
    pid: root.pid,
    reload: () => run(order, { command: [...cli, 'reload', NAME], env }),
    stop: () => root.stop(),
  };
}

/** As docs/control.md says; undefined while nobody answers. */
function statusOf(socketPath: string): Promise<MasterStatus | undefined> {
  return new Promise((resolve) => {
    const query = request({ socketPath, path: '/v1/status', timeout: 1000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve(JSON.parse(text)));
      response.on('error', () => resolve(undefined));
    });
    query.on('timeout', () => query.destroy());
    query.on('error', () => resolve(undefined));
    query.end();
  });
}

function variant(
  name: string,
  title: string,
  about: string,
  options: readonly string[],
  selector = 'ebpf',
): Driver {
  return {
    name,
    title,
    workersAre: 'processes',
    about,
    find,
    start: (order) => start(order, options, selector),
  };
}

const DEFAULT = variant(
  'spillway',
  'Spillway',
  'A program in the kernel chooses a listener for every SYN by how full and how busy the workers are; no option is given.',
  [],
);

export const SPILLWAY: readonly Driver[] = [
  DEFAULT,
  ...POLICIES.map((policy) =>
    variant(
      `spillway:${policy}`,
      `Spillway, policy ${policy}`,
      `As spillway, with the policy ${policy} (docs/options.md).`,
      ['--policy', policy],
    ),
  ),
  ...SELECTORS.map((selector) =>
    variant(
      `spillway:${selector}`,
      `Spillway, selector ${selector}`,
      `As spillway, with the selector ${selector}: what is left without the privileges for eBPF.`,
      ['--selector', selector],
      selector,
    ),
  ),
];
