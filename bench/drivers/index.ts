/** All rivals. */
import { CLUSTER_ROUND_ROBIN, CLUSTER_SHARED } from './cluster.js';
import type { Driver } from './driver.js';
import { HAPROXY, HAPROXY_QUEUE } from './haproxy.js';
import { NGINX } from './nginx.js';
import { PM2 } from './pm2.js';
import { REUSEPORT } from './reuseport.js';
import { REUSEPORT_NODE } from './reuseport-node24.js';
import { SINGLE } from './single.js';
import { SPILLWAY } from './spillway.js';
import { WATTPM } from './wattpm.js';

const [SPILLWAY_DEFAULT, ...SPILLWAY_VARIANTS] = SPILLWAY as [Driver, ...Driver[]];

/** What a run without `--driver` is about: Spillway as it comes, and what every Node user has at hand. */
export const CORE: readonly Driver[] = [SPILLWAY_DEFAULT, REUSEPORT, CLUSTER_ROUND_ROBIN, CLUSTER_SHARED];

/** In the order of tables. */
export const DRIVERS: readonly Driver[] = [
  ...CORE,
  REUSEPORT_NODE,
  PM2,
  WATTPM,
  NGINX,
  HAPROXY,
  HAPROXY_QUEUE,
  SINGLE,
  ...SPILLWAY_VARIANTS,
];

/** undefined: there is none of this name. */
export function driverNamed(name: string): Driver | undefined {
  return DRIVERS.find((driver) => driver.name === name);
}
