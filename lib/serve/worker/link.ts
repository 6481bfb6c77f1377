/** Messages between this worker and its master, on the channel that Node opened (see protocol.ts). */
import { type fromWorker, isOurs, type ToWorker } from '../protocol.js';

export type Send = (message: ReturnType<typeof fromWorker>) => void;

/** The program may replace `process.send` or disconnect: a master that cannot be told is told nothing. */
export function messageSender(): Send {
  const send = process.send?.bind(process);
  return (message) => {
    if (process.connected) send?.(message, undefined, undefined, () => {});
  };
}

/** Node emits these apart from the program's messages; to listen for them does not keep the process alive. */
export function onMessage<Event extends ToWorker['event']>(
  event: Event,
  take: (message: Extract<ToWorker, { event: Event }>, handle: unknown) => void,
): void {
  (process as NodeJS.EventEmitter).on('internalMessage', (message: unknown, handle: unknown) => {
    if (isOurs(message) && message.event === event) take(message as never, handle);
  });
}

/** When the channel has been closed, by either side. To listen for 'disconnect' would keep the process alive. */
export function onDisconnect(take: () => void): void {
  const { disconnect } = process;
  if (!disconnect) return;
  // Node itself calls it when the master's side is closed.
  process.disconnect = function (this: NodeJS.Process) {
    const { connected } = process;
    disconnect.call(this);
    if (connected) take();
  };
}
