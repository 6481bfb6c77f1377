/** Puts a worker together, before its program runs. */
import { closeSync } from 'node:fs';
import type { Server } from 'node:net';
import { constants } from 'node:os';
import { type NativeHelpChannel, type NativeHints, native } from '../../native.js';
import { fromWorker, type WorkerStart } from '../protocol.js';
import { interceptClusterHandles } from './cluster.js';
import { Connections } from './connections.js';
import { Desk } from './desk.js';
import { Drain } from './drain.js';
import { messageSender, onMessage } from './link.js';
import { interceptListen } from './listen.js';
import { Listeners } from './listeners.js';
import { obtainer } from './obtain.js';
import { drainOnSigterm } from './sigterm.js';
import { publish } from './state.js';
import { TicketKeys } from './tickets.js';
import { refuseUnsharedUdp } from './udp.js';

/** Noted as long as the process lives: what is not referred to is collected, and closed. */
export let beating: NativeHints | undefined;
export let helping: NativeHelpChannel | undefined;

export function begin(start: WorkerStart): void {
  const { slot, master, kept, desk: name, hints, help, listeners: inherited } = start;
  const { HelpChannel, Hints, dieWithParent } = native();
  // It has gone while this process was starting; the launcher's own wish may have been lost by a set-id program.
  if (!kept && !dieWithParent(master, constants.signals.SIGKILL)) process.exit(1);
  const own = new Hints('map', hints);
  own.beat();
  beating = own;
  closeSync(hints);

  const send = messageSender();
  const desk = new Desk(name, master);
  const listeners = new Listeners(inherited, send);
  const connections = new Connections();
  connections.noteEvents();
  const tickets = new TicketKeys(desk);
  const drain = new Drain(listeners, connections, send);
  const obtain = obtainer(listeners, desk);
  const draining = () => drain.reason !== undefined;
  drain.onDrain(() => own.drain());
  helping = new HelpChannel(
    help,
    (port, listener, most) => listeners.help(port, listener, most),
    (port, ...descriptors) => listeners.wait(port, ...descriptors),
  );
  const adopted = (server: Server) => {
    connections.watch(server);
    tickets.share(server);
  };
  onMessage('drain', (order) => drain.begin(order));
  drainOnSigterm(drain);
  interceptListen({ listeners, obtain, send, draining, adopted });
  interceptClusterHandles(listeners, obtain, draining);
  refuseUnsharedUdp();

  let told = false;
  onMessage('master', ({ pid }) => {
    desk.master = pid;
    send(fromWorker({ event: 'state', listening: listeners.occupied, ready: told, drained: drain.isDone }));
  });
  publish({
    slot,
    listeners: () => listeners.all.map(({ address, family, port }) => ({ address, family, port })),
    get draining() {
      return drain.reason;
    },
    ready() {
      if (!told) send(fromWorker({ event: 'ready' }));
      told = true;
    },
    onDrain: (handler) => drain.onDrain(handler),
  });
}
