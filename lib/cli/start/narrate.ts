/** What happens in a master, in sentences for its log. */
import type { SocketGroup } from '../../group/group.js';
import type { Master } from '../../serve/master.js';
import { doctorCall } from '../doctor-call.js';
import { aboutTime } from '../text.js';
import { whatIsMissing } from '../what-is-missing.js';
import type { Log } from './log.js';

const WHY_DRAIN = {
  reload: 'its successor serves',
  scale: 'fewer workers are wanted',
  replace: 'it is replaced',
  stop: 'it is to end',
} as const;

/**
 * Tells the log of everything from here on.
 *
 * @param isTold whether an error is told of elsewhere: the one that ends the master.
 */
export function narrate(master: Master, log: Log, isTold: (error: Error) => boolean): void {
  let noticed = false;

  master.on('port', (group) => {
    const { address, family, port } = group.address;
    const selector = group.getOption('selector');
    log.info({ address, family, port, selector }, `listening on ${urlOf(group)}, selector ${selector}`);
    if (group.notice && !noticed) log.warn({ selector }, whatIsMissing(selector, group.notice, doctorCall()));
    noticed ||= group.notice !== undefined;
  });
  master.on('worker:start', ({ slot, pid }) => {
    log.debug({ slot, workerPid: pid }, `worker ${slot} (process ${pid}) has been started`);
  });
  master.on('worker:adopted', ({ slot, pid }) => {
    log.info({ slot, workerPid: pid }, `worker ${slot} (process ${pid}) goes on under this master`);
  });
  master.on('worker:ready', ({ slot, pid }, after) => {
    log.info(
      { slot, workerPid: pid, after: Math.round(after) },
      `worker ${slot} (process ${pid}) is ready after ${aboutTime(after)}`,
    );
  });
  master.on('worker:drain', ({ slot, pid }, reason) => {
    const why = WHY_DRAIN[reason];
    log.info(
      { slot, workerPid: pid, reason },
      `worker ${slot} (process ${pid}) finishes what it has: ${why}`,
    );
  });
  master.on('worker:stuck', ({ slot, pid }, stuck, why) => {
    const name = `worker ${slot} (process ${pid})`;
    if (stuck)
      log.warn({ slot, workerPid: pid, why }, `${name} is stuck and gets no new connections: ${why}`);
    else log.info({ slot, workerPid: pid, why }, `${name} is back: ${why}`);
  });
  master.on('worker:exit', ({ slot, pid, code, signal, expected, reason }) => {
    log[expected ? 'info' : 'error']({ slot, workerPid: pid, code, signal }, sentence(reason, slot, pid));
  });
  master.on('worker:restart', ({ slot, delay, failures, most, reason }) => {
    const count = failures === 0 ? '' : ` (failure ${failures} in a row; after ${most} it is given up)`;
    const when = delay === 0 ? 'at once' : `in ${aboutTime(delay)}`;
    log.warn({ slot, delay, failures, most, reason }, `worker ${slot} is started again ${when}${count}`);
  });
  master.on('worker:failed', ({ slot, reason }) => {
    log.error({ slot, reason }, `worker ${slot} is given up and not started again: ${reason}`);
  });
  master.on('reload', ({ phase, error }) => {
    if (phase === 'begin') log.info('reload: new workers take over');
    else if (phase === 'done') log.info('reload: done');
    else
      log.error(
        { code: error?.code },
        `reload: failed, the workers of before go on: ${error?.message ?? 'unknown'}`,
      );
  });
  master.on('demand', ({ from, to, why }) => {
    const number = Math.abs(to - from);
    const verb = number === 1 ? 'is' : 'are';
    const what =
      to > from ? `${counted(number)} more ${verb} started` : `${counted(number)} of ${from} ${verb} retired`;
    log.info({ from, to, why }, `${what}: ${why}`);
  });
  master.on('moved', (cpus) =>
    log.warn(
      { cpus },
      `processors have come or gone; there are now: ${cpus.join()}; the workers were placed anew`,
    ),
  );
  master.on('scale', ({ from, to }) => log.info({ from, to }, `scaled from ${from} to ${to} workers`));
  master.on('overflow', ({ group, dropped, reset }) => {
    const { port } = group.address;
    const what = [dropped > 0 ? `${dropped} dropped` : '', reset > 0 ? `${reset} refused` : ''];
    log.warn(
      { port, dropped, reset },
      `every queue of port ${port} was full: ${what.filter(Boolean).join(', ')}`,
    );
  });
  master.on('error', (error) => {
    // Whoever awaits the master learns of it after its listeners.
    setImmediate(() => {
      if (!isTold(error)) log.error({ code: (error as { code?: string }).code }, error.message);
    });
  });
}

function counted(workers: number): string {
  return workers === 1 ? 'one worker' : `${workers} workers`;
}

/** Reasons begin with the worker's name or with what became of it. */
function sentence(reason: string, slot: number, pid: number | undefined): string {
  return reason.startsWith('worker ') ? reason : `worker ${slot} (process ${pid ?? 'not started'}) ${reason}`;
}

/** Where a browser on this machine finds it. */
export function urlOf(group: SocketGroup): string {
  const { address, family, port } = group.address;
  if (address === '::' || address === '0.0.0.0') return `http://localhost:${port} (all addresses)`;
  return family === 6 ? `http://[${address}]:${port}` : `http://${address}:${port}`;
}
