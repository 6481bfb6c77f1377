import { balance } from './balance.js';
import { burst } from './burst.js';
import { hang } from './hang.js';
import { keepalive } from './keepalive.js';
import { kill } from './kill.js';
import { overload } from './overload.js';
import { rate } from './rate.js';
import { reload } from './reload.js';
import { scale } from './scale.js';
import type { Scenario } from './scenario.js';
import { slowWorker } from './slow-worker.js';
import { soak } from './soak.js';
import { stall } from './stall.js';
import { start } from './start.js';

/** In the order in which they run and are reported. */
export const SCENARIOS: readonly Scenario[] = [
  rate,
  keepalive,
  stall,
  hang,
  slowWorker,
  overload,
  burst,
  kill,
  reload,
  balance,
  scale,
  start,
  soak,
];
