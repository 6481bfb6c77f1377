/** Services whose processes are kept alive by a launcher of ours, because the rival has none. */
import type { Service, ServiceOrder } from './driver.js';
import type { KeeperPlan } from './launchers/plan.js';
import { type Command, launcher, PROGRAM, startLauncher } from './spawn.js';

/** What to keep, as far as it is not the usual: each worker opens its own socket, and nothing stands in front. */
type Kept = Pick<KeeperPlan, 'workers'> & Partial<KeeperPlan>;

/** @param node the Node for launcher and workers; default the one that runs the benchmark. */
export async function startKeeper(
  order: ServiceOrder,
  kept: Kept,
  node = process.execPath,
): Promise<Service> {
  const plan: KeeperPlan = { program: PROGRAM, share: null, ahead: false, front: null, ...kept };
  const command: Command['command'] = [node, launcher('keeper'), JSON.stringify(plan)];
  return { ...(await startLauncher(order, { command })), rootIsOurs: true };
}
